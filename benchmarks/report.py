"""What every benchmark has: two flags; of its rows a table on the terminal, a CSV under results/, JSON where asked."""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def device_name() -> str:
    """A folder name for the device measured on: the GPU's name, or cpu and its number of cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name().lower().replace(" ", "-")
    return f"cpu-{platform.machine()}-{len(os.sched_getaffinity(0))}-cores"


def parser_of(description: str | None, quick: str) -> argparse.ArgumentParser:
    """A command line with `--json` and `--quick`, which means `quick`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path)
    return parser


def publish(name: str, rows: list[dict[str, Any]], *, quick: bool, json_path: Path | None) -> None:
    """Print the rows, write `json_path`, and, of a full run, results/<device>/<name>.csv."""
    show(rows)
    if json_path is not None:
        json_path.write_text(json.dumps({"rows": rows}, indent=2) + "\n", encoding="utf-8")
    if quick:
        return
    path = RESULTS / device_name() / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"saved results/{device_name()}/{path.name}")


def plot(name: str, rows: list[dict[str, Any]], x: str, lines: dict[str, str], title: str) -> None:
    """results/<device>/<name>.png: the columns `lines` (label -> column) over column `x`, empty cells left out."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5))
    for label, column in lines.items():
        some = [(row[x], row[column]) for row in rows if row[column] != ""]
        axes.plot(*zip(*some, strict=True), marker="o", label=label)
    axes.set(xscale="log", xlabel=x, title=title)
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.tight_layout()
    figure.savefig(RESULTS / device_name() / f"{name}.png", dpi=120)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rows as an aligned table."""
    heads = list(rows[0])
    lines = [heads, *([str(row[head]) for head in heads] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)), flush=True)
