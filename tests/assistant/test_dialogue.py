"""Files people bring along become turns; broken ones are refused with file and line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.dialogue import As, read_dialogues
from assistant.errors import UsageError
from assistant.export import Form, exported
from assistant.protocol import Conversation, Role, Turn

FRIENDS: dict[str, Any] = {
    "id": "friends/1",
    "speakers": ["Ann", "Bob"],
    "sessions": [
        {
            "session": 1,
            "date": "2023-05-08T13:56",
            "date_raw": "1:56 pm on 8 May, 2023",
            "turns": [
                {"speaker": "Ann", "text": "Hi!", "dia_id": "D1:1"},
                {"speaker": "Bob", "text": "Look", "image_caption": "a dog on a beach"},
                {"speaker": "Ann", "text": "", "image_caption": None},
            ],
        },
        {"session": 2, "date": "2023-06-01", "turns": [{"speaker": "Bob", "text": "", "image_caption": "a cat"}]},
    ],
    "questions": [{"qid": "1", "question": "?", "answer": "!"}],
}
CHAT = {
    "sessions": [
        {"date": "2024-03-03", "turns": [{"speaker": "user", "text": "Hi"}, {"speaker": "assistant", "text": "Yo"}]}
    ]
}
MESSAGES = [
    {"role": "developer", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "x"}}]},
    {"role": "assistant", "content": None, "tool_calls": []},
    {"role": "assistant", "content": "Hello"},
]
EXPORT = {
    "title": "Dogs",
    "current_node": "d",
    "mapping": {
        "a": {"message": None, "parent": None, "children": ["b"]},
        "b": {
            "message": {"author": {"role": "user"}, "content": {"parts": ["Hi"]}},
            "parent": "a",
            "children": ["c", "d"],
        },
        "c": {
            "message": {"author": {"role": "assistant"}, "content": {"parts": ["Old"]}},
            "parent": "b",
            "children": [],
        },
        "d": {
            "message": {"author": {"role": "assistant"}, "content": {"parts": ["New"]}},
            "parent": "b",
            "children": [],
        },
    },
}


def write(folder: Path, content: Any, name: str = "file.jsonl") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def turns(path: Path, **options: Any) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in read_dialogues(path, **options)[0].turns]


def test_people_become_a_transcript_with_dates_names_and_captions(tmp_path: Path) -> None:
    assert turns(write(tmp_path, FRIENDS)) == [
        (
            "transcript",
            "This is a transcript of conversations between Ann and Bob.\n\n[1:56 pm on 8 May, 2023]\nAnn: Hi!",
        ),
        ("transcript", "Bob: Look [image: a dog on a beach]"),
        ("transcript", "\n[2023-06-01]\nBob: [image: a cat]"),
    ]


def test_user_and_assistant_become_roles_unless_a_transcript_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, CHAT)
    assert turns(path) == turns(path, form="roles") == [("user", "[2024-03-03]\nHi"), ("assistant", "Yo")]
    assert {role for role, _ in turns(path, form="transcript")} == {"transcript"}


def test_people_as_roles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"file.jsonl, conversation 1: the speaker 'Ann' .* --as transcript"):
        read_dialogues(write(tmp_path, FRIENDS), form="roles")


@pytest.mark.parametrize(
    "content",
    [MESSAGES, {"messages": MESSAGES}, [{"messages": MESSAGES}], "\n".join(json.dumps(one) for one in MESSAGES)],
)
def test_message_lists(tmp_path: Path, content: Any) -> None:
    assert turns(write(tmp_path, content, "chat.json")) == [
        ("system", "Be kind."),
        ("user", "Hi"),
        ("assistant", "Hello"),
    ]


def test_a_file_of_one_message_and_results_of_tools(tmp_path: Path) -> None:
    assert turns(write(tmp_path, MESSAGES[3])) == [("assistant", "Hello")]
    lines = [MESSAGES[1], MESSAGES[2], {"role": "tool", "tool_call_id": "1", "content": "42"}]
    assert turns(write(tmp_path, lines)) == [("user", "Hi"), ("tool", "42")]


@pytest.mark.parametrize("form", [Form.JSON, Form.JSONL])
def test_what_was_exported_comes_back_as_it_was(tmp_path: Path, form: Form) -> None:
    conversation = Conversation(id="1", name="trip", title="trip", turns=4, created="2026-01-01", updated="2026-01-02")
    said: list[tuple[Role, str]] = [
        ("user", " Hi\n"),
        ("assistant", "<tool>"),
        ("tool", "42"),
        ("transcript", "Ann: yo"),
    ]
    made = [
        Turn(id=number, role=role, text=text, state="done", created=f"2026-01-01T00:00:0{number}+00:00")
        for number, (role, text) in enumerate(said)
    ]
    other = Turn(id=9, role="assistant", text="another version", state="done", created="", shown=False)
    empty = Turn(id=10, role="assistant", text="", state="interrupted", created="")
    read = read_dialogues(write(tmp_path, exported(form, conversation, [*made, other, empty])))
    assert [(turn.role, turn.text) for turn in read[0].turns] == said
    assert [turn.created for turn in read[0].turns] == [datetime.fromisoformat(turn.created) for turn in made]
    assert read[0].id == ("trip" if form is Form.JSON else None)


@pytest.mark.parametrize("content", [EXPORT, [EXPORT]])
def test_a_chatgpt_export_gives_the_branch_last_seen(tmp_path: Path, content: Any) -> None:
    path = write(tmp_path, content, "conversations.json")
    assert turns(path) == [("user", "Hi"), ("assistant", "New")]
    assert read_dialogues(path)[0].id == "Dogs"


def message(role: str, text: str, **more: Any) -> dict[str, Any]:
    return {"author": {"role": role}, "content": {"content_type": "text", "parts": [text]}, **more}


def chain(*messages: dict[str, Any] | None) -> dict[str, Any]:
    """A ChatGPT conversation with one branch."""
    nodes = {
        str(at): {"id": str(at), "message": said, "parent": str(at - 1) if at else None, "children": [str(at + 1)]}
        for at, said in enumerate(messages)
    }
    return {"mapping": nodes, "current_node": str(len(messages) - 1)}


def test_a_chatgpt_export_keeps_what_was_said_in_words_and_when(tmp_path: Path) -> None:
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}
    export = chain(
        None,
        message("system", ""),
        message("system", "Be kind.", create_time=None),
        message("user", "hidden", metadata={"is_visually_hidden_from_conversation": True}),
        message("user", "[b]Hi\x1b[31m", create_time=1700000000.5, metadata={}),
        message("assistant", "search('x')", recipient="browser", create_time=1700000001),
        message("tool", "found it"),
        {"author": {"role": "assistant"}, "content": {"content_type": "thoughts", "thoughts": [{"summary": "x"}]}},
        {"author": {"role": "assistant"}, "content": {"parts": [picture, "Hello", ""]}, "recipient": "all"},
        message("user", "Bye", create_time=1e300),
    )
    said = read_dialogues(write(tmp_path, [export], "conversations.json"))[0].turns
    assert [(turn.role, turn.text) for turn in said] == [
        ("system", "Be kind."),
        ("user", "[b]Hi\x1b[31m"),
        ("assistant", "Hello"),
        ("user", "Bye"),
    ]
    times = [turn.created for turn in said]
    assert times == [None, datetime(2023, 11, 14, 22, 13, 20, 500_000, UTC), None, None]


@pytest.mark.parametrize("form", ["transcript", "roles"])
def test_what_was_said_in_a_dated_session_was_said_then(form: As, tmp_path: Path) -> None:
    dates = ["2024-03-03T09:30", "2024-03-04T09:30+02:00", "some time", None]
    sessions = [CHAT["sessions"][0] | {"date": date} for date in dates]
    said = read_dialogues(write(tmp_path, {"sessions": sessions}), form)[0].turns
    here = datetime(2024, 3, 3, 9, 30).astimezone()
    assert [turn.created for turn in said[::2]] == [here, datetime(2024, 3, 4, 7, 30, tzinfo=UTC), None, None]
    assert [turn.created for turn in said[1::2]] == [turn.created for turn in said[::2]]


def test_one_conversation_a_line_up_to_the_limit(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(FRIENDS | {"id": f"friends/{number}"}) for number in range(5))
    path = write(tmp_path, lines + "\n\n")
    assert [dialogue.id for dialogue in read_dialogues(path)] == [f"friends/{number}" for number in range(5)]
    assert len(read_dialogues(path, limit=2)) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps(FRIENDS) + "\n{broken\n", "line 2: this is not JSON"),
        ('{"sessions": [{"turns": [{"text": "who?"}]}]}', "'speaker' is missing"),
        ('[{"role": "robot", "content": "hi"}]', "message 1 has no role"),
        ('{"something": 1}', "expected sessions"),
        ("42", "expected an object"),
        ("", "holds no turns"),
        ('{"messages": []}', "holds no turns"),
    ],
)
def test_broken_files_are_refused_with_file_and_place(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(UsageError, match=r"file\.jsonl") as refused:
        read_dialogues(write(tmp_path, content))
    assert words in str(refused.value)


def test_a_missing_and_a_binary_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_dialogues(tmp_path / "none.jsonl")
    binary = tmp_path / "model.bin"
    binary.write_bytes(b"\x80\x00\xff" * 10)
    with pytest.raises(UsageError, match=r"model\.bin is not a text file"):
        read_dialogues(binary)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["sessions", "turns", "messages", "mapping", "role", "content", "x"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)


@given(value=JSON_VALUES)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_gives_turns_or_a_sentence(tmp_path: Path, value: Any) -> None:
    try:
        assert any(dialogue.turns for dialogue in read_dialogues(write(tmp_path, value)))
    except UsageError as refused:
        assert "file.jsonl" in str(refused)
