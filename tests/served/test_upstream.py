"""A server of OpenAI's API, on a real socket: what is understood of it, and what is said where it cannot be."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.errors import AssistantError, Exit
from assistant.orders import ServerSpec
from assistant.served.reply import Reply
from assistant.served.upstream import TooLongThere, Upstream, key_of
from tests.served.server import DONE, Body, Server, chunk, saying, spent


def collect(upstream: Upstream) -> Reply:
    """The whole reply."""

    async def run() -> Reply:
        reply = Reply()
        async for one in upstream.reply({"messages": []}):
            reply.take(one)
        reply.ending()
        return reply

    return asyncio.run(run())


def of(*events: str) -> Reply:
    with Server(lambda _: iter([*events, DONE])) as server:
        return collect(Upstream(ServerSpec(url=server.url)))


def test_a_reply_with_its_count() -> None:
    with Server(saying("Hel", "lo", prompt=7, cached=5)) as server:
        reply = collect(Upstream(ServerSpec(url=server.url)))
    assert (reply.text, reply.finish, reply.pieces) == ("Hello", "stop", 2)
    assert reply.spent is not None
    assert (reply.spent.prompt_tokens, reply.spent.completion_tokens, reply.spent.cached) == (7, 2, 5)


def test_a_reply_that_reached_its_limit_and_a_server_that_counts_nothing() -> None:
    with Server(saying("one", finish="length", prompt=None)) as server:
        reply = collect(Upstream(ServerSpec(url=server.url)))
    assert (reply.finish, reply.spent) == ("length", None)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_stand_between_their_marks(name: str) -> None:
    assert of(chunk(**{name: "h"}), chunk(**{name: "m"}), chunk(content="Yes")).text == "<think>hm</think>\n\nYes"
    assert of(chunk(**{name: "hm"})).text == "<think>hm</think>"


def test_calls_come_in_parts_and_are_kept_as_the_history_keeps_them() -> None:
    reply = of(
        chunk(content="Wait."),
        chunk(tool_calls=[{"index": 0, "id": "x", "function": {"name": "add", "arguments": ""}}]),
        chunk(tool_calls=[{"index": 1, "function": {"name": "now"}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"a":'}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": " 1}"}}]),
        chunk("tool_calls"),
    )
    assert reply.text == (
        'Wait.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    )


@pytest.mark.parametrize("ids", [("x", "y"), (None, None)])
def test_calls_that_all_have_one_number_are_told_apart(ids: tuple[str | None, str | None]) -> None:
    first, second = (
        {"index": 0, "id": one, "function": {"name": name, "arguments": "{}"}}
        for one, name in zip(ids, ("add", "now"), strict=True)
    )
    reply = of(chunk(tool_calls=[first]), chunk(tool_calls=[second]), chunk("tool_calls"))
    assert [(call.name, call.arguments) for call in reply.calls] == [("add", "{}"), ("now", "{}")]


def refused(script: Any, url: str | None = None, **spec: Any) -> AssistantError:
    with Server(script) as server, pytest.raises(AssistantError) as caught:
        collect(Upstream(ServerSpec(url=url or server.url, **spec)))
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "code", "words"),
    [
        (401, {"error": {"message": "no", "code": "invalid_api_key"}}, Exit.MODEL, "key_env or key_file"),
        (404, {"error": {"message": "There is no model"}}, Exit.MODEL, "There is no model"),
        (429, {"error": {"message": "busy"}}, Exit.FAILED, "answered 429: busy."),
        (500, "<html>", Exit.FAILED, "answered 500."),
        (302, "", Exit.FAILED, "answered 302."),
        (400, {"error": "flat \x1b[31mtext\n"}, Exit.FAILED, "answered 400: flat [31mtext."),
    ],
)
def test_refusals_are_sentences(status: int, body: Body | str, code: Exit, words: str) -> None:
    error = refused(lambda _: (status, body))
    assert words in str(error)
    assert error.exit_code == code
    assert "http://127.0.0.1" in str(error)


@pytest.mark.parametrize(
    "refusal",
    [
        {"message": "This model's maximum context length is 8192 tokens."},
        {"message": "too much", "code": "context_length_exceeded"},
        {"message": "too much", "code": 400, "type": "exceed_context_size_error"},
        {"message": "the request exceeds the available context size"},
        {"message": "Requested tokens (9000) exceed context window of 8192"},
    ],
)
@pytest.mark.parametrize("flat", [False, True])
def test_a_prompt_that_is_too_long_is_told_apart(refusal: Body, flat: bool) -> None:
    body = {"object": "error"} | refusal if flat else {"error": refusal}
    told = "type" in refusal or "code" in refusal
    error = refused(lambda _: (400, body))
    assert isinstance(error, TooLongThere) or (flat and told)
    assert refusal["message"][:20] in str(error)


def test_a_server_that_quotes_the_key_does_not_get_it_into_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIG_KEY", "sk-secret-12345")
    error = refused(lambda _: (401, {"error": {"message": "no such key: sk-secret-12345"}}), key_env="BIG_KEY")
    assert "no such key: [key]" in str(error)
    assert "sk-secret" not in str(error)


def test_no_proxy_hears_of_what_goes_over_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Server(saying("direct")) as server:
        assert collect(Upstream(ServerSpec(url=server.url))).text == "direct"


def ending_early(body: Body) -> Iterator[str]:
    yield chunk(content="Hel")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (ending_early, "in the middle"),
        (lambda _: iter([chunk(content="Hel"), '{"error": {"message": "out of memory"}}']), "out of memory"),
        (lambda _: iter(['{"object": "error", "message": "flat out of memory"}']), "flat out of memory"),
        (lambda _: iter(["not json"]), "does not speak OpenAI's API"),
        (lambda _: iter(['{"choices": 3}']), "does not speak OpenAI's API: choices"),
        (lambda _: (200, {"choices": []}), "does not answer"),
        (lambda _: iter(['{"choices": [], "usage": {"prompt_tokens": -1}}']), "does not speak"),
    ],
)
def test_a_stream_that_is_none(script: Any, words: str) -> None:
    assert words in str(refused(script))


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = refused(saying("x"), f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
    assert "does not answer" in str(error)
    assert "Is the server running?" in str(error)


def test_which_model() -> None:
    listed: list[Body] = [{"id": "one", "context_length": 9}, {"id": "two", "max_model_len": 7, "extra": None}]
    with Server(saying("x"), *listed) as server:
        first, second = (asyncio.run(Upstream(ServerSpec(url=server.url, model=one)).model()) for one in ("", "two"))
        with pytest.raises(AssistantError, match=r"no model 'three'. It lists: one, two\.") as caught:
            asyncio.run(Upstream(ServerSpec(url=server.url, model="three")).model())
    assert (first.id, first.context, second.id, second.context) == ("one", 9, "two", 7)
    assert caught.value.exit_code == Exit.MODEL


def test_the_key_is_sent_and_only_where_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not for everybody")
    monkeypatch.setenv("BIG_KEY", "from-env")
    (tmp_path / "key").write_text("from-file\n")
    with Server(saying("x")) as server:
        for named in ({}, {"key_env": "BIG_KEY"}, {"key_file": str(tmp_path / "key")}):
            collect(Upstream(ServerSpec(url=server.url, **named)))
    assert server.keys == [None, "Bearer from-env", "Bearer from-file"]


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY, which is not set"),
        ({"key_file": "/no/such/file"}, "cannot be read from /no/such/file: No such file"),
        ({"key_file": "/dev/null"}, "is no key"),
    ],
)
def test_a_key_that_is_not_there(named: dict[str, str], words: str) -> None:
    with pytest.raises(AssistantError, match=words) as caught:
        key_of(ServerSpec(url="http://x", **named))
    assert caught.value.exit_code == Exit.MODEL


def test_spent_without_details() -> None:
    reply = of(chunk(content="x"), spent(3, 1))
    assert reply.spent is not None
    assert reply.spent.cached == 0
