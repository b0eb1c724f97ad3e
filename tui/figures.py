"""Numbers as people read them: sizes, counts, times, dates and bars. A number that is not known is a dash."""

from __future__ import annotations

from datetime import datetime

UNKNOWN = "-"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(number: int | None) -> str:
    """`642000000` → `612 MiB`; below 10 of a unit with one decimal."""
    if number is None:
        return UNKNOWN
    value, unit = float(number), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    digits = 1 if value < 10 and unit else 0
    return f"{value:.{digits}f} {_UNITS[unit]}"


def count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def short(number: int | None) -> str:
    """`4,096` → `4.1k`, for narrow terminals."""
    if number is None or number < 1000:
        return count(number)
    value, unit = (number / 1000, "k") if number < 999_500 else (number / 1_000_000, "M")
    return f"{value:.1f}{unit}" if value < 99.95 else f"{value:.0f}{unit}"


def plural(number: int, noun: str) -> str:
    """`1 turn`, `2 turns`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def rate(number: float | None) -> str:
    return UNKNOWN if number is None else f"{number:,.{0 if number >= 100 else 1}f}"


def seconds(number: float | None) -> str:
    """`0.41 s`, `83 s`, `4 min 10 s`, `2 h 5 min`."""
    if number is None:
        return UNKNOWN
    if number < 10:
        return f"{number:.2f} s"
    if number < 120:
        return f"{number:.0f} s"
    minutes, rest = divmod(round(number), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def left(number: float) -> str:
    """Time left, in whole seconds: `8 s left`."""
    return f"{max(number, 1):.0f} s left" if number < 10 else f"{seconds(number)} left"


def percent(done: int, total: int) -> str:
    return f"{share(done, total):.0%}".replace("%", " %")


def share(done: int, total: int) -> float:
    """`done / total` between 0 and 1; an unknown total counts as nothing done."""
    return min(max(done / total, 0.0), 1.0) if total > 0 else 0.0


def bar(part: float, cells: int) -> tuple[str, str]:
    """The full and the empty cells of a bar, as two strings that are `cells` wide together."""
    full = min(max(round(part * cells), 0), cells)
    return "█" * full, "░" * (cells - full)


def when(stamp: str, now: datetime) -> str:
    """An ISO time stamp as a short local date: `14:02` today, `21 Nov` this year, `21 Nov 2025` before that."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    local = moment.astimezone(now.tzinfo)
    if local.date() == now.date():
        return local.strftime("%H:%M")
    return local.strftime("%-d %b") if local.year == now.year else local.strftime("%-d %b %Y")
