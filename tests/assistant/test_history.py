"""History: what was acknowledged survives kill -9, the search index follows, deleted means gone."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from assistant.errors import AssistantError, UsageError
from assistant.history import History, NameTaken, UnknownConversation, unpack_ids
from assistant.protocol import ConversationChange, NewTurn, Usage
from memory.block import pack_ids
from memory.database import OldSqlite, check_sqlite

WRITER = """
import sys
from pathlib import Path
from assistant.history import History
history = History(Path(sys.argv[1]))
number, earlier = 0, {}
while True:
    name = f"talk {number % 3}"
    begun = history.begin(name, f"question {number}", replaces=earlier.get(name) if number % 5 == 4 else None)
    earlier[name] = begun.turn_id
    print("asked", begun.turn_id, number, flush=True)
    for part in range(3):
        history.checkpoint(begun.reply_id, f"reply {number} " + "word " * part)
    if number % 4:
        history.finish(begun.conversation_id, begun.reply_id, text=f"reply {number}")
        print("done", begun.reply_id, number, flush=True)
    number += 1
"""


def usage(**figures: int) -> Usage:
    counts = dict.fromkeys(
        ("prompt_tokens", "cached_tokens", "computed_tokens", "completion_tokens", "resident_tokens"), 1
    )
    return Usage.model_validate(
        {
            **counts,
            "stored_tokens": 5,
            "episode": None,
            "recalled_tokens": 0,
            "ttft_s": 0.5,
            "decode_tok_s": None,
            "peak_bytes": 1,
            "budget_bytes": 2,
            "mode": "exact",
            **figures,
        }
    )


def test_a_turn_and_its_pending_reply_come_together(history: History) -> None:
    begun = history.begin("demo", "My dog is called Biscuit.\nAnd more.")
    user, reply = history.turns("demo")
    assert (user.id, user.state, user.role) == (begun.turn_id, "done", "user")
    assert (reply.id, reply.state, reply.text) == (begun.reply_id, "pending", "")
    assert history.conversations()[0].title == "My dog is called Biscuit."


def test_finish_keeps_text_usage_and_token_ids(history: History) -> None:
    begun = history.begin("demo", "hello")
    ids = {begun.turn_id: [1, 2, 150_000], begun.reply_id: [7]}
    history.finish(begun.conversation_id, begun.reply_id, text="hi", usage=usage(), token_ids=ids, model="m")
    assert history.turns("demo")[1].usage == usage()
    assert [turn.token_ids for turn in history.read(begun.conversation_id, "m")] == [[1, 2, 150_000], [7]]


def test_another_model_gets_no_token_ids(history: History) -> None:
    begun = history.begin("demo", "hello")
    history.finish(begun.conversation_id, begun.reply_id, text="hi", token_ids={begun.turn_id: [1]}, model="m")
    assert [turn.token_ids for turn in history.read(begun.conversation_id, "other")] == [None, None]


def test_token_ids_are_little_endian_int32() -> None:
    assert pack_ids([1, 258]) == b"\x01\0\0\0\x02\x01\0\0"
    assert unpack_ids(b"\x01\0\0\0") == [1]
    assert unpack_ids(None) is None


def test_a_model_reads_what_has_text_in_front_of_the_reply(history: History) -> None:
    first = history.begin("demo", "one")
    second = history.begin("demo", "two")
    history.finish(first.conversation_id, first.reply_id, text="half", state="interrupted")
    read = history.read(first.conversation_id, "m", second.reply_id)
    assert [turn.text for turn in read] == ["one", "half", "two"]
    assert [turn.text for turn in history.read(first.conversation_id, "m", first.reply_id)] == ["one"]


def test_a_late_checkpoint_changes_nothing(history: History) -> None:
    begun = history.begin("demo", "hello")
    history.finish(begun.conversation_id, begun.reply_id, text="whole")
    history.checkpoint(begun.reply_id, "part")
    assert history.turns("demo")[1].text == "whole"


def test_recover_interrupts_what_was_pending(tmp_path: Path) -> None:
    first = History(tmp_path / "history.db")
    begun = first.begin("demo", "hello")
    first.checkpoint(begun.reply_id, "partial words")
    first.close()
    second = History(tmp_path / "history.db")
    assert second.recover() == 1
    assert second.recover() == 0
    reply = second.turns("demo")[1]
    assert (reply.state, reply.text) == ("interrupted", "partial words")
    assert [hit.turn_id for hit in second.search("partial")] == [begun.reply_id]
    second.close()


def test_search_sees_finished_turns_only(history: History) -> None:
    begun = history.begin("demo", "Wir reisen nach Österreich")
    history.checkpoint(begun.reply_id, "unfinished words")
    assert history.search("unfinished") == []
    history.finish(begun.conversation_id, begun.reply_id, text="finished words")
    assert [hit.snippet for hit in history.search("finished words")] == ["[finished] [words]"]
    assert [hit.conversation for hit in history.search("osterr")] == ["demo"]
    assert history.search("words nowhere") == []


@pytest.mark.parametrize("words", ['"', "a AND", "NEAR(", "*", "col:x", "-", "'; DROP TABLE turns"])
def test_search_takes_any_words(history: History, words: str) -> None:
    history.begin("demo", "a quiet text")
    assert isinstance(history.search(words), list)


def test_search_without_words_is_refused(history: History) -> None:
    with pytest.raises(UsageError, match="at least one word"):
        history.search("  ")


def test_pages_of_turns(history: History) -> None:
    history.add("talk", [NewTurn(role="transcript", text=f"line {number}") for number in range(7)])
    last = history.turns("talk", limit=3)
    assert [turn.text for turn in last] == ["line 4", "line 5", "line 6"]
    assert [turn.text for turn in history.turns("talk", before=last[0].id, limit=3)] == ["line 1", "line 2", "line 3"]


def test_the_system_prompt_belongs_to_the_beginning(history: History) -> None:
    begun = history.begin("demo", "hello", None, default_system="Be kind.")
    assert [turn.text for turn in history.read(begun.conversation_id, "m")] == ["Be kind.", "hello"]
    history.begin("demo", "again", "Be kind.")
    with pytest.raises(UsageError, match="another system prompt"):
        history.begin("demo", "again", "Be rude.")
    assert len(history.turns("demo")) == 5


def test_rename(history: History) -> None:
    history.begin("one", "x")
    history.begin("two", "x")
    history.change("one", ConversationChange(name="three/ü"))
    assert {found.name for found in history.conversations()} == {"three/ü", "two"}
    with pytest.raises(NameTaken, match="already a conversation 'two'"):
        history.change("three/ü", ConversationChange(name="two"))
    with pytest.raises(UnknownConversation, match="Did you mean 'two'"):
        history.find("twoo")


@pytest.mark.parametrize(
    ("text", "title"),
    [("\n  Hello \nthere", "Hello"), ("[2026-03-02]\nI want to grow", "I want to grow"), ("[alone]", "[alone]")],
)
def test_a_title_is_the_first_line_that_says_something(history: History, text: str, title: str) -> None:
    history.begin("talk", text)
    assert history.conversations()[0].title == title


def test_conversations_are_found_by_name_and_title_the_latest_first(history: History) -> None:
    for name, text in (("trip", "Lisbon in May"), ("dog", "Biscuit"), ("50%_off", "shop")):
        history.begin(name, text)
    history.begin("trip", "more")
    assert [found.name for found in history.conversations()] == ["trip", "50%_off", "dog"]
    assert [found.name for found in history.conversations("LISBON")] == ["trip"]
    assert [found.name for found in history.conversations("%_")] == ["50%_off"]
    assert history.conversations("x" * 100_000) == []  # longer than a pattern of LIKE may be


def test_removed_means_gone_from_every_file(history: History) -> None:
    begun = history.begin("secret", "the canary sings")
    history.finish(begun.conversation_id, begun.reply_id, text="canary reply")
    history.begin("other", "stays")
    history.remove("secret")
    files = list(history.path.parent.iterdir())
    assert not any(word in file.read_bytes() for file in files for word in (b"canary", b"secret"))
    assert history.search("canary") == []
    assert [found.name for found in history.conversations()] == ["other"]


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        history = History(tmp_path / "data" / "history.db")
        history.begin("demo", "x")
    finally:
        os.umask(mask)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "data").iterdir()}
    assert modes == {"history.db": 0o600, "history.db-wal": 0o600, "history.db-shm": 0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    history.close()


def test_an_old_sqlite_is_refused() -> None:
    with pytest.raises(OldSqlite, match=r"SQLite 3\.40\.1 can lose .* 3\.51\.3"):
        check_sqlite((3, 40, 1))


@pytest.mark.parametrize("damage", [b"not a database " * 300, b""])
def test_a_damaged_file_is_left_alone(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "history.db"
    History(path).close()
    path.write_bytes(damage or path.read_bytes()[:5000])
    before = path.read_bytes()
    with pytest.raises(AssistantError, match=r"cannot be opened: .* Nothing was changed"):
        History(path)
    assert path.read_bytes() == before


def test_no_acknowledged_turn_is_lost_by_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    asked: dict[int, str] = {}
    done: dict[int, str] = {}
    for _ in range(6):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for line in (writer.stdout.readline() for _ in range(random.randint(3, 60))):
            _note(line, asked, done)
        writer.send_signal(signal.SIGKILL)
        for line in writer.stdout.read().splitlines(keepends=True):
            _note(line, asked, done)
        writer.wait()
        writer.stdout.close()
    history = History(path)
    history.recover()
    talks = [found.name for found in history.conversations()]
    turns = {turn.id: turn for name in talks for turn in history.turns(name, limit=10**6, versions=True)}
    assert any(turn.versions > 1 for turn in turns.values())
    for name in talks:
        path = history.turns(name, limit=10**6)
        assert [turn.parent for turn in path] == [None, *(turn.id for turn in path[:-1])]
    assert {number: turns[number].text for number in asked} == asked
    assert {number: turns[number].text for number in done} == done
    assert all(turns[number].state == "done" for number in (*asked, *done))
    history.close()


def _note(line: str, asked: dict[int, str], done: dict[int, str]) -> None:
    """Take down what the writer acknowledged; a line that the kill cut off was no acknowledgement."""
    if line.endswith("\n"):
        kind, turn, number = line.split()
        (asked if kind == "asked" else done)[int(turn)] = f"{'question' if kind == 'asked' else 'reply'} {number}"
