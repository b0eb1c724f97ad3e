"""/v1/chat/completions, asked by OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from openai import (
    APIError,
    APIStatusError,
    BadRequestError,
    NotFoundError,
    OpenAI,
    RateLimitError,
    UnprocessableEntityError,
)

from assistant.client import Client
from assistant.places import Places
from assistant.protocol import AskRequest, Piece, Queued
from tests.assistant.talk import eventually, until, with_client
from tests.assistant.v1.conftest import open_client
from tests.conftest import RunningDaemon

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}
TASK = 'Rain?\ncall weather {"town": "Oslo"} & weather {"town": "Bergen"}\nIt rains in Bergen.'


def ask(openai: OpenAI, *messages: Any, **fields: Any) -> Any:
    said = [{"role": "user", "content": one} if isinstance(one, str) else one for one in messages]
    return openai.chat.completions.create(model="fake", messages=said, **fields)


def text_of(reply: Any) -> str:
    return str(reply.choices[0].message.content)


def turns_of(openai: OpenAI, *messages: Any, **fields: Any) -> Any:
    """What the model was given, each turn as [role, text, read before]."""
    return json.loads(text_of(ask(openai, *messages, {"role": "user", "content": "turns"}, **fields)))


def test_a_reply_with_its_usage(openai: OpenAI) -> None:
    reply = ask(
        openai, {"role": "developer", "content": "Be kind."}, "hello", user="me", store=True, metadata={"a": "b"}
    )
    choice = reply.choices[0]
    assert "> hello" in choice.message.content
    assert (choice.finish_reason, choice.message.role, choice.message.tool_calls) == ("stop", "assistant", None)
    usage = reply.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (len("Be kind.hello"), len(choice.message.content))
    assert usage.prompt_tokens_details.cached_tokens == 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    ours = reply.assistant
    assert ours["conversation"].startswith("api ")
    assert (ours["budget_bytes"], ours["mode"], ours["computed_tokens"]) == (900 * 2**20, "bounded", 13)


def test_a_streamed_reply_is_the_same_text(openai: OpenAI) -> None:
    whole = text_of(ask(openai, "hello"))
    chunks = list(ask(openai, "hello", stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole
    assert len(chunks) > 5
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[-3:-1]] == [None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == len(whole)
    assert chunks[-1].assistant["completion_tokens"] == len(whole)
    assert {chunk.usage for chunk in ask(openai, "hello", stream=True)} == {None}


def test_a_tool_is_called_and_its_result_read(openai: OpenAI) -> None:
    first = ask(openai, TASK, tools=[WEATHER])
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]
    assert calls == [("weather", {"town": "Oslo"}), ("weather", {"town": "Bergen"})]
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": [{"type": "text", "text": word}]}
        for call, word in zip(message.tool_calls[::-1], ("wet", "dry"), strict=True)
    ]
    asked = [TASK, message.model_dump(exclude_none=True), *results]
    second = ask(openai, *asked, tools=[WEATHER])
    assert text_of(second) == "It rains in Bergen."
    assert second.assistant["conversation"] == first.assistant["conversation"]
    assert second.usage.prompt_tokens_details.cached_tokens == first.usage.total_tokens

    async def roles(client: Client) -> list[tuple[str, str]]:
        return [(turn.role, turn.text) for turn in await client.turns(first.assistant["conversation"])][2:4]

    assert with_client(roles) == [("tool", "dry"), ("tool", "wet")], "results come in the order of their calls"


def test_streamed_calls_come_as_calls_and_never_as_text(openai: OpenAI) -> None:
    script = 'Rain?\nmark I look < here. | weather {"town": "Oslo"} & weather {"town": "Bergen"}'
    chunks = list(ask(openai, script, tools=[WEATHER], stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    said = [delta.content for delta in deltas if delta.content]
    assert "".join(said).strip() == "I look < here."
    assert len(said) > 3
    whole = ask(openai, script, tools=[WEATHER]).choices[0].message
    assert (whole.content, len(whole.tool_calls)) == ("I look < here.", 2)
    parts = [part for delta in deltas for part in delta.tool_calls or ()]
    for index, town in enumerate(("Oslo", "Bergen")):
        opened, arguments = (part for part in parts if part.index == index)
        assert (opened.function.name, opened.type) == ("weather", "function")
        assert opened.id.startswith("call_")
        assert json.loads(opened.function.arguments + arguments.function.arguments) == {"town": town}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_choice_of_tools_comes_through(openai: OpenAI) -> None:
    def told(choice: Any, **fields: Any) -> Any:
        reply = ask(openai, "which\ncalling", tools=[WEATHER], tool_choice=choice, **fields)
        return json.loads(text_of(reply))

    names = ("may_call", "must_call", "only", "one")
    assert [told("auto")[name] for name in names] == [True, False, None, False]
    assert [told("none")[name] for name in names] == [False, False, None, False]
    assert [told("required", parallel_tool_calls=False)[name] for name in names] == [True, True, None, True]
    named = {"type": "function", "function": {"name": "weather"}}
    assert [told(named)[name] for name in names] == [True, True, ["weather"], False]
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named]}}
    assert [told(allowed)[name] for name in names] == [True, False, ["weather"], False]


def test_a_schema_constrains_the_reply(openai: OpenAI) -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    assert json.loads(text_of(ask(openai, "x\ncalling", response_format=form)))["answer"] == schema
    anything = ask(openai, "x\ncalling", response_format={"type": "json_object"})
    assert json.loads(text_of(anything))["answer"] == {"type": "object"}
    assert text_of(ask(openai, "calling", response_format={"type": "text"})) == "nothing"


def test_decoding_parameters_come_through(openai: OpenAI) -> None:
    fields: Any = {"temperature": 1, "top_p": 0.5, "seed": 7, "stop": "END", "max_completion_tokens": 9}
    told = json.loads(text_of(ask(openai, "sampling", **fields, extra_body={"top_k": 3})))
    assert (told["temperature"], told["top_p"], told["seed"], told["stop"]) == (1.0, 0.5, 7, ["END"])
    assert (told["max_tokens"], told["top_k"]) == (9, 3)
    assert json.loads(text_of(ask(openai, "sampling", stop=["a", "b"], max_tokens=5)))["stop"] == ["a", "b"]


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_of_every_token(openai: OpenAI, stream: bool) -> None:
    reply = ask(openai, "long 3", logprobs=True, top_logprobs=2, stream=stream)
    choices = [chunk.choices[0] for chunk in reply] if stream else [reply.choices[0]]
    tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.content]
    assert [(token.token, token.logprob) for token in tokens] == [(f"word{number} ", -0.5) for number in range(3)]
    assert bytes(tokens[0].bytes) == b"word0 "
    assert [one.token for one in tokens[0].top_logprobs] == ["or0", "or1"]


def test_a_conversation_by_name_has_the_long_memory(openai: OpenAI) -> None:
    def told(*messages: Any) -> Any:
        return turns_of(openai, *messages, extra_body={"conversation": "trip"})

    system = {"role": "system", "content": "Be kind."}
    first = told(system, "hello")
    assert [turn[:2] for turn in first] == [["system", "Be kind."], ["user", "hello"], ["user", "turns"]]
    second = told(system, "forgotten", {"role": "assistant", "content": "whatever"}, "and now?")
    assert [turn[1] for turn in second[1:]] == ["hello", "turns", json.dumps(first), "and now?", "turns"]
    assert [turn[2] for turn in second] == [True, True, True, True, False, False]
    with pytest.raises(BadRequestError, match="another system prompt"):
        told({"role": "system", "content": "Be rude."}, "hello")
    with pytest.raises(BadRequestError, match="cannot be used with 'conversation'"):
        ask(openai, "hello", tools=[WEATHER], extra_body={"conversation": "trip"})


def test_a_client_that_goes_away_cancels(openai: OpenAI) -> None:
    stream = ask(openai, "slow", stream=True)
    assert any(chunk.choices[0].delta.content for chunk in stream)
    stream.close()

    async def interrupted(client: Client) -> None:
        async def ended() -> bool:
            found = [one for one in await client.conversations(archived=True) if one.archived]
            return [turn.state for turn in await client.turns(found[0].name)] == ["done", "interrupted"]

        await eventually(ended, "the reply is interrupted")

    with_client(interrupted)
    assert ask(openai, "hello").choices[0].finish_reason == "stop"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "'n'"),
    ({"logit_bias": {"5": 1}}, "'logit_bias'"),
    ({"frequency_penalty": 0.5}, "'frequency_penalty'"),
    ({"modalities": ["text", "audio"]}, "'modalities'"),
    ({"extra_body": {"functions": [{"name": "f"}]}}, "'functions'"),
    ({"extra_body": {"beam_width": 3}}, "'beam_width'"),
    ({"top_logprobs": 3}, "needs 'logprobs'"),
    ({"tool_choice": "required"}, "There are no tools"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "sun"}}}, "no tool 'sun'"),
    ({"tools": [WEATHER, WEATHER]}, "two tools 'weather'"),
]


@pytest.mark.parametrize(("fields", "says"), REFUSED)
def test_what_cannot_be_done_is_refused_by_name(openai: OpenAI, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequestError, match=says) as refused:
        ask(openai, "hello", **fields)
    assert refused.value.type == "invalid_request_error"


IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
CALLS = {
    "role": "assistant",
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
}
BAD_MESSAGES: list[tuple[list[Any], str, str]] = [
    ([IMAGE], "reads text only", "messages.0.content"),
    (
        ["hello", {"role": "tool", "tool_call_id": "c1", "content": "x"}],
        "belongs to no call",
        "messages.1.tool_call_id",
    ),
    (["hello", CALLS, "well?"], "'c1' has no result", "messages.2"),
    ([""], "None of the messages says anything", "messages"),
]


@pytest.mark.parametrize(("messages", "says", "param"), BAD_MESSAGES)
def test_messages_that_cannot_be_read_are_refused(openai: OpenAI, messages: list[Any], says: str, param: str) -> None:
    with pytest.raises(BadRequestError, match=says) as refused:
        ask(openai, *messages, tools=[WEATHER])
    assert refused.value.param == param


@pytest.mark.parametrize(
    "fields", [{"temperature": 3}, {"max_tokens": 0}, {"seed": True}, {"top_p": "1"}, {"stop": [""]}]
)
def test_numbers_out_of_range_are_refused(openai: OpenAI, fields: dict[str, Any]) -> None:
    with pytest.raises(UnprocessableEntityError) as refused:
        ask(openai, "hello", **fields)
    assert refused.value.param
    assert refused.value.param.startswith(next(iter(fields)))


def test_an_unknown_model_is_not_found(openai: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="no model 'gpt-9'") as refused:
        openai.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "hello"}])
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        ("overflow", 400, "context_length_exceeded"),
        ("fail 5 No.", 400, "budget_exceeded"),
        ("crash-at-once", 500, None),
    ],
)
def test_what_ends_before_the_first_word_has_its_status(
    openai: OpenAI, script: str, status: int, code: str | None, stream: bool
) -> None:
    with pytest.raises(APIStatusError) as refused:
        ask(openai, script, stream=stream)
    assert (refused.value.status_code, refused.value.code) == (status, code)
    if script == "overflow":
        assert "5,000 of 4,000" in refused.value.message


def test_a_reply_that_breaks_off_says_so_in_the_stream(openai: OpenAI) -> None:
    with pytest.raises(APIError, match="SIGKILL"):
        list(ask(openai, "crash", stream=True))


def test_a_full_queue_says_when_to_come_again(start_daemon: Callable[..., RunningDaemon], places: Places) -> None:
    start_daemon(ASSISTANT_QUEUE="1")

    async def scene(client: Client) -> None:
        running, waiting = (client.ask(name, AskRequest(text="slow")) for name in ("first", "second"))
        await until(running, Piece)
        await until(waiting, Queued)
        with open_client(places) as openai, pytest.raises(RateLimitError, match="nothing was stored") as refused:
            await asyncio.to_thread(ask, openai, "hello")
        assert refused.value.response.headers["Retry-After"] == "5"
        assert await client.stop("second")
        assert await client.stop("first")

    with_client(scene)
