"""The budget dialog without its widgets: sizes that are typed or moved, and the plan as lines. Pure."""

from __future__ import annotations

import re

from assistant.reports import MemorySplit
from assistant.views.plan import Line as Compared
from assistant.views.plan import compare, consequence
from tui.figures import count, size
from tui.panels.lines import QUIET, Line, table

STEP = 64
"""MiB that an arrow moves the budget by."""

LEAST, MOST = 16, 2**20
_MIB = 1024**2
_UNITS = {"": 1, "b": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_UNITS |= {f"{unit}b": factor for unit, factor in list(_UNITS.items()) if unit not in ("", "b")}
_UNITS |= {"kib": 1024, "mib": _MIB, "gib": 1024 * _MIB, "tib": 1024**2 * _MIB}


def mebibytes(text: str) -> float | None:
    """What a size comes to in MiB; None when it is none."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2].lower() not in _UNITS:
        return None
    return float(found[1]) * _UNITS[found[2].lower()] / _MIB


def moved(text: str, steps: int, otherwise: int) -> str:
    """The size so many steps on, on whole steps; from `otherwise` bytes where `text` is no size."""
    now = mebibytes(text)
    value = otherwise / _MIB if now is None else now
    whole = value // STEP if steps > 0 else -(-value // STEP)
    return f"{max(LEAST, min(MOST, int((whole + steps) * STEP)))}MiB"


def plan_lines(now: MemorySplit, then: MemorySplit, stored: int | None, width: int) -> list[Line]:
    """The plan in force beside the one that would be."""
    rows = [("", "now", "then")]
    lines = [one for one in compare(now, then, stored) if one.unit != "word" or one.now != one.then]
    rows += [(one.what, _figure(one, one.now), _figure(one, one.then)) for one in lines]
    drawn = table(rows, (1, 2), width, ("", QUIET, "bold"))
    style = "$warning" if now.budget and now.quant != then.quant else QUIET
    return [*drawn, [], [(consequence(now, then), style)]]


def _figure(line: Compared, value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    if line.unit == "bytes":
        return size(int(value)) if value >= 0 else f"-{size(-int(value))}"
    return f"{value:.0%}" if line.unit == "share" else count(int(value))
