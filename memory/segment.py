"""Turns and segments as text: who said what and when, four turns at a time. No torch in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

TURNS = 4
"""Turns of a segment."""

LONGEST = 4000
"""Characters of one turn that a segment's text holds; of a longer one its beginning and its end."""


@dataclass(frozen=True, slots=True)
class EpisodeTurn:
    """One turn of a conversation; `first` to `last` (exclusive) are its tokens, `date` is when it was said."""

    id: int
    speaker: str
    text: str
    date: str | None = None
    first: int = 0
    last: int = 0

    @property
    def digest(self) -> str:
        """What tells this turn from an edited one."""
        said = "\0".join((self.speaker, self.date or "", self.text))
        return blake2b(said.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def lines(turns: Sequence[EpisodeTurn], date: str | None = None) -> list[str]:
    """What each turn of a segment says, with its speaker; empty turns say nothing.

    The date stands where it changes; `date` is the one that the segment's turns before these had.
    """
    shown = list[str]()
    for turn in turns:
        said = shorten(turn.text.strip(), LONGEST)
        dated = bool(said) and turn.date is not None and turn.date != date
        date = turn.date if dated else date
        shown.append((f"[{turn.date}]\n" if dated else "") + (f"{turn.speaker}: {said}" if said else ""))
    return shown


def tidy(turn: EpisodeTurn) -> EpisodeTurn:
    """The turn with nothing in it that is no Unicode text (halves of characters)."""
    speaker, text, date = (_whole(part) for part in (turn.speaker, turn.text, turn.date or ""))
    return replace(turn, speaker=speaker, text=text, date=date or None)


def shorten(text: str, longest: int) -> str:
    """At most `longest` characters of `text`: of a longer one its beginning and its end."""
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def share_out(wanted: Sequence[int], room: int) -> list[int]:
    """Divide `room` fairly: nobody gets more than wanted, and what short ones leave goes to the long ones."""
    given, left = [0] * len(wanted), room
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for done, index in enumerate(order):
        given[index] = min(wanted[index], left // (len(order) - done))
        left -= given[index]
    return given


def _whole(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
