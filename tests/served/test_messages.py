"""What a server is sent of a conversation."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.agent.formats import SERVED
from assistant.orders import WorkerTurn
from assistant.protocol import Call, Calling, Role, ToolSpec
from assistant.served.messages import NoRoom, fit

ROOMY = 10**9
NUMBER = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
CALLING = Calling(
    tools=[
        ToolSpec(name="add", description="Add.", parameters=NUMBER),
        ToolSpec(name="now", description="The time.", parameters={"type": "object", "properties": {}}),
    ]
)


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
    history = turns(
        ("user", "Go"), ("assistant", text), ("tool", "2"), ("tool", "noon"), ("assistant", "2"), ("user", "?")
    )
    _, asked, first, second, last, _ = fit(history, ROOMY, nothing, CALLING).messages
    assert asked["content"] == "I will see."
    functions = [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in asked["tool_calls"]]
    assert functions == [("add", {"a": 1}), ("now", {})]
    ids = [one["id"] for one in asked["tool_calls"]]
    assert [first["tool_call_id"], second["tool_call_id"]] == ids
    assert all(len(one) == 9 and one.isalnum() for one in ids), "as the strictest templates want them"
    assert [first["content"], second["content"], last["content"]] == ["2", "noon", "2"]


def test_a_result_goes_to_the_call_that_could_be_made_and_complaints_are_told_in_words() -> None:
    """The history has the results of the calls that were made, then one turn on those that could not be."""
    text = SERVED.written([Call(name="add", arguments={"a": "x"}), Call(name="now", arguments={})])
    history = turns(("user", "Go"), ("assistant", text), ("tool", "noon"), ("tool", "a must be a number"))
    _, asked, result, complaint = fit(history, ROOMY, nothing, CALLING).messages
    (call,) = asked["tool_calls"]
    assert call["function"]["name"] == "now"
    assert (result["tool_call_id"], result["content"]) == (call["id"], "noon")
    assert (complaint["role"], complaint["content"]) == ("user", "Result of the call:\na must be a number")


@pytest.mark.parametrize("text", ["no call at all", SERVED.opening + '{"name": "add"', SERVED.written([])])
@pytest.mark.parametrize("calling", [None, CALLING])
def test_a_result_without_a_readable_call_is_told_in_words(text: str, calling: Calling | None) -> None:
    messages = fit(turns(("user", "Go"), ("assistant", text), ("tool", "2")), ROOMY, nothing, calling).messages
    said = [("assistant", text)] if text else []
    assert shown(messages)[-1][1].endswith("Result of the call:\n2")
    assert shown(messages)[1 : 1 + len(said)] == said
    assert all("tool_calls" not in message for message in messages)


def test_a_long_run_keeps_its_task_and_its_latest_steps() -> None:
    steps = []
    for number in range(8):
        steps += [
            ("assistant", SERVED.written([Call(name="add", arguments={"a": number})])),
            ("tool", f"{number}" * 400),
        ]
    fitted = fit(turns(("user", "The task."), *steps), 2000, nothing, CALLING)  # type: ignore[arg-type]
    roles = [message["role"] for message in fitted.messages]
    assert roles == ["user", *["assistant", "tool"] * (len(roles) // 2)]
    assert fitted.messages[0]["content"] == "The task."
    assert fitted.messages[-1]["content"] == "7" * 400
    assert fitted.left_out == 16 - (len(roles) - 1) > 0


def test_thoughts_are_not_sent_again() -> None:
    thought, cut_off = ("assistant", "<think>hm</think>\n\nYes"), ("assistant", "<think>and th")
    fitted = fit(turns(("user", "Go"), thought, ("user", "Why"), cut_off, ("user", "So?")), ROOMY, nothing)  # type: ignore[arg-type]
    assert shown(fitted.messages) == [("user", "Go"), ("assistant", "Yes"), ("user", "Why\n\nSo?")]


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
        fitted = fit(history, room, lambda _, size: "r" * max(0, size), CALLING)
    except NoRoom:
        return
    assert fitted.size <= room
    assert fitted.messages[-1]["role"] == "user"
    assert fitted.messages[-1]["content"].endswith(question)
    roles = [message["role"] for message in fitted.messages]
    assert all(first != second for first, second in pairwise(roles) if first != "tool")
    ids = {call["id"] for message in fitted.messages for call in message.get("tool_calls", ())}
    assert ids == {message["tool_call_id"] for message in fitted.messages if message["role"] == "tool"}
