"""Text that is too long: its beginning and its end are kept, and what is left out between them is counted.

Imports nothing but Python: the host of a tools file uses it too.
"""

from __future__ import annotations

from typing import Final

NOTICE = 80
"""Bytes set aside for the notice."""
_INSIDE: Final = bytes(range(0x80, 0xC0))
"""Bytes of UTF-8 that go on with a character and begin none."""


class Kept:
    """What is kept of a stream of UTF-8: at most `limit` bytes, however much comes."""

    def __init__(self, limit: int) -> None:
        self._half = max(limit - NOTICE, 2) // 2
        self._room = limit - self._half
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0
        self._whole = True

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        room = self._room - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if (excess := len(self._tail) - self._half) > 0:
            self._whole = False
            self._dropped += _characters(self._tail[:excess])
            del self._tail[:excess]

    def text(self) -> tuple[str, int]:
        """The text, with a notice in its middle where something is missing, and how many characters are."""
        if self._whole:
            return (self._head + self._tail).decode("utf-8", "replace"), 0
        head, rest = self._head[: self._half], self._head[self._half :]
        begun = _unfinished(head)
        dropped = self._dropped + _characters(rest) + (begun > 0)
        kept = head[: len(head) - begun].decode("utf-8", "replace")
        notice = f"\n[... {dropped:,} characters left out ...]\n"
        return kept + notice + self._tail[_rest(self._tail) :].decode("utf-8", "replace"), dropped


def cut(text: str, limit: int) -> tuple[str, int]:
    """`text` in at most `limit` bytes of UTF-8, and how many characters are left out."""
    kept = Kept(limit)
    kept.feed(text.encode("utf-8", "replace"))
    return kept.text()


def _characters(data: bytes | bytearray) -> int:
    return len(data.translate(None, _INSIDE))


def _unfinished(data: bytearray) -> int:
    """How many bytes at the end begin a character and do not end it."""
    inside = _rest(bytes(reversed(data[-3:])))
    lead = data[-inside - 1] if inside < len(data) else 0
    length = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
    return inside + 1 if length > inside + 1 else 0


def _rest(data: bytes | bytearray) -> int:
    """How many bytes at the beginning belong to a character that began before; at most three."""
    return next((at for at, byte in enumerate(data[:3]) if byte not in _INSIDE), min(len(data), 3))
