"""Inside and past the trained window: do what follows a long conversation, and answers about it, stay as likely?

    python -m benchmarks.window --data FILE [--lengths 4096,7680,16384,24576] [--share 1/8] [--questions N]
        [--model ID] [--json OUT]

The last `HELD_OUT` tokens of the file's text follow the `length` tokens before them, and questions are asked whose
evidence lies in the last of these that the shortest length has; only how much precedes them differs. `program`: the
program's policy with `share` of the length resident (of the window, where that is shorter); `bounded`: inside the
window, the same read in bounded mode; `plain`: the model itself, everything resident. FILE is a dialogue file with
questions.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from assistant.worker.loader import stop_tokens
from benchmarks.models import load_model
from benchmarks.quality.answers import LENGTH
from benchmarks.quality.data import Question, Talk, gold_ids, read
from benchmarks.quality.program import BLOCK, Program, policy_of
from benchmarks.quality.score import f1, likelihood, share_of
from benchmarks.report import publish, show
from benchmarks.tiers import memory_on
from memory.budget import PATCH_TOKENS
from memory.store import Mode

HELD_OUT = 256
PLAIN_LONGEST = 16_384
"""Tokens that the model itself reads at most: attention to everything takes a time that grows with their square."""

PIECE = 512
RAM = 2**31

Row = dict[str, Any]


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--lengths", type=lambda text: [int(one) for one in text.split(",")])
    parser.add_argument("--share", default="1/8")
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lengths = options.lengths or [4096, 7680, 16_384, 24_576]
    model, tokenizer = load_model(options.model)
    talks = read(options.data, tokenizer, 10**6, 0)
    ends, share, rows = stop_tokens(model, tokenizer), share_of(options.share), list[Row]()
    for length in lengths:
        text = Text(talks, tokenizer, length, min(lengths), options.questions)
        for way in ways(length, model.config.max_position_embeddings):
            found = measure(model, text, way, share, ends)
            rows.append({"model": options.model, "length": length, "way": way} | found)
            show(rows[-1:])
    publish("window", rows, quick=options.lengths is not None, json_path=options.json)


def ways(length: int, window: int) -> list[str]:
    """How a text is read; past the window the program's own mode is the bounded one."""
    return ["program", *(["bounded"] if length <= window else []), *(["plain"] if length <= PLAIN_LONGEST else [])]


class Text:
    """The `length` tokens before the held-out ones, and the questions about the last `near` of them."""

    def __init__(self, talks: list[Talk], tokenizer: Any, length: int, near: int, questions: int) -> None:
        talk, ids = talks[-1], [token for one in talks for token in one.ids]
        self.ids, self.follows = ids[-length - HELD_OUT : -HELD_OUT], ids[-HELD_OUT:]
        if len(self.ids) < length:
            raise SystemExit(f"The file has {len(ids)} tokens, too few for a length of {length}.")
        self.prefix, self.tokenizer, self._talk = talk.prefix, tokenizer, talk
        self.questions = [one for one in talk.questions if self._lies_within(one, near)][:questions]

    def asked(self, question: Question) -> list[int]:
        """What comes after the history."""
        return self._talk.asked(self.tokenizer, question)

    def _lies_within(self, question: Question, near: int) -> bool:
        if question.turn is None:
            return False
        after = sum(map(len, self._talk.pieces[question.turn :]))
        return HELD_OUT + sum(map(len, self._talk.pieces[question.turn : question.turn + 1])) < after < near


class Plain:
    """The model itself: every token stays, at the position at which it was read."""

    def __init__(self, model: Any, ids: list[int]) -> None:
        self._model, self._known, self._cache = model, len(ids), DynamicCache(config=model.config)
        model.set_attn_implementation("sdpa")
        for first in range(0, len(ids), PIECE):
            self._read(ids[first : first + PIECE])

    def ask(self, asked: list[int], continuation: list[int]) -> Tensor:
        """The logits before each token of `continuation` and after the last, [1 + tokens, vocabulary]."""
        if asked_before := self._cache.get_seq_length() - self._known:
            self._cache.crop(-asked_before)
        return self._read([*asked, *continuation])[len(asked) - 1 :]

    def reply(self, asked: list[int], ends: frozenset[int]) -> list[int]:
        """Greedy."""
        said, logits = list[int](), self.ask(asked, [])
        while len(said) < LENGTH and (not said or said[-1] not in ends):
            said.append(int(logits[-1].argmax()))
            logits = self._read(said[-1:])
        return said

    def _read(self, ids: list[int]) -> Tensor:
        with torch.inference_mode():
            found = self._model(torch.tensor([ids]), past_key_values=self._cache, use_cache=True)
        return found.logits[0].to(torch.float32)


class InProgram:
    """The program's memory with its own policy."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def ask(self, asked: list[int], continuation: list[int]) -> Tensor:
        """The logits before each token of `continuation` and after the last, [1 + tokens, vocabulary]."""
        return self._program.ask(asked, continuation, None)

    def reply(self, asked: list[int], ends: frozenset[int]) -> list[int]:
        """Greedy."""
        return self._program.go_on(asked, [], None, ends, LENGTH)


@contextmanager
def opened(model: Any, text: Text, way: str, share: float) -> Iterator[Plain | InProgram]:
    """The text, read in one way."""
    if way == "plain":
        yield Plain(model, text.ids)
        return
    mode: Mode = "bounded" if way == "bounded" else "auto"
    capacity = int(min(len(text.ids), model.config.max_position_embeddings) * share) + BLOCK + PATCH_TOKENS
    with (
        tempfile.TemporaryDirectory() as folder,
        memory_on(model, Path(folder), "int8", capacity, mode, RAM, policy_of("default")) as memory,
    ):
        memory.protect(text.prefix)
        yield InProgram(Program(model, memory, text.ids))


def measure(model: Any, text: Text, way: str, share: float, ends: frozenset[int]) -> Row:
    """One row: how likely what follows and the gold answers are, and what is replied."""
    with opened(model, text, way, share) as reader:
        follows = likelihood(reader.ask(text.follows[:1], text.follows[1:-1]), text.follows[1:])
        likelihoods, scores = list[float](), list[float]()
        for question in text.questions:
            asked, gold = text.asked(question), gold_ids(text.tokenizer, question)
            likelihoods.append(likelihood(reader.ask(asked, gold[:-1]), gold))
            said = text.tokenizer.decode(reader.reply(asked, ends), skip_special_tokens=True)
            scores.append(f1(said, question.golds))
    return {
        "perplexity": round(math.exp(follows), 2),
        "gold_nll": round(statistics.fmean(likelihoods), 3),
        "f1": round(statistics.fmean(scores), 3),
        "questions": len(scores),
    }


if __name__ == "__main__":
    main()
