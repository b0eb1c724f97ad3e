"""What a server is sent of a conversation."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.agent.formats import SERVED
from assistant.protocol import Call, Role, WorkerTurn
from assistant.served.messages import NoRoom, fit

ROOMY = 10**9


def turns(*said: tuple[Role, str]) -> list[WorkerTurn]:
    return [WorkerTurn(id=at, role=role, text=text) for at, (role, text) in enumerate(said)]


def nothing(sent: set[int], room: int) -> str:
    return ""


def shown(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages]


def test_what_fits_is_sent_whole_and_nothing_is_recalled() -> None:
    def unasked(sent: set[int], room: int) -> str:
        raise AssertionError("there is nothing to recall")

    fitted = fit(
        turns(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")), ROOMY, unasked
    )
    assert shown(fitted.messages) == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Bye"),
    ]
    assert (fitted.left_out, fitted.recalled) == (0, 0)


def test_neighbours_of_one_role_become_one_message() -> None:
    fitted = fit(turns(("transcript", "Ann: one"), ("transcript", "Bob: two"), ("user", "Who?")), ROOMY, nothing)
    assert shown(fitted.messages) == [("user", "Ann: one\n\nBob: two\n\nWho?")]


def test_calls_and_their_results_are_messages_of_their_own() -> None:
    calls = [Call(name="add", arguments={"a": 1}), Call(name="now", arguments={})]
    text = "I will see.\n" + SERVED.written(calls)
    said = turns(("user", "Go"), ("assistant", text), ("tool", "2"), ("tool", "noon"), ("assistant", "2 at noon"))
    _, asked, first, second, last = fit([*said, *turns(("user", "Thanks"))], ROOMY, nothing).messages[:5]
    assert asked["content"] == "I will see."
    functions = [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in asked["tool_calls"]]
    assert functions == [("add", {"a": 1}), ("now", {})]
    assert [first["tool_call_id"], second["tool_call_id"]] == [one["id"] for one in asked["tool_calls"]]
    assert [first["content"], second["content"], last["content"]] == ["2", "noon", "2 at noon"]


@pytest.mark.parametrize("text", ["no call at all", SERVED.opening + '{"name": "add"', SERVED.written([])])
def test_a_result_without_a_readable_call_is_told_in_words(text: str) -> None:
    messages = fit(turns(("user", "Go"), ("assistant", text), ("tool", "2")), ROOMY, nothing).messages
    assert shown(messages)[1:] == [("assistant", text), ("user", "Result of the call:\n2")]
    assert all("tool_calls" not in message for message in messages)


def test_thoughts_are_not_sent_again() -> None:
    messages = fit(turns(("user", "Go"), ("assistant", "<think>hm</think>\n\nYes"), ("user", "Why")), ROOMY, nothing)
    assert ("assistant", "Yes") in shown(messages.messages)


def test_the_latest_exchanges_are_sent_and_the_others_stood_in_for() -> None:
    said = [
        (role, f"{number}{word * 100}") for number in range(10) for role, word in (("user", "a"), ("assistant", "b"))
    ]
    history = turns(("system", "Rules."), *said, ("user", "So?"))  # type: ignore[arg-type]
    asked: list[tuple[set[int], int]] = []

    def recall(sent: set[int], room: int) -> str:
        asked.append((sent, room))
        return "[1 May]\nuser: once"

    fitted = fit(history, 1500, recall)
    ((sent, room),) = asked
    assert fitted.left_out == len(history) - 1 - len(sent) > 0
    assert sent == {turn.id for turn in history[-len(sent) :]}, "the latest"
    assert history[-len(sent)].role == "user", "an exchange begins with what is asked"
    assert room >= 1500 / 4 - 200
    assert shown(fitted.messages)[0] == ("system", "Rules.")
    role, question = shown(fitted.messages)[-1]
    assert role == "user"
    assert "[1 May]\nuser: once" in question
    assert question.endswith("So?")
    assert fitted.recalled > 0


def test_a_question_that_cannot_fit_is_refused_with_the_sizes() -> None:
    with pytest.raises(NoRoom) as caught:
        fit(turns(("user", "a"), ("assistant", "b"), ("user", "c" * 500)), 400, nothing)
    assert caught.value.needed > 500
    assert caught.value.room == 400


ROLES = st.sampled_from(["system", "user", "assistant", "tool", "transcript"])


@given(st.lists(st.tuples(ROLES, st.text(max_size=60)), max_size=30), st.text(max_size=40), st.integers(100, 2000))
def test_never_more_than_fits_and_always_the_question(said: Any, question: str, room: int) -> None:
    history = turns(*said, ("user", question))
    try:
        fitted = fit(history, room, lambda _, size: "r" * max(0, size))
    except NoRoom:
        return
    assert fitted.size <= room
    assert fitted.messages[-1]["role"] == "user"
    assert fitted.messages[-1]["content"].endswith(question)
    roles = [message["role"] for message in fitted.messages]
    assert all(first != second for first, second in pairwise(roles) if first in ("user", "system"))
    ids = {call["id"] for message in fitted.messages for call in message.get("tool_calls", ())}
    assert ids == {message["tool_call_id"] for message in fitted.messages if message["role"] == "tool"}
