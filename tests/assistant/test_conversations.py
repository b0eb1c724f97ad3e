"""`assistant conversations` and its neighbours: what can be done with whole conversations, as a user does it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.assistant.command import run, run_json
from tests.conftest import RunningDaemon


def names(*args: str) -> list[str]:
    return [row["name"] for row in run_json("conversations", "list", *args)]


def test_pinned_comes_first_and_archived_only_when_asked_for(daemon: RunningDaemon) -> None:
    for name in ("one", "two", "three"):
        run("ask", "-c", name, f"hello {name}")
    assert run_json("conversations", "pin", "one") == {"pinned": ["one"]}
    assert run("conversations", "archive", "two").stdout == "Archived: two\n"
    assert names() == ["one", "three"]
    assert names("--archived") == ["one", "three", "two"]
    shown = run("conversations", "list", "--archived").stdout.splitlines()
    assert ["pinned" in shown[1], "archived" in shown[3]] == [True, True]
    assert run_json("search", "hello", "two")[0]["conversation"] == "two"
    assert run("ask", "-c", "two", "hello again").returncode == 0
    run("conversations", "unpin", "one")
    run("conversations", "unarchive", "two")
    assert names() == ["two", "three", "one"]
    run("conversations", "title", "one", "[b]My\x1b[31m title[/b]")
    assert "[b]My title[/b]" in run("conversations", "list", "one").stdout


def test_a_fork_up_to_a_turn_is_listed_with_its_origin(daemon: RunningDaemon) -> None:
    reply = run_json("ask", "-c", "trip", "hello")["reply_id"]
    run("ask", "-c", "trip", "more")
    made = run_json("conversations", "fork", "trip", "--turn", str(reply), "--as", "train")
    assert (made["name"], made["turns"], made["origin"]) == ("train", 2, "trip")
    assert run("conversations", "fork", "trip").stdout == "trip (2): 4 turns of trip\n"
    assert "fork of trip" in run("conversations", "list", "train").stdout
    assert "already a conversation 'train'" in run("conversations", "fork", "trip", "--as", "train", code=2).stderr
    assert "no turn 99" in run("conversations", "fork", "trip", "--turn", "99", code=2).stderr


def test_put_away_brought_back_and_purged(daemon: RunningDaemon) -> None:
    run("ask", "-c", "trip", "the canary sings")
    assert "assistant conversations restore NAME" in run("conversations", "rm", "trip", "--later").stdout
    assert names("--archived") == []
    assert names("--removed") == ["trip"]
    assert "put away" in run("conversations", "list", "--removed").stdout
    assert run("conversations", "restore", "trip", "--as", "old trip").stdout == "old trip is back: 2 turns\n"
    run("conversations", "rm", "old trip", "--later")
    run("ask", "-c", "trip", "kept")
    assert run_json("conversations", "purge") == {"removed": ["old trip"]}
    assert run("conversations", "purge").stdout == "Nothing was put away.\n"
    assert names("--removed") == []
    assert "No conversation 'old trip' was put away" in run("conversations", "restore", "old trip", code=2).stderr
    assert names() == ["trip"]


def test_rm_removes_what_was_put_away_too(daemon: RunningDaemon) -> None:
    run("ask", "-c", "trip", "the canary sings")
    run("conversations", "rm", "trip", "--later")
    assert run_json("conversations", "rm", "trip") == {"removed": ["trip"]}
    assert names("--removed") == []
    assert not any(b"canary" in file.read_bytes() for file in daemon.places.data.iterdir())


def test_ask_replaces_a_question_or_answers_it_anew(daemon: RunningDaemon) -> None:
    first = run_json("ask", "-c", "trip", "turns")
    again = run_json("ask", "--replaces", str(first["turn_id"]))
    assert again["conversation"] == "trip"
    assert again["turn_id"] == first["turn_id"]
    assert json.loads(again["text"]) == [["user", "turns", True]]
    other = run_json("ask", "-c", "trip", "--replaces", str(first["turn_id"]), "turns now")
    assert json.loads(other["text"]) == [["user", "turns now", False]]
    assert "not written by you" in run("ask", "--replaces", str(first["reply_id"]), "x", code=2).stderr
    assert "no turn 999" in run("ask", "--replaces", "999", code=2).stderr


def test_export_writes_the_shown_path_or_every_version(daemon: RunningDaemon) -> None:
    first = run_json("ask", "-c", "trip", "one")
    run("ask", "--replaces", str(first["turn_id"]), "uno")
    assert run_json("export", "trip")["turns"][0]["text"] == "uno"
    whole = run_json("export", "trip", "--all-versions")["turns"]
    assert [(turn["text"], turn["shown"], turn["version"]) for turn in whole if turn["role"] == "user"] == [
        ("one", False, 1),
        ("uno", True, 2),
    ]
    assert [turn["parent"] for turn in whole] == [None, whole[0]["id"], None, whole[2]["id"]]
    markdown = run("export", "trip", "--all-versions").stdout
    assert "**You** (version 1 of 2, on another path)" in markdown
    assert "**You** (version 2 of 2)" in markdown
    lines = run("export", "trip", "--all-versions", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == whole


def test_search_in_one_conversation(daemon: RunningDaemon) -> None:
    for name in ("trip", "dog"):
        run("ask", "-c", name, f"biscuits for the {name}")
    assert {hit["conversation"] for hit in run_json("search", "biscuits")} == {"trip", "dog"}
    hits = run_json("search", "biscuits", "--in", "dog")
    assert {hit["conversation"] for hit in hits} == {"dog"}
    assert f"dog · turn {hits[0]['turn_id']} · " in run("search", "biscuits", "--in", "dog").stdout
    assert "no conversation 'dug'. Did you mean 'dog'" in run("search", "x", "--in", "dug", code=2).stderr


def chatgpt(title: str, *texts: str) -> dict[str, object]:
    """A conversation of a ChatGPT export: user and assistant in turns, a second apart."""
    nodes: dict[str, object] = {"root": {"message": None, "parent": None}}
    parent = "root"
    for at, text in enumerate(texts):
        role = ("user", "assistant")[at % 2]
        said = {"author": {"role": role}, "content": {"parts": [text]}, "create_time": 1700000000 + at}
        nodes[f"{at}"] = {"message": said, "parent": parent}
        parent = f"{at}"
    return {"title": title, "current_node": parent, "mapping": nodes}


def test_a_chatgpt_export_becomes_as_many_conversations_as_it_holds(daemon: RunningDaemon, home: Path) -> None:
    file = home / "conversations.json"
    chats = [chatgpt("New chat", "one", "1"), chatgpt("Dogs", "two", "2"), chatgpt("New chat", "three", "3")]
    file.write_text(json.dumps([*chats, chatgpt("Empty")]))
    stored = run_json("import", str(file), "--text-only")
    assert [row["conversation"] for row in stored["conversations"]] == ["New chat", "Dogs", "New chat (2)"]
    assert (stored["turns"], stored["usage"]) == (6, None)
    turns = run_json("export", "New chat (2)")["turns"]
    assert [(turn["role"], turn["text"]) for turn in turns] == [("user", "three"), ("assistant", "3")]
    assert turns[1]["created"] == "2023-11-14T22:13:21.000+00:00"
    again = run("import", str(file), "--text-only", code=2)
    assert "already a conversation 'New chat' with 2 turns; nothing was stored" in again.stderr
    given = json.loads(run_json("ask", "-c", "Dogs", "turns")["text"])
    assert [turn[1] for turn in given] == ["two", "2", "turns"]
    file.write_text(json.dumps(chatgpt("Cats", "four", "4")))
    assert run("import", str(file), "--text-only").stdout == "Cats: 2 turns, their text is stored\n"
    read = run_json("import", str(file), "-c", "Cats read")
    assert read["usage"]["stored_tokens"] > 0
