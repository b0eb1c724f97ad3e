"""What a replay came to: one row, and a picture of how long people waited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serve.replay import Outcome

Row = dict[str, Any]


def row(outcomes: Sequence[Outcome], patience_s: float) -> Row:
    """Times in seconds. `goodput`: requests a minute that were answered and began within `patience_s`."""
    good = [one for one in outcomes if one.ok]
    first = [one.first_s for one in good if one.first_s is not None]
    over = [one.over_s for one in good if one.over_s is not None]
    prompt = sum(one.prompt for one in good)
    length = max((one.request.at + one.total_s for one in outcomes), default=0.0)
    kinds = Counter(one.status for one in outcomes if not one.ok)
    return {
        "requests": len(outcomes),
        "answered": len(good),
        "refused": kinds[429],
        "errors": kinds.total() - kinds[429],
        "prompt_tokens": prompt,
        "cached_share": _rounded(sum(one.cached for one in good) / prompt if prompt else None),
        **_percentiles("ttft", first),
        **_percentiles("token", [gap for one in good for gap in one.gaps]),
        **_percentiles("total", [one.total_s for one in good]),
        "over_model_p99": _rounded(_percentile(over, 99)),
        "goodput_min": _rounded(60 * sum(wait <= patience_s for wait in first) / length if length else None),
    }


def draw(outcomes: Sequence[Outcome], title: str, path: Path) -> None:
    """Histograms of the time to the first piece, between pieces, and to the end."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    good = [one for one in outcomes if one.ok]
    shown = {
        "to the first piece": [one.first_s for one in good if one.first_s is not None],
        "between two pieces": [gap for one in good for gap in one.gaps],
        "to the end": [one.total_s for one in good],
    }
    figure, plots = pyplot.subplots(1, len(shown), figsize=(11, 3.2))
    for axes, (name, seconds) in zip(plots, shown.items(), strict=True):
        axes.hist(seconds, bins=40)
        axes.set(xlabel=f"seconds {name}", ylabel="requests" if "pieces" not in name else "pieces")
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _percentiles(name: str, values: Sequence[float]) -> Row:
    return {f"{name}_p{at}": _rounded(_percentile(values, at)) for at in (50, 99)}


def _percentile(values: Sequence[float], at: int) -> float | None:
    """The smallest value that at least `at` of a hundred are not above."""
    return sorted(values)[-(-len(values) * at // 100) - 1] if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
