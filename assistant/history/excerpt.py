"""What a search shows of a text: the place where most of the words stand, with each of them marked.

FTS5 has `snippet` and `highlight`; their time grows with the square of the matches in a text: one letter that is looked
for in a pasted log of a megabyte held the history for minutes (measured). This is linear.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import islice

_BEFORE = 40
_LENGTH = 120
"""Characters before the first match, and in all; words are left whole where there are spaces."""

_LOOKED_AT = 1_000
"""Matches among which the best place is looked for."""

_TOKEN = re.compile(r"[^\W_]+")
_SPACE = re.compile(r"\s")
_EDGE = 20
"""A cut moves so many characters at most to fall between two words."""


class _Folding(dict[int, str]):
    """One character for each: without its diacritics, in lower case, as the index compares (unicode61)."""

    def __missing__(self, code: int) -> str:
        plain = unicodedata.normalize("NFD", chr(code))[0].lower()
        self[code] = plain if len(plain) == 1 else chr(code)
        return self[code]


_FOLDED = _Folding()


def excerpt(text: str, words: Sequence[str]) -> str:
    """About a line of `text` around the words that are looked for, each in [ and ]; the last one may be a beginning."""
    text = unicodedata.normalize("NFC", text)
    spans = _spans(text.translate(_FOLDED), words)
    start, end = _cut(text, _best(spans))
    return _mark(text, start, end, spans)


def _spans(folded: str, words: Sequence[str]) -> list[tuple[int, int, int]]:
    """Where words stand: from, to, which of them."""
    patterns = [pattern for at, word in enumerate(words) if (pattern := _pattern(word, at == len(words) - 1))]
    if not patterns:
        return []
    found = re.finditer(r"(?<![^\W_])(?:" + "|".join(f"({one})" for one in patterns) + ")", folded)
    return [(*match.span(), match.lastindex or 0) for match in islice(found, _LOOKED_AT)]


def _pattern(word: str, begins: bool) -> str:
    """What a word matches: its tokens with anything between them that is none."""
    tokens = _TOKEN.findall(unicodedata.normalize("NFC", word).translate(_FOLDED))
    end = r"[^\W_]*" if begins else r"(?![^\W_])"
    return r"[\W_]+".join(map(re.escape, tokens)) + end if tokens else ""


def _best(spans: list[tuple[int, int, int]]) -> int:
    """Where the match begins that has most different words within a line; the first of them."""
    best, most, last = 0, 0, 0
    for at, (start, _, _) in enumerate(spans):
        while last < len(spans) and spans[last][1] <= start + _LENGTH - _BEFORE:
            last += 1
        if (count := len({which for _, _, which in spans[at:last]})) > most:
            best, most = start, count
    return best


def _cut(text: str, around: int) -> tuple[int, int]:
    start = max(around - _BEFORE, 0)
    end = min(start + _LENGTH, len(text))
    if start and (space := _SPACE.search(text, start, start + _EDGE)):
        start = space.end()
    if end < len(text) and (spaces := list(_SPACE.finditer(text, end - _EDGE, end))):
        end = spaces[-1].start()
    return start, end


def _mark(text: str, start: int, end: int, spans: list[tuple[int, int, int]]) -> str:
    parts, at = ["…" if start else ""], start
    for left, right, _ in spans:
        if start <= left < end:
            parts += [text[at:left], "[", text[left : min(right, end)], "]"]
            at = min(right, end)
    return "".join([*parts, text[at:end], "…" if end < len(text) else ""])
