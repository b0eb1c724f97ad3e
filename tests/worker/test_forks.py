"""Forks and edits through the real worker process: the receipt says that nothing was read twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assistant.orders import Explain, Forget, KvSpec, WorkerTurn
from assistant.protocol import Usage
from assistant.worker.words import word_at
from memory.block import CHUNK
from tests.worker.process import WorkerProcess
from tests.worker.tiny import make_tokenizer

SAID = [
    "Hello, my name is Ada and I like rivers, maps and old radios. " * 2,
    "Tell me about the longest river that you know, and where it ends. " * 2,
    "And now about radios: which one would you take along on a boat?",
]


@pytest.fixture
def kv(tmp_path: Path) -> KvSpec:
    return KvSpec(folder=str(tmp_path / "kv"), codec="lossless", disk=2**30, reserve=0)


def talk(worker: WorkerProcess) -> list[list[WorkerTurn]]:
    """The turns after each of a few questions."""
    after = list[list[WorkerTurn]]()
    for text in SAID:
        worker.ask(text, max_tokens=20)
        after.append(list(worker.turns))
    return after


def recorded(turns: list[WorkerTurn]) -> int:
    return sum(len(turn.token_ids or []) for turn in turns)


def read_alone(folder: Path, turns: list[WorkerTurn], text: str) -> Any:
    """What the model answers without any stored KV."""
    with WorkerProcess(folder) as worker:
        worker.turns = list(turns)
        return worker.ask(text, max_tokens=20).text


def assert_nothing_twice(usage: Usage, turns: list[WorkerTurn], source: str) -> None:
    """The receipt: what was recorded is reused, and at most the template's words after it."""
    receipt, known = usage.receipt, recorded(turns)
    assert receipt is not None
    assert known <= receipt.reused <= known + len("<|im_start|>assistant")
    assert (receipt.recomputed, receipt.reason, receipt.source) == (0, None, source)
    assert receipt.sentence().endswith(f": {receipt.reused} tokens reused, 0 recomputed")
    assert usage.computed_tokens == usage.prompt_tokens - receipt.reused


@pytest.mark.parametrize(("questions", "restart"), [(1, True), (3, False)])
def test_a_fork_from_any_message_reads_nothing_twice(folder: Path, kv: KvSpec, questions: int, restart: bool) -> None:
    with WorkerProcess(folder, kv=kv) as first:
        turns = talk(first)[questions - 1]
        if not restart:
            first.fork("fork", len(turns))
            done = first.ask("Something else", max_tokens=20)
    if restart:
        with WorkerProcess(folder, kv=kv) as second:
            second.turns = list(first.turns)
            second.fork("fork", len(turns))
            done = second.ask("Something else", max_tokens=20)

    assert_nothing_twice(done.usage, turns, "disk")
    assert done.text == read_alone(folder, turns, "Something else")


def test_an_edit_and_another_reply_read_nothing_twice(folder: Path, kv: KvSpec) -> None:
    with WorkerProcess(folder, kv=kv) as worker:
        before = talk(worker)
        worker.turns = list(before[0])
        edited = worker.ask("An edited question", max_tokens=20)
    with WorkerProcess(folder, kv=kv) as worker:
        worker.turns = list(before[1])
        another = worker.ask("Another end", max_tokens=20)
        worker.turns = list(before[2])
        back = worker.ask("Back to what was said before", max_tokens=20)

    assert_nothing_twice(edited.usage, before[0], "resident")
    assert_nothing_twice(another.usage, before[1], "disk")
    assert_nothing_twice(back.usage, before[2], "disk")


def test_a_fork_resumes_whole_after_its_origin_was_removed(folder: Path, kv: KvSpec) -> None:
    root = Path(kv.folder)
    with WorkerProcess(folder, kv=kv) as worker:
        turns = talk(worker)[1]
        worker.fork("fork", len(turns))
        worker.ask("Something else", max_tokens=20)
        heirs = {"twin": [token for turn in turns for token in turn.token_ids or []]}
        assert worker.aside(Forget(id="f", folder=kv.folder, conversation="c", heirs=heirs)).event == "forgotten"
        assert not (root / "c").exists()
        assert list((root / "fork").glob("*.kv"))
        going_on = worker.ask("Still there?", max_tokens=20).usage
        said = list(worker.turns)
        assert worker.aside(Explain(id="e", folder=kv.folder, conversation="c")).episodes.segments == []
        assert worker.aside(Explain(id="e", folder=kv.folder, conversation="fork")).episodes.segments
    assert (going_on.receipt.recomputed, going_on.receipt.source) == (0, "resident")
    with WorkerProcess(folder, kv=kv) as worker:
        worker.turns, worker.conversation, worker.origins = list(said), "fork", ["c"]
        assert_nothing_twice(worker.ask("And now?").usage, said, "disk")
        worker.turns, worker.conversation = list(turns), "twin"
        twin = worker.ask("And you, who were never opened?").usage.receipt
    assert twin.reused == recorded(turns) // CHUNK * CHUNK > 0


def test_a_text_that_is_not_what_is_stored_is_named_by_its_first_word(folder: Path, kv: KvSpec, tmp_path: Path) -> None:
    """As when a history of other days is put in the place of one that was read: the same conversation, another word."""
    elsewhere = kv.model_copy(update={"folder": str(tmp_path / "elsewhere")})
    said = "Hello, my name is Ada and I like {}, maps and old radios. "
    with WorkerProcess(folder, kv=kv) as worker:
        worker.ask(said.format("rivers") * 3)
    with WorkerProcess(folder, kv=elsewhere) as worker:
        worker.ask(said.format("[b]rims\x1b[0m") * 3)
        turns = worker.turns
        text = "<|im_start|>user\n" + said.format("")
        at = len(make_tokenizer()(text[: text.index(" like ")] + " like ")["input_ids"])
    with WorkerProcess(folder, kv=kv) as worker:
        worker.turns = list(turns)
        receipt = worker.ask("Again").usage.receipt

    assert receipt.reused == at
    assert receipt.recomputed == recorded(turns) - at
    assert receipt.reason == f'token {at} ("[b]rims·[0m,") differs from what is stored'


@pytest.mark.parametrize(
    ("text", "at", "word"),
    [
        ("I like rivers and maps", "vers", '"rivers"'),
        ("I like rivers", " rivers", "a space"),
        ("rivers", "rivers", '"rivers"'),
        ("one\ntwo", "\n", "a line break"),
        ("a" * 60 + "b" + "a" * 60, "b", '"' + "a" * 15 + "…" + "a" * 15 + '"'),
        ("größer", "er", '"größer"'),
    ],
)
def test_a_token_is_called_by_the_word_that_it_is_in(text: str, at: str, word: str) -> None:
    tokenizer = make_tokenizer()
    ids = tokenizer(text)["input_ids"]
    place = len(tokenizer(text[: text.index(at)])["input_ids"])
    assert word_at(tokenizer, ids, place).startswith(word)
