"""A reply as it comes from a server: text, what is thought aloud in it, and calls."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

from assistant.agent.formats import SERVED, THOUGHT
from assistant.protocol import Alternative, Finish, Piece, TokenLogprob
from assistant.served.wire import CallPart, Choice, Chunk, Delta, Likelihoods, Spent


@dataclass(slots=True)
class Called:
    """A call that comes in parts; `arguments` are text."""

    id: str | None
    name: str = ""
    arguments: str = ""

    def ends_before(self, part: CallPart) -> bool:
        """Whether a part of the same number is of another call."""
        return part.id != self.id if part.id else bool(part.function.name and self.name)


@dataclass(slots=True)
class Reply:
    """What has come so far. Without `thoughts`, what is thought aloud is left out of it."""

    thoughts: bool = True
    text: str = ""
    finish: Finish = "stop"
    spent: Spent | None = None
    pieces: int = 0
    first_at: float | None = None
    last_at: float = 0.0
    thinking: bool = False
    calls: list[Called] = field(default_factory=list)
    _open: dict[int, Called] = field(default_factory=dict)

    def take(self, chunk: Chunk) -> Piece | None:
        """Note an event; what it adds to the text."""
        self.spent = chunk.usage or self.spent
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        for part in choice.delta.tool_calls or ():
            self._note(part)
        if choice.finish_reason is not None:
            self.finish = "length" if choice.finish_reason == "length" else "stop"
        text = self._said(choice.delta)
        return self._piece(text, choice) if text else None

    def ending(self) -> Piece | None:
        """What the whole text ends with: calls are kept in it as `SERVED` writes them."""
        text = THOUGHT[1] if self.thinking else ""
        if self.calls:
            text += ("\n" if self.text else "") + self._marked()
        self.text += text
        return Piece(text=text) if text else None

    def rate(self) -> float | None:
        """Tokens per second after the first piece; None where there were fewer than two, or nobody counted."""
        if self.first_at is None or self.pieces < 2 or self.spent is None:
            return None
        return round((self.spent.completion_tokens - 1) / max(self.last_at - self.first_at, 1e-9), 2)

    def _note(self, part: CallPart) -> None:
        called = self._open.get(part.index)
        if called is None or called.ends_before(part):
            called = self._open[part.index] = Called(part.id)
            self.calls.append(called)
        called.name += part.function.name or ""
        called.arguments += part.function.arguments or ""

    def _piece(self, text: str, choice: Choice) -> Piece:
        self.last_at = time.perf_counter()
        self.first_at = self.first_at or self.last_at
        self.pieces += 1
        self.text += text
        return Piece(text=text, logprobs=_logprobs(choice.logprobs))

    def _said(self, delta: Delta) -> str:
        """What is said, with what is thought aloud between its marks."""
        thought, text = (delta.reasoning_content or delta.reasoning or "") if self.thoughts else "", delta.content or ""
        if thought and not self.thinking:
            self.thinking, thought = True, THOUGHT[0] + thought
        if text and self.thinking:
            self.thinking, text = False, f"{THOUGHT[1]}\n\n{text}"
        return thought + text

    def _marked(self) -> str:
        """The calls; arguments that are no JSON stay as they are, for the parser to refuse."""
        calls = [
            f'{{"name": {json.dumps(one.name, ensure_ascii=False)}, "{SERVED.key}": {one.arguments or "{}"}}}'
            for one in self.calls
        ]
        return "\n".join(f"{SERVED.opening}\n{call}\n{SERVED.closing}" for call in calls)


def _logprobs(told: Likelihoods | None) -> list[TokenLogprob] | None:
    if told is None or not told.content:
        return None
    return [
        TokenLogprob(
            token=one.token,
            logprob=one.logprob,
            top=[Alternative(token=other.token, logprob=other.logprob) for other in one.top_logprobs],
        )
        for one in told.content
    ]
