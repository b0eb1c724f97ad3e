"""Conversations with questions about them, as the program would show them to the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from assistant.dialogue import read_dialogues, said_in
from assistant.orders import WorkerTurn
from assistant.template import build_prompt, encode_text
from memory.segment import EpisodeTurn


@dataclass(frozen=True, slots=True)
class Question:
    """`golds` are accepted answers, none for what cannot be answered; `turn` is the latest turn with evidence."""

    qid: str
    text: str
    golds: tuple[str, ...]
    category: str
    turn: int | None

    @property
    def adversarial(self) -> bool:
        """Whether there is no answer."""
        return not self.golds


@dataclass(slots=True)
class Talk:
    """One conversation: its turns, the tokens of each, and the questions that were drawn."""

    id: str
    turns: list[WorkerTurn]
    pieces: list[list[int]]
    prefix: int
    questions: list[Question] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        """Every token of the history."""
        return [token for piece in self.pieces for token in piece]

    def asked(self, tokenizer: Any, question: Question) -> list[int]:
        """What comes after the history: the question's turn and what opens the reply."""
        read = [turn.model_copy(update={"token_ids": ids}) for turn, ids in zip(self.turns, self.pieces, strict=True)]
        asking = WorkerTurn(id=len(read), role="user", text=question.text)
        prompt = build_prompt(tokenizer, [*read, asking], reply=True)
        return prompt.pieces[-1] + prompt.opening

    def episode_turns(self) -> list[EpisodeTurn]:
        """The turns as episodes are made of."""
        found, date = list[EpisodeTurn](), None
        for turn in self.turns:
            said = said_in(turn.role, turn.text)
            date = said.date or date
            found.append(EpisodeTurn(turn.id, said.speaker, said.text, date))
        return found


def read(path: Path, tokenizer: Any, answerable: int, adversarial: int) -> list[Talk]:
    """The conversations of a dialogue file with the first so many questions of each kind, in an order by hash: a run
    with more questions goes on with those that a run with fewer had. Questions whose gold answer is doubted are out."""
    items = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    talks = list[Talk]()
    for item, dialogue in zip(items, read_dialogues(path), strict=True):
        turns = [WorkerTurn(id=at, role=turn.role, text=turn.text) for at, turn in enumerate(dialogue.turns)]
        prompt = build_prompt(tokenizer, turns, reply=False)
        drawn = sorted((one for one in map(_question(item), item["questions"]) if one), key=_drawn)
        kinds = [one for one in drawn if not one.adversarial], [one for one in drawn if one.adversarial]
        talks.append(
            Talk(item["id"], turns, prompt.pieces, prompt.prefix, kinds[0][:answerable] + kinds[1][:adversarial])
        )
    return talks


def gold_ids(tokenizer: Any, question: Question) -> list[int]:
    """The first accepted answer."""
    return encode_text(tokenizer, question.golds[0])


def _question(item: dict[str, Any]) -> Any:
    said = [turn for session in item["sessions"] for turn in session["turns"]]
    place = {turn.get("dia_id"): at for at, turn in enumerate(said)}

    def make(one: dict[str, Any]) -> Question | None:
        if one.get("audit"):
            return None
        turns = [place[name] for name in one.get("evidence", []) if name in place]
        category = "adversarial" if one.get("unanswerable") else str(one.get("category", "all"))
        golds = () if one.get("unanswerable") else _golds(one)
        return Question(one["qid"], one["question"], golds, category, max(turns, default=None))

    return make


def _golds(one: dict[str, Any]) -> tuple[str, ...]:
    given = one.get("accept") or one["answer"]
    every: Sequence[Any] = given if isinstance(given, list) else [given]
    return tuple(str(gold) for gold in every)


def _drawn(question: Question) -> bytes:
    return blake2b(question.qid.encode(), digest_size=8).digest()
