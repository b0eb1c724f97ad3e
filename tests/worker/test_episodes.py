"""Episodes in the worker: routed questions, observed turns with their tokens, and what can be asked about them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from assistant.orders import Explain, Forget, KvSpec, WorkerTurn
from assistant.protocol import Notice
from assistant.worker.episodes import turns_of
from memory.episode_store import EpisodeStore
from memory.segment import EpisodeTurn
from tests.conftest import broken_embeddings, wait_until
from tests.memory.talk import turns as talk
from tests.worker.process import WorkerProcess

ROOMY = {"budget": "400MiB"}


def said(topics: list[str]) -> list[str]:
    """Transcript turns as an import stores them."""
    lines = [f"{turn.speaker}: {turn.text}" for turn in talk(topics)]
    return [f"This is a transcript of conversations between Ada and Ben.\n\n[8 May]\n{lines[0]}", *lines[1:]]


def explained(worker: WorkerProcess, kv: KvSpec, segments: int = 0) -> Any:
    """What the worker tells of the conversation, once so many segments are in episodes."""
    found = list[Any]()

    def ready() -> bool:
        found[:] = [worker.aside(Explain(id="e", folder=kv.folder, conversation="c")).episodes]
        return sum(one.episode is not None for one in found[0].segments) >= segments

    wait_until(ready, "the segments are in episodes")
    return found[0]


def test_an_import_is_divided_and_questions_are_routed(folder: Path, kv: KvSpec) -> None:
    with WorkerProcess(folder, kv=kv, **ROOMY) as worker:
        read = worker.read(said(["dogs", "money", "dogs", "money"]))
        assert read.usage.episode is None
        told = explained(worker, kv)
        assert all(one.episode is not None for one in told.segments), "an import is done when its episodes are"
        assert told.notice is None
        dogs, money = (told.segments[place].episode for place in (0, 1))
        assert [one.episode for one in told.segments] == [dogs, money, dogs, money]
        assert (told.segments[0].turns[0].date, told.segments[0].turns[0].speaker) == ("8 May", "Ada")
        assert told.segments[-1].turns[-1].last_token == read.usage.stored_tokens
        asked = worker.ask("Where did my dog chase the ball?", max_tokens=4)
        again = worker.ask("When is my mortgage payment to the bank due?", max_tokens=4)
        assert (asked.usage.episode, again.usage.episode) == (str(dogs), str(money))
        told = explained(worker, kv, segments=5)
        assert [(route.episode, route.switched) for route in told.routes] == [(dogs, False), (money, True)]
        assert [route.turn for route in told.routes] == [16, 18]
        tokens = [turn for one in told.segments for turn in one.turns]
        assert [turn.turn for turn in tokens] == list(range(20))
        assert all(one.last_token == two.first_token for one, two in itertools.pairwise(tokens))
        assert tokens[-1].last_token == again.usage.stored_tokens
        assert told.residency is not None
        assert len(told.residency) == -(-again.usage.stored_tokens // 64)
        assert set(told.residency) == {1.0}
        assert again.usage.peak_bytes <= again.usage.budget_bytes


def test_a_conversation_that_waits_on_the_device_is_told_so(folder: Path, kv: KvSpec) -> None:
    with WorkerProcess(folder, kv=kv, **ROOMY) as worker:
        read = worker.read(said(["dogs", "money"]))
        worker.conversation, worker.turns = "another", []
        worker.ask("Hello.", max_tokens=4)
        told = explained(worker, kv)
        assert told.residency is not None
        assert (len(told.residency), set(told.residency)) == (-(-read.usage.stored_tokens // 64), {1.0})
    with WorkerProcess(folder, kv=kv, **ROOMY) as worker:
        worker.conversation = "another"
        worker.ask("Hello again.", max_tokens=4)
        assert explained(worker, kv).residency is None, "only on disk"


def test_another_worker_goes_on_with_the_same_episodes(folder: Path, kv: KvSpec) -> None:
    with WorkerProcess(folder, kv=kv, **ROOMY) as worker:
        worker.read(said(["dogs", "money", "dogs", "money"]))
        before = explained(worker, kv, segments=4)
        turns = worker.turns
    with WorkerProcess(folder, kv=kv, **ROOMY) as worker:
        assert explained(worker, kv).segments == before.segments, "without a model the file is read"
        worker.turns = turns
        worker.ask("Where did my dog chase the ball?", max_tokens=4)
        after = explained(worker, kv)
        assert after.segments[:4] == before.segments
        assert after.routes[-1].episode == before.segments[0].episode


def test_what_was_forgotten_is_told_no_more(folder: Path, kv: KvSpec) -> None:
    with WorkerProcess(folder, kv=kv, **ROOMY) as worker:
        worker.read(said(["dogs"]))
        explained(worker, kv, segments=1)
        assert worker.aside(Forget(id="f", folder=kv.folder, conversation="c")).event == "forgotten"
        assert explained(worker, kv).segments == []
    store = EpisodeStore(Path(kv.folder) / "episodes.db")
    assert store.segments("c") == []
    store.close()


def test_a_budget_without_room_for_the_embedding_model_says_so(folder: Path, kv: KvSpec) -> None:
    with WorkerProcess(folder, kv=kv) as worker:
        worker.read(said(["dogs"]))
        assert worker.ask("Where is my dog?", max_tokens=4).usage.episode is None
        assert not [event for event in worker.events if isinstance(event, Notice)]
        told = explained(worker, kv)
        assert [one.episode for one in told.segments] == [None, None]
        assert "too much of this budget" in told.notice


def test_a_broken_embedding_model_costs_the_episodes_and_nothing_else(
    folder: Path, kv: KvSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_embeddings(tmp_path / "packages", monkeypatch)
    with WorkerProcess(folder, kv=kv, **ROOMY) as worker:
        done = worker.ask("Where is my dog?", max_tokens=4)
        assert (done.event, done.usage.episode) == ("worker_done", None)
        assert "incomplete" in explained(worker, kv).notice


def test_without_a_kv_folder_episodes_live_as_long_as_the_worker(folder: Path, kv: KvSpec) -> None:
    with WorkerProcess(folder, **ROOMY) as worker:
        worker.read(said(["dogs"]))
        assert explained(worker, kv, segments=1).segments[0].episode == 1
    assert not Path(kv.folder).exists()


def test_turns_carry_dates_speakers_and_tokens() -> None:
    turns = [
        WorkerTurn(id=1, role="system", text="Be brief."),
        WorkerTurn(
            id=2, role="transcript", text="This is a transcript of conversations between A and B.\n\n[8 May]\nA: Hi."
        ),
        WorkerTurn(id=3, role="transcript", text="B: 10:30: see: you\nthere"),
        WorkerTurn(id=4, role="transcript", text="\n[9 May]\nA: [image: a dog]"),
        WorkerTurn(id=5, role="transcript", text="no speaker here"),
        WorkerTurn(id=6, role="user", text="What now?", created="2026-11-21T10:00:00.000+00:00"),
    ]
    reply = WorkerTurn(id=7, role="assistant", text="Nothing.", token_ids=[1, 2], created=turns[-1].created)
    assert turns_of([*turns, reply], (3, 9, 7, 6, 4, 5, 3)) == [
        EpisodeTurn(2, "A", "Hi.", "8 May", 3, 12),
        EpisodeTurn(3, "B", "10:30: see: you\nthere", "8 May", 12, 19),
        EpisodeTurn(4, "A", "[image: a dog]", "9 May", 19, 25),
        EpisodeTurn(5, "transcript", "no speaker here", "9 May", 25, 29),
        EpisodeTurn(6, "user", "What now?", "2026-11-21", 29, 34),
        EpisodeTurn(7, "assistant", "Nothing.", "2026-11-21", 34, 37),
    ]
