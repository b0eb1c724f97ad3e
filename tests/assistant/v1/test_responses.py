"""/v1/responses, asked by OpenAI's own client: ids that can be gone on from, and events in their order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a town.",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    "strict": True,
}
TASK = 'Rain?\ncall weather {"town": "Oslo"}\nIt rains.'


def ask(openai: OpenAI, said: Any, **fields: Any) -> Any:
    return openai.responses.create(model="fake", input=said, **fields)


def turns_of(reply: Any) -> list[list[Any]]:
    """What the model was given, each turn as [role, text, read before]."""
    found: list[list[Any]] = json.loads(reply.output_text)
    return found


def test_a_response_and_its_usage(openai: OpenAI) -> None:
    reply = ask(openai, "hello you", instructions="Be brief.", temperature=0.5, max_output_tokens=200)
    assert "> hello you" in reply.output_text
    assert (reply.status, reply.error, reply.incomplete_details) == ("completed", None, None)
    assert (reply.instructions, reply.temperature, reply.max_output_tokens) == ("Be brief.", 0.5, 200)
    assert reply.usage.input_tokens == len("Be brief.hello you")
    assert reply.usage.output_tokens == len(reply.output_text)
    assert reply.assistant["conversation"].startswith("api ")


def test_it_goes_on_from_an_id(openai: OpenAI) -> None:
    first = ask(openai, "one and one")
    second = ask(openai, "turns", previous_response_id=first.id)
    assert turns_of(second) == [
        ["user", "one and one", True],
        ["assistant", first.output_text, True],
        ["user", "turns", False],
    ]
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens_details.cached_tokens == first.usage.total_tokens
    other = ask(openai, "turns", previous_response_id=first.id)
    assert [turn[1] for turn in turns_of(other)] == ["one and one", first.output_text, "turns"], "it forks there"
    assert other.assistant["conversation"] != second.assistant["conversation"]
    third = ask(openai, "turns", previous_response_id=second.id)
    assert [turn[1] for turn in turns_of(third)][2:] == ["turns", second.output_text, "turns"]


def test_other_instructions_take_the_place_of_those_before(openai: OpenAI) -> None:
    first = ask(openai, "hello", instructions="Speak like a pirate.")
    second = ask(openai, "turns", instructions="Speak like a judge.", previous_response_id=first.id)
    assert [turn[:2] for turn in turns_of(second)] == [
        ["system", "Speak like a judge."],
        ["user", "hello"],
        ["assistant", first.output_text],
        ["user", "turns"],
    ]
    third = ask(openai, "turns", previous_response_id=second.id)
    assert [turn[0] for turn in turns_of(third)] == ["user", "assistant", "user", "assistant", "user"]


@pytest.mark.parametrize("by_id", [True, False])
def test_a_tool_is_called_and_its_result_read(openai: OpenAI, by_id: bool) -> None:
    first = ask(openai, TASK, tools=[WEATHER])
    (call,) = first.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", {"town": "Oslo"})
    result = {"type": "function_call_output", "call_id": call.call_id, "output": f"wet {by_id}"}
    if by_id:
        second = ask(openai, [result], tools=[WEATHER], previous_response_id=first.id)
    else:
        said = [{"role": "user", "content": TASK}, call.model_dump(exclude_none=True), result]
        second = ask(openai, said, tools=[WEATHER])
    assert second.output_text == "It rains."
    assert second.assistant["conversation"] == first.assistant["conversation"]
    assert second.usage.input_tokens_details.cached_tokens == first.usage.total_tokens


def test_a_result_must_answer_the_call_before(openai: OpenAI) -> None:
    first = ask(openai, TASK + " ", tools=[WEATHER])
    with pytest.raises(BadRequestError, match="has no result"):
        ask(openai, "well?", tools=[WEATHER], previous_response_id=first.id)


def test_streamed_text_comes_in_the_order_of_events(openai: OpenAI) -> None:
    with openai.responses.stream(model="fake", input="long 4") as stream:
        kinds = [event.type for event in stream]
        whole = stream.get_final_response()
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 4,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert whole.output_text == "word0 word1 word2 word3 "
    assert openai.responses.retrieve(whole.id).output_text == whole.output_text


def test_streamed_calls_have_their_events_and_numbers_without_a_gap(openai: OpenAI) -> None:
    script = 'Rain?\nmark Look. | weather {"town": "Oslo"}'
    events: list[Any] = list(ask(openai, script, tools=[WEATHER], stream=True))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-8:] == [
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert json.loads(events[-4].delta) == json.loads(events[-3].arguments) == {"town": "Oslo"}
    assert {event.output_index for event in events[-5:-1]} == {1}
    said, call = events[-1].response.output
    assert (said.content[0].text, call.call_id) == ("Look.", events[-2].item.call_id)


def test_a_stored_response_is_told_again(openai: OpenAI) -> None:
    reply = ask(openai, "hello", instructions="Be long.", tools=[WEATHER], tool_choice="none")
    again = openai.responses.retrieve(reply.id)
    assert again.model_dump(exclude={"created_at"}) == reply.model_dump(exclude={"created_at"})
    called = ask(openai, TASK, tools=[WEATHER])
    assert openai.responses.retrieve(called.id).output == called.output


def test_a_schema_constrains_the_reply(openai: OpenAI) -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}}
    form: Any = {"format": {"type": "json_schema", "name": "answer", "schema": schema}}
    assert json.loads(ask(openai, "x\ncalling", text=form).output_text)["answer"] == schema


def test_logprobs_are_told_where_they_are_asked_for(openai: OpenAI) -> None:
    reply = ask(openai, "long 2", top_logprobs=1, include=["message.output_text.logprobs"])
    assert [one.token for one in reply.output[0].content[0].logprobs] == ["word0 ", "word1 "]


def test_a_reply_that_breaks_off_has_failed(openai: OpenAI) -> None:
    events: list[Any] = list(ask(openai, "crash", stream=True))
    assert events[-1].type == "response.failed"
    assert "SIGKILL" in events[-1].response.error.message
    kept = openai.responses.retrieve(events[0].response.id)
    assert (kept.status, kept.output_text) == ("incomplete", "These words were written ")
    with pytest.raises(BadRequestError, match="did not become whole"):
        ask(openai, "hello", previous_response_id=kept.id)


def test_a_conversation_by_name_has_the_long_memory(openai: OpenAI) -> None:
    ask(openai, "hello", conversation="log book")
    reply = ask(openai, "turns", conversation={"id": "log book"})
    assert [turn[0] for turn in turns_of(reply)] == ["user", "assistant", "user"]
    assert openai.responses.retrieve(reply.id).output_text == reply.output_text
    with pytest.raises(BadRequestError, match="long memory"):
        ask(openai, "hello", previous_response_id=reply.id)


@pytest.mark.parametrize("unknown", ["resp_99999999", "resp_x", "resp_01", "../turns"])
def test_an_unknown_response_is_not_found(openai: OpenAI, unknown: str) -> None:
    with pytest.raises(NotFoundError) as refused:
        ask(openai, "hello", previous_response_id=unknown)
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")
    if "/" not in unknown:
        with pytest.raises(NotFoundError, match="There is no response"):
            openai.responses.retrieve(unknown)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"background": True}, "'background'"),
    ({"prompt": {"id": "p"}}, "'prompt'"),
    ({"include": ["file_search_call.results"]}, "'include'"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "reads text only"),
    ({"conversation": "x", "previous_response_id": None, "tools": [WEATHER]}, "cannot be used with 'conversation'"),
]


@pytest.mark.parametrize(("fields", "says"), REFUSED)
def test_what_cannot_be_done_is_refused_by_name(openai: OpenAI, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequestError, match=says):
        openai.responses.create(**({"model": "fake", "input": "hello"} | fields))
