"""Answers from a source, greedy or along given tokens; the full KV's are what all others are held against."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.quality.data import Question, gold_ids
from benchmarks.quality.history import History
from benchmarks.quality.source import Kept, Model, Reply, Source

LENGTH = 32
"""Tokens of a reply, at most."""

TOGETHER = 8
"""Replies of the full KV that are written together."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What the full KV says: its greedy reply, the gold answer, and its logits before each token of both."""

    question: Question
    asked: list[int]
    reply: list[int]
    gold: list[int]
    reply_logits: Tensor
    gold_logits: Tensor | None


def along(
    model: Model, reply: Reply, asked: Sequence[int], paths: Sequence[Sequence[int]]
) -> list[tuple[Tensor, Reply]]:
    """Logits before each token of every path, [tokens, vocabulary], and the reply that has read all but the last."""
    first = model.read([reply], [asked])[0, -1:]
    return [_continued(model, reply.branch(), first, path) for path in paths]


def _continued(model: Model, reply: Reply, first: Tensor, path: Sequence[int]) -> tuple[Tensor, Reply]:
    if len(path) < 2:
        return first, reply
    return torch.cat((first, model.read([reply], [path[:-1]])[0])), reply


def greedy(model: Model, replies: Sequence[Reply], said: Sequence[list[int]], ends: frozenset[int]) -> list[list[int]]:
    """Greedy replies of at most `LENGTH` tokens; each begins with what is `said`, whose last token was not read yet."""
    texts = [list(one) for one in said]
    while going := [at for at, text in enumerate(texts) if len(text) < LENGTH and text[-1] not in ends]:
        logits = model.read([replies[at] for at in going], [[texts[at][-1]] for at in going])[:, -1]
        for at, token in zip(going, logits.argmax(-1).tolist(), strict=True):
            texts[at].append(token)
    return texts


def first_difference(logits: Tensor, reply: Sequence[int]) -> int:
    """At which token of `reply` the other model's greedy choice is another one; its length when at none."""
    same = logits.argmax(-1) == torch.tensor(list(reply))
    return int(same.to(torch.int64).cumprod(0).sum())


def references(
    model: Model, tokenizer: Any, history: History, folder: Path, ends: frozenset[int]
) -> Iterator[Reference]:
    """The full KV's answers to the questions of a history; replies are kept in `folder`."""
    file = folder / "replies.json"
    known: dict[str, list[int]] = json.loads(file.read_text()) if file.exists() else {}
    full = Kept(history.layers)
    questions = history.talk.questions
    missing = [one for one in questions if one.qid not in known]
    for first in range(0, len(missing), TOGETHER):
        some = missing[first : first + TOGETHER]
        known |= dict(
            zip([one.qid for one in some], _replies(model, tokenizer, history, full, some, ends), strict=True)
        )
        file.write_text(json.dumps(known))
    for question in questions:
        asked, reply = history.talk.asked(tokenizer, question), known[question.qid]
        gold = [] if question.adversarial else gold_ids(tokenizer, question)
        found = along(model, Reply(full, history.tokens), asked, [reply, gold] if gold else [reply])
        yield Reference(question, asked, reply, gold, found[0][0], found[1][0] if gold else None)


def _replies(
    model: Model, tokenizer: Any, history: History, full: Source, questions: Sequence[Question], ends: frozenset[int]
) -> list[list[int]]:
    replies = [Reply(full, history.tokens) for _ in questions]
    asked = [history.talk.asked(tokenizer, question) for question in questions]
    first = [int(model.read([reply], [ids])[0, -1].argmax()) for reply, ids in zip(replies, asked, strict=True)]
    return greedy(model, replies, [[token] for token in first], ends)
