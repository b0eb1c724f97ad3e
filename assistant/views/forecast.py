"""How many turns are left until older ones leave the working set: an estimate from what turns took so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from assistant.protocol import Turn, Usage
from assistant.reports import MemorySplit

SAMPLE = 8
"""Turns that the mean is taken over, the latest ones."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """`turns` are left when each takes `per_turn` tokens, the mean of the last `sample`.

    The `last` one took what the mean of those before it, `expected`, had said, or not. `turns` is 0 once older turns
    have left: then `resident` of `stored` tokens are on the device. None: nobody can say.
    """

    turns: int | None
    per_turn: float = 0.0
    sample: int = 0
    expected: float | None = None
    last: int = 0
    resident: int = 0
    stored: int = 0

    def sentence(self) -> str:
        """For people; an estimate is called one."""
        if self.turns is None:
            return "No forecast yet: it needs a loaded model, and replies to go by."
        if self.resident < self.stored:
            return (
                f"Older turns have left the working set: {self.resident:,} of {self.stored:,} tokens are resident. "
                "What left lies on disk and is fetched when it is needed."
            )
        how = f"an estimate, from {self.sample} turn{'s' * (self.sample != 1)} of {self.per_turn:,.0f} tokens"
        error = f"; the last took {self.last:,} where {self.expected:,.0f} were expected" if self.expected else ""
        count = f"About {self.turns:,} turn{'s' * (self.turns != 1)}" if self.turns else "Less than a turn"
        return f"{count} until older turns leave the working set ({how}{error})."


def forecast(turns: Iterable[Turn], memory: MemorySplit) -> Forecast:
    """From the usage records of a conversation and the plan of the loaded model."""
    records = [turn.usage for turn in turns if turn.usage is not None]
    if not records or not memory.working_set_tokens:
        return Forecast(None)
    resident, stored = records[-1].resident_tokens, records[-1].stored_tokens
    took = _took(records)
    if resident >= stored and not took:
        return Forecast(None, resident=resident, stored=stored)
    mean = sum(took) / len(took) if took else 0.0
    before = took[:-1]
    return Forecast(
        turns=0 if resident < stored else max(0, int((memory.working_set_tokens - resident) / mean)),
        per_turn=mean,
        sample=len(took),
        expected=sum(before) / len(before) if before else None,
        last=took[-1] if took else 0,
        resident=resident,
        stored=stored,
    )


def _took(records: list[Usage]) -> list[int]:
    """Tokens that each of the latest turns added, question and reply; what was read again was there before."""
    replies = [one for one in records if one.completion_tokens]  # an import writes nothing
    grown = [one.computed_tokens - one.recomputed_tokens + one.completion_tokens for one in replies]
    return [size for size in grown if size > 0][-SAMPLE:]
