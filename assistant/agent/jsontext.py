"""JSON as a model wrote it, read strictly: what Python's reader lets through and other readers do not is refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_SPACE = re.compile(r"\s*")
_BETWEEN = re.compile(r"\s*[,;]?\s*")


class Malformed(ValueError):
    """Not JSON; the text is the end of a sentence that says why. `at` is where."""

    def __init__(self, why: str, at: int) -> None:
        super().__init__(why)
        self.at = at


def read_value(text: str, at: int) -> tuple[Any, int]:
    """The value that begins at `at` or after white space, and where it ends.

    Raises:
        Malformed: it is cut off, not JSON, repeats a key, or holds a number or a character that JSON has not.
    """
    begin = skip(text, at)
    try:
        value, end = _READER.raw_decode(text, begin)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError as error:
        raise Malformed(f"{error.msg.lower()} at character {error.pos - begin}", error.pos) from error
    except UnicodeEncodeError as error:
        raise Malformed("it holds half a character", begin) from error
    except RecursionError as error:
        raise Malformed("it is nested too deeply", begin) from error
    except ValueError as error:
        raise Malformed(str(error), begin) from error
    return value, end


def read_values(text: str, at: int) -> tuple[list[Any], int]:
    """One object or several, in an array or one after the other, and where the last one ends.

    Raises:
        Malformed: the first one, or a later one that was begun, cannot be read.
    """
    value, end = read_value(text, at)
    values = list(value) if isinstance(value, list) else [value]
    while text.startswith("{", following := skip(text, end, _BETWEEN)):
        value, end = read_value(text, following)
        values.append(value)
    return values, end


def skip(text: str, at: int, space: re.Pattern[str] = _SPACE) -> int:
    """Where the white space at `at` ends."""
    found = space.match(text, at)
    return found.end() if found else at


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} is too large a number")
    return number


def _whole(digits: str) -> int:
    if len(digits) > 400:
        raise ValueError(f"{digits[:20]}… is too large a number")
    return int(digits)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


_READER = json.JSONDecoder(object_pairs_hook=_once, parse_float=_finite, parse_int=_whole, parse_constant=_no_constant)
