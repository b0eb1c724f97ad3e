"""A history of an earlier version is brought up to date with every turn in its place; long ones stay quick."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database, Migrations

from assistant.database import m001_conversations_and_turns, m002_search
from assistant.errors import AssistantError
from assistant.history import History
from assistant.history.links import Message, root
from assistant.protocol import NewTurn
from memory.block import pack_ids
from memory.database import open_database

WHEN = "2026-01-02T03:04:05.678+00:00"
LONG = 10_000


def old_history(path: Path) -> Database:
    """An empty history.db as the version before trees left it."""
    before = Migrations("history")
    for step in (m001_conversations_and_turns, m002_search):
        before()(step)
    return open_database(path, before, "FULL")


def insert(db: Database, conversation: str, position: int, role: str, text: str, state: str = "done") -> None:
    db.execute(
        "INSERT INTO turns (conversation_id, position, role, text, state, created, token_ids, token_model) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, 'm')",
        [conversation, position, role, text, state, WHEN, pack_ids([ord(char) for char in text])],
    )


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[History]:
    """Two conversations whose turns were written in turns, one reply of them pending, one turn deleted."""
    db = old_history(tmp_path / "history.db")
    for name in ("trip", "dog"):
        db.execute(
            "INSERT INTO conversations VALUES (?, ?, ?, ?, ?)", [f"id of {name}", name, f"On {name}", WHEN, WHEN]
        )
    for position in range(20):
        for name in ("trip", "dog"):
            role = ("system", "user", "assistant", "transcript")[position % 4]
            insert(db, f"id of {name}", position, role, f"{name} word{position}")
    insert(db, "id of dog", 20, "assistant", "half of a", "pending")
    insert(db, "id of dog", 21, "user", "the canary")
    db.execute("DELETE FROM turns WHERE text = 'the canary'")
    db.conn.commit()
    db.close()
    opened = History(tmp_path / "history.db")
    yield opened
    opened.close()


def test_every_turn_is_kept_on_the_one_path_it_had(migrated: History) -> None:
    for name in ("trip", "dog"):
        turns = migrated.turns(name)[:20]
        assert [turn.text for turn in turns] == [f"{name} word{position}" for position in range(20)]
        assert [turn.parent for turn in turns] == [None, *(turn.id for turn in turns[:-1])]
        assert {(turn.version, turn.versions, turn.shown, turn.created) for turn in turns} == {(1, 1, True, WHEN)}
        read = migrated.read(f"id of {name}", "m")
        assert [turn.token_ids for turn in read] == [[ord(char) for char in turn.text] for turn in turns]
    told = migrated.conversation("trip")
    assert (told.title, told.turns, told.pinned, told.archived, told.origin) == ("On trip", 20, False, False, None)


def test_an_upgraded_history_goes_on(migrated: History) -> None:
    assert migrated.recover() == 1
    deleted = migrated.turns("dog")[-1].id + 1
    begun = migrated.begin("dog", "and now?")
    assert begun.turn_id > deleted, "a number is never used for another turn"
    question = migrated.turns("trip")[1]
    migrated.begin("trip", "another", replaces=question.id)
    assert [turn.text for turn in migrated.turns("trip")] == ["trip word0", "another", ""]
    assert [turn.text for turn in migrated.turns("dog")][-3:] == ["half of a", "and now?", ""]


def test_what_was_said_before_there_were_links_is_not_found_by_them(migrated: History) -> None:
    messages = [Message(turn.role, turn.text, turn.text) for turn in migrated.turns("trip")[:3]]
    begun = migrated.begin_chained(root([]), messages)
    assert migrated.conversation(begun.name).turns == 4
    assert migrated.begin_chained(root([]), messages[:2]).name != begun.name


def test_the_search_index_follows_as_before(migrated: History) -> None:
    assert [(hit.conversation, hit.snippet) for hit in migrated.search("trip word7")] == [("trip", "[trip] [word7]")]
    assert migrated.search("half") == []
    migrated.recover()
    assert [hit.conversation for hit in migrated.search("half")] == ["dog"]
    begun = migrated.begin("trip", "brandnew")
    migrated.finish(begun.conversation_id, begun.reply_id, text="freshly baked")
    assert {hit.turn_id for hit in migrated.search("brandnew")} == {begun.turn_id}
    migrated.remove("trip")
    assert [hit.snippet for hit in migrated.search("word7")] == ["dog [word7]"]
    assert migrated.search("freshly") == []


def test_a_history_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    History(path).close()
    with open_database(path, Migrations("other"), "FULL").conn as db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('history', 'm999_more', 'x')"
        )
    before = path.read_bytes()
    with pytest.raises(AssistantError, match=r"newer version of the assistant wrote it \(m999_more\)"):
        History(path)
    assert path.read_bytes() == before


def steps(history: History, call: Any) -> int:
    """How much SQLite does for a call, in units of 100 instructions of its machine."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    history._db.conn.set_progress_handler(step, 100)
    call()
    history._db.conn.set_progress_handler(None, 100)
    return count


def long_history(path: Path, turns: int) -> History:
    history = History(path)
    history.add("long", [NewTurn(role="transcript", text=f"line {number}") for number in range(turns)])
    return history


def test_the_newest_page_takes_no_longer_in_a_long_conversation(tmp_path: Path) -> None:
    short, long = (long_history(tmp_path / f"{count}.db", count) for count in (100, LONG))
    first, second = (steps(history, lambda history=history: history.turns("long")) for history in (short, long))
    assert second <= first + 2
    assert [turn.text for turn in long.turns("long", limit=2)] == [f"line {LONG - 2}", f"line {LONG - 1}"]
    for history in (short, long):
        history.close()


def test_ten_thousand_turns_can_be_edited_forked_and_switched(tmp_path: Path) -> None:
    history = long_history(tmp_path / "long.db", LONG)
    begun = history.begin("long", "a question")
    other = history.begin("long", "another", replaces=begun.turn_id)
    assert history.turns("long")[-2].text == "another"

    def switch() -> None:
        history.choose("long", begun.turn_id)
        assert len(history.read(history.find(history.fork("long")), "m")) == LONG + 1
        history.choose("long", other.turn_id)

    assert steps(history, switch) < 100 * LONG, "every turn is visited a few times, not once for every other turn"
    assert history.turns("long")[-2].text == "another"
    history.close()
