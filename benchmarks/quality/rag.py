"""Text instead of KV: the dated segments most similar to the question, read anew, as many as the budget holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assistant.orders import WorkerTurn
from assistant.template import build_prompt
from benchmarks.quality.data import Question, Talk
from memory.encoder import Encoder
from memory.segment import TURNS, lines


class Retrieval:
    """The segments of a conversation and their embeddings."""

    def __init__(self, talk: Talk, tokenizer: Any, encoder: Encoder) -> None:
        turns = talk.episode_turns()
        self._texts = ["\n".join(lines(turns[first : first + TURNS])) for first in range(0, len(turns), TURNS)]
        self._vectors = encoder.embed([[text] for text in self._texts])
        self._tokenizer, self._encoder = tokenizer, encoder

    def prompt(self, question: Question, entries: int) -> list[int]:
        """The nearest segments in order and the question: their tokens are at most `entries` and the question's."""
        order = (self._vectors @ self._encoder.embed([[question.text]])[0]).argsort(descending=True).tolist()
        alone = len(self._ids([], question))
        taken, room = list[int](), entries
        for at in order:
            size = len(self._ids([at], question)) - alone
            if size <= room:
                taken.append(at)
                room -= size
        return self._ids(sorted(taken), question)

    def _ids(self, segments: Sequence[int], question: Question) -> list[int]:
        texts = [self._texts[at] for at in segments]
        turns = [WorkerTurn(id=at, role="transcript", text=text) for at, text in enumerate(texts)]
        asking = WorkerTurn(id=len(turns), role="user", text=question.text)
        return build_prompt(self._tokenizer, [*turns, asking], reply=True).ids
