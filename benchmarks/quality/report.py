"""The table on the terminal, and the tables and plots that are published."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.score import Record, by_category, paired, share_of, summary
from benchmarks.report import RESULTS, device_name, show


def tell(records: Sequence[Record], policies: Sequence[str], budgets: Sequence[str]) -> list[Record]:
    """Print and return the rows of these policies and budgets, and the full KV's."""
    rows = [one for one in summary(records) if one["policy"] == "full" or _among(one, policies, budgets)]
    show(rows)
    show([one for one in by_category(records) if _among(one, policies, budgets)])
    return rows


def publish(name: str, records: Sequence[Record]) -> None:
    """Everything that was recorded: NAME.csv, NAME_categories.csv, NAME_paired.csv and plots."""
    folder = RESULTS / device_name()
    folder.mkdir(parents=True, exist_ok=True)
    _csv(folder / f"{name}.csv", summary(records))
    _csv(folder / f"{name}_categories.csv", by_category(records))
    if pairs := paired(records):
        _csv(folder / f"{name}_paired.csv", pairs)
    _plots(folder / name, records)


def _among(row: Record, policies: Sequence[str], budgets: Sequence[str]) -> bool:
    return row["policy"] in policies and row["budget"] in budgets


def _csv(path: Path, rows: Sequence[Record]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _plots(path: Path, records: Sequence[Record]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    budgets = {one["budget"] for one in records if one["policy"] != "full"}
    drawn = {"memory": _against_memory, "turns": _against_turns}
    for suffix, draw in list(drawn.items())[len(budgets) < 2 :]:  # one budget makes no curve
        figure, axes = pyplot.subplots(figsize=(9, 4.2))
        axes.set_prop_cycle(color=mpl.colormaps["tab20"].colors)
        draw(axes, records)
        axes.set(ylabel="kl32 to the full KV (nats a token)", yscale="log")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        figure.tight_layout()
        figure.savefig(path.with_name(f"{path.name}_{suffix}.png"), dpi=120)
        pyplot.close(figure)


def _against_memory(axes: Any, records: Sequence[Record]) -> None:
    rows = [one for one in summary(records) if one["policy"] != "full"]
    for policy in dict.fromkeys(one["policy"] for one in rows):
        own = sorted((share_of(one["budget"]), one["kl32"]) for one in rows if one["policy"] == policy)
        axes.plot(*zip(*own, strict=True), marker="o", label=policy)
    budgets = sorted({one["budget"] for one in rows}, key=share_of)
    axes.set_xscale("log", base=2)
    axes.set_xticks([share_of(budget) for budget in budgets], budgets)
    axes.set(xlabel="resident share of the full KV", title="Quality against memory")


def _against_turns(axes: Any, records: Sequence[Record], budget: str = "1/8", bins: int = 6) -> None:
    """By the turn that holds the answer: what was said early is as near as what was said last, or it is not."""
    some = [one for one in records if one["budget"] == budget and one.get("turn") is not None]
    width = 1 + max((one["turn"] for one in some), default=0) // bins
    for policy in dict.fromkeys(one["policy"] for one in some):
        groups = [
            [one["kl32"] for one in some if one["policy"] == policy and one["turn"] // width == at]
            for at in range(bins)
        ]
        found = [(width * (at + 0.5), statistics.fmean(group)) for at, group in enumerate(groups) if group]
        axes.plot(*zip(*found, strict=True), marker="o", label=policy)
    axes.set(xlabel="turn that holds the answer", title=f"Quality against turn number, {budget} resident")
