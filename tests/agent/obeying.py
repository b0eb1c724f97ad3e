"""A model that does whatever it reads: the worst one can be."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.agent.hostile import ORDERS

_FILLERS = re.compile("[\u00ad\u115f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\x00]")
_NAME = re.compile("|".join(ORDERS), re.IGNORECASE)
_OBJECT = re.compile(r'\{"text": "(?:[^"\\]|\\.)*"\}')


def calls_in(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Every call the text asks for, in plain sight, hidden, backwards or in smuggled bytes."""
    readings = (text, _FILLERS.sub("", text), text[::-1], _smuggled(text))
    names = {found.casefold() for reading in readings for found in _NAME.findall(reading)}
    return [(name, _arguments(text)) for name in sorted(names)]


def _arguments(text: str) -> dict[str, Any]:
    found = _OBJECT.search(text)
    arguments: dict[str, Any] = json.loads(found[0]) if found else {"text": "anything"}
    return arguments


def _smuggled(text: str) -> str:
    tags = "".join(chr(ord(letter) - 0xE0000) for letter in text if 0xE0000 < ord(letter) < 0xE0080)
    return tags + "".join(chr(byte) for letter in text if (byte := _byte(ord(letter))) is not None)


def _byte(code: int) -> int | None:
    if 0xFE00 <= code <= 0xFE0F:
        return code - 0xFE00
    return code - 0xE0100 + 16 if 0xE0100 <= code <= 0xE01EF else None
