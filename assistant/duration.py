"""How long something is kept: the grammar of ollama's keep_alive, for settings and requests alike.

"5m", "1h30m", "250ms" are durations, a number is seconds, anything negative means for ever, 0 means now.
"""

from __future__ import annotations

import math
import re

GRAMMAR = r"^-?[0-9]{1,9}(\.[0-9]{1,9})?$|^-?([0-9]{1,9}(\.[0-9]{1,9})?(ns|us|µs|ms|s|m|h))+$"
LONGEST = 64
"""Characters of a duration."""

_PART = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(value: str | float) -> float:
    """Seconds; infinity stands for "for ever".

    Raises:
        ValueError: it is no duration; the text shows one.
    """
    text = str(value).strip()
    if not isinstance(value, str):
        seconds = float(value)
    elif len(text) > LONGEST or not re.match(GRAMMAR, text):
        raise ValueError(f"{text[:40]!r} is not a duration such as 5m, 1h30m, 90 (seconds), 0 (now) or -1 (for ever)")
    elif parts := _PART.findall(text):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts) * (-1 if text.startswith("-") else 1)
    else:
        seconds = float(text)
    return math.inf if seconds < 0 else seconds
