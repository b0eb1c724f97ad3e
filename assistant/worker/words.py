"""A token as people know it: its number, and the word that it is in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from memory.segment import shorten

AROUND = 24
"""Tokens before and after that a word may reach to."""

LONGEST = 32
"""Characters of a word that are shown."""


def caller(tokenizer: Any) -> Callable[[Sequence[int], int], str]:
    """What a token of a text is called, for `Memory.call_token`: token 1,234 ("rivers")."""

    def call(ids: Sequence[int], at: int) -> str:
        return f"token {at:,} ({word_at(tokenizer, ids, at)})"

    return call


def word_at(tokenizer: Any, ids: Sequence[int], at: int) -> str:
    """The word that token `at` is in, quoted and on one line; white space by what it is."""
    here, first = tokenizer.decode([ids[at]]), max(0, at - AROUND)
    if not here.strip():
        return "a line break" if "\n" in here else "a space"
    before, whole = tokenizer.decode(list(ids[first:at])), tokenizer.decode(list(ids[first : at + AROUND]))
    rest = whole[len(before) :] if whole.startswith(before) else here
    begun = "" if rest[:1].isspace() or before[-1:].isspace() else (before.split() or [""])[-1]
    word = begun + (rest.split() or [here])[0]
    return f'"{shorten("".join(char if char.isprintable() else "·" for char in word), LONGEST)}"'
