"""Texts of as many tokens as a trace says: each its own, but where the trace says that they begin alike."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.serve.trace import BLOCK, Request

CHARACTERS = 4.0
"""Characters of a token; what the server counted is in the report."""

TEXT = (
    "the ferry leaves at nine and comes back with letters from every island we have seen in years of rain "
    "a dog waits under the table while somebody counts lemons apples tickets keys maps and small green boats"
)

Message = dict[str, str]


@dataclass(slots=True)
class Talk:
    """The messages of one session, as its client holds them."""

    messages: list[Message] = field(default_factory=list)
    tokens: int = 0


class Prompts:
    """Makes the messages of requests; sessions go on with what was answered."""

    def __init__(self, characters: float = CHARACTERS) -> None:
        """`characters` of a token."""
        self._characters = characters
        self._talks = dict[str, Talk]()
        self._count = 0

    def messages(self, request: Request) -> list[Message]:
        """What the client sends: all of its conversation and a new message that makes up the rest."""
        self._count += 1
        talk = self._talks.setdefault(request.session, Talk()) if request.session is not None else Talk()
        if request.blocks:
            text = "".join(self._text(f"block {one}", BLOCK) for one in request.blocks)
            text = text[: round(request.prompt * self._characters)]
        else:
            text = self._text(f"request {self._count}", max(1, request.prompt - talk.tokens))
        talk.messages.append({"role": "user", "content": text or "?"})
        return list(talk.messages)

    def answered(self, request: Request, text: str, tokens: int) -> None:
        """The reply of a session's request: the next one of it begins with both; `tokens` are those of both."""
        if request.session is not None:
            talk = self._talks[request.session]
            talk.messages.append({"role": "assistant", "content": text})
            talk.tokens = tokens

    def failed(self, request: Request) -> None:
        """It was not answered: the session goes on without it."""
        if request.session is not None:
            self._talks[request.session].messages.pop()

    def _text(self, seed: str, tokens: int) -> str:
        """Words drawn from `seed`, cut at so many tokens' characters; the same for the same seed."""
        length = round(tokens * self._characters)
        chance, known, words, size = random.Random(seed), TEXT.split(), list[str](), 0
        while size < length:
            words.append(chance.choice(known))
            size += len(words[-1]) + 1
        return (" ".join(words) + " ")[:length]


def shared_most(requests: Sequence[Request]) -> float:
    """Of all blocks, the share that a cache without a limit has seen at the same place after the same ones."""
    seen, hits, total = set[tuple[int, ...]](), 0, 0
    for request in requests:
        lead = [request.blocks[: count + 1] for count in range(len(request.blocks))]
        hits += sum(one in seen for one in lead)
        total += len(lead)
        seen.update(lead)
    return hits / total if total else 0.0
