"""What a reply may call: its constraint before it is written, and what it says and calls once it is."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from assistant.agent.formats import Format, parse
from assistant.protocol import Calling, Written
from assistant.toolprompt import call_format
from assistant.worker.grammar import Aside, Constraint, Grammars

CUT_OFF = "The reply reached its limit of tokens. Write less, or one call at a time."


class Caller:
    """How one model calls. What it takes to hold replies to a grammar is loaded at the first that needs it, inside
    `aside`."""

    def __init__(self, tokenizer: Any, stops: frozenset[int], aside: Aside = nullcontext) -> None:
        self.format = call_format(tokenizer)
        self._tokenizer = tokenizer
        self._stops = stops
        self._grammars = Grammars(tokenizer, stops, aside)

    def constraint(self, calling: Calling | None) -> Constraint | None:
        """What may be sampled, for one reply; None where anything may.

        Raises:
            UsageError: a schema cannot be followed; the sentence names its tool.
        """
        if calling is None or not calling.constrained or not (calling.tools or calling.answer is not None):
            return None
        return self._grammars.constraint(calling, self.format)

    def written(self, calling: Calling | None, ids: list[int], text: str, finish: str) -> Written | None:
        """A reply taken apart; `ids` are its tokens, `text` what was shown of it (shorter where a stop string was)."""
        return None if calling is None else taken_apart(self._raw(ids, text), calling, self.format, finish)

    def _raw(self, ids: list[int], text: str) -> str:
        """The reply with the control tokens that a shown text leaves out: some formats mark calls with them."""
        raw = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        shown = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(raw) if shown == text else text


def taken_apart(text: str, calling: Calling, form: Format, finish: str) -> Written:
    """A reply taken apart that ended as `finish` says."""
    if not calling.may_call:
        return Written(text=text)
    written = parse(text, calling, form)
    if finish == "length" and (written.problems or calling.answer is not None):
        written.problems.append(CUT_OFF)
    return written
