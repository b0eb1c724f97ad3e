"""The run over one conversation: every policy and budget on every question, a record each, none made twice."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from benchmarks.quality import score
from benchmarks.quality.answers import LENGTH, Reference, along, first_difference, greedy, references
from benchmarks.quality.history import History, seal
from benchmarks.quality.keep import Keeper, protection
from benchmarks.quality.program import BLOCK, charged, policy_of, program
from benchmarks.quality.rag import Retrieval
from benchmarks.quality.source import BestChoice, Kept, Model, Nothing, Reply, Source
from memory.budget import PATCH_TOKENS
from memory.policy import POLICIES

Record = dict[str, Any]
CONTROLS = ("sinks_recent", "patched_prompt", "rag", "oracle")
"""Measured whatever is asked for, beside the full KV."""


@dataclass
class Book:
    """The records of a run, one JSON object a line."""

    path: Path

    def __post_init__(self) -> None:
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        self.records: list[Record] = [json.loads(line) for line in lines if line.endswith("}")]
        self._done = {_key(one) for one in self.records}

    def lacks(self, policy: str, budget: str, talk: str, qid: str) -> bool:
        """Whether this was not measured yet."""
        return (policy, budget, talk, qid) not in self._done

    def add(self, record: Record) -> None:
        """Write one down."""
        self.records.append(record)
        self._done.add(_key(record))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _key(record: Record) -> tuple[str, str, str, str]:
    return record["policy"], record["budget"], record["talk"], record["qid"]


@dataclass
class Run:
    """One conversation with one model."""

    model: Model
    causal: Any
    tokenizer: Any
    history: History
    keeper: Keeper
    book: Book
    folder: Path
    ends: frozenset[int]
    full: Kept = field(init=False)
    retrieval: Retrieval = field(init=False)

    def __post_init__(self) -> None:
        """What every question uses."""
        talk = self.history.talk
        self.full = Kept(self.history.layers)
        assert self.keeper.episodes.encoder is not None
        self.retrieval = Retrieval(talk, self.tokenizer, self.keeper.episodes.encoder)
        self._text_bytes = sum(len(turn.text.encode()) for turn in talk.turns)

    def measure(self, policies: Sequence[str], budgets: Sequence[str], rag: int) -> None:
        """Every policy at every budget; the references are made once. RAG, which reads so much anew, answers the first
        `rag` questions."""
        own = [name for name in policies if _is_program(name)]
        wanted = [("full", "1/1")] + [(name, budget) for budget in budgets for name in policies if name not in own]
        known = references(self.model, self.tokenizer, self.history, self.folder, self.ends)
        answers = list[Reference]()
        for reference in self._bar(known, "controls"):
            answers.append(reference)
            some = [one for one in wanted if one[0] != "rag" or len(answers) <= rag]
            self._controls(reference, [one for one in some if self._lacks(*one, reference)])
        for name, budget in [(name, budget) for budget in budgets for name in own]:
            missing = [reference for reference in answers if self._lacks(name, budget, reference)]
            if missing:
                self._program(name, budget, missing)

    # --- what keeps the same entries ---------------------------------------------------------------------------------

    def _controls(self, reference: Reference, wanted: Sequence[tuple[str, str]]) -> None:
        """Along the paths one by one, then the greedy replies of all together."""
        records, replies, said = list[Record](), list[Reply](), list[list[int]]()
        for name, budget in wanted:
            started = time.perf_counter()
            reply, asked, entries = self._reply(name, score.share_of(budget), reference)
            found = along(self.model, reply, asked, _paths(reference))
            seconds = time.perf_counter() - started
            logits, reply = found[0]
            same = first_difference(logits, reference.reply)
            text = reference.reply[:same]
            if same < len(reference.reply):
                text = [*text, int(logits[same].argmax())]
                reply.cut(len(reference.reply) - 1 - same)
            replies.append(reply)
            said.append(text)
            costs = {"entries": entries, "stored_bytes": self._text_bytes if name == "rag" else 0, "seconds": seconds}
            records.append(_record(name, budget, self.history.talk.id, reference, [one for one, _ in found]) | costs)
        for record, text in zip(records, greedy(self.model, replies, said, self.ends), strict=True):
            self.book.add(record | self._said(text, reference))

    def _reply(self, name: str, budget: float, reference: Reference) -> tuple[Reply, list[int], int]:
        """A reply that has the history as policy `name` shows it, what it reads first, and the entries of a layer."""
        tokens, entries = self.history.tokens, int(self.history.tokens * budget)
        if name == "rag":
            return Reply(Nothing(), 0), self.retrieval.prompt(reference.question, entries), entries
        source: Source = self.full
        if name == "best":
            mask = protection(self.history.talk.prefix, entries).mask(torch.arange(tokens), tokens)
            source = BestChoice(self.history.layers, mask, entries)
        elif name != "full":
            source, entries = self.keeper.source(name, reference.question, reference.asked, budget)
        return Reply(source, tokens), reference.asked, entries

    # --- what chooses for the tokens at hand -------------------------------------------------------------------------

    def _program(self, name: str, budget: str, missing: Sequence[Reference]) -> None:
        """The program's own memory with the policy `name`; "name@allocator": layers get different shares;
        "name+bounded": over KV that was read in bounded mode."""
        given, _, mode = name.partition("+")
        given, _, allocator = given.partition("@")
        policy, share = policy_of(given), score.share_of(budget)
        shares = self.keeper.shares(allocator) if allocator else []
        entries = charged(self.history, policy, share)
        folder = self.history.folder
        if mode:
            folder = seal(self.causal, self.history.talk, self.folder, "bounded", entries + BLOCK + PATCH_TOKENS)
        stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        with program(self.causal, self.tokenizer, self.history, folder, policy, entries, shares) as memory:
            for reference in self._bar(missing, f"{name} {budget}"):
                patch = self.keeper.patch(reference.question) if policy.base == "episode" else None
                started = time.perf_counter()
                found = [memory.ask(reference.asked, path[:-1], patch) for path in _paths(reference)]
                costs = {"entries": entries, "stored_bytes": stored, "seconds": time.perf_counter() - started}
                told = memory.told()
                same = first_difference(found[0], reference.reply)
                text = reference.reply[:same]
                if same < len(reference.reply):
                    text = memory.go_on(reference.asked, text, patch, self.ends, LENGTH)
                record = _record(name, budget, self.history.talk.id, reference, found) | costs | told
                self.book.add(record | self._said(text, reference))

    # --- parts -------------------------------------------------------------------------------------------------------

    def _bar(self, items: Iterable[Reference], what: str) -> Iterator[Reference]:
        total, quiet = len(self.history.talk.questions), not sys.stderr.isatty()
        bar = partial(track, console=Console(stderr=True), refresh_per_second=1, disable=quiet)
        return iter(bar(items, f"{self.history.talk.id} {what}", total=total))

    def _lacks(self, name: str, budget: str, reference: Reference) -> bool:
        return self.book.lacks(name, budget, self.history.talk.id, reference.question.qid)

    def _said(self, text: Sequence[int], reference: Reference) -> Record:
        said, golds = self.tokenizer.decode(text, skip_special_tokens=True), reference.question.golds
        return {"f1": score.f1(said, golds) if golds else None, "reply": said}


def _is_program(name: str) -> bool:
    """Whether a policy chooses for the tokens at hand."""
    plain = re.split("[+@:]", name)[0]
    return plain == "default" or (plain in POLICIES and POLICIES[plain].queries == "current")


def _paths(reference: Reference) -> list[list[int]]:
    return [reference.reply, reference.gold] if reference.gold else [reference.reply]


def _record(name: str, budget: str, talk: str, reference: Reference, found: Sequence[Tensor]) -> Record:
    """What is measured along the full KV's reply and the gold answer."""
    question = reference.question
    record = {"policy": name, "budget": budget, "talk": talk, "qid": question.qid, "category": question.category}
    record |= {"turn": question.turn, "kl32": score.divergence(reference.reply_logits, found[0])}
    record["top1"] = score.agreement(reference.reply_logits, found[0])
    if reference.gold_logits is not None:
        record["kl"] = score.divergence(reference.gold_logits, found[1])
        record["nll"] = score.likelihood(found[1], reference.gold)
    return record
