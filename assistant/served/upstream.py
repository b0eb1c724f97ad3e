"""A server that speaks OpenAI's API: its models, one streamed reply, its refusals as our errors."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from assistant.errors import AssistantError, ModelError
from assistant.orders import ServerSpec
from assistant.served.wire import Chunk, Listed, ModelList, Refusal, Refused

CONNECT_S = 10.0
SILENCE_S = 600.0
"""A long prompt takes a server minutes, in which some of them send nothing."""
LONGEST_REASON = 300

T = TypeVar("T", bound=BaseModel)


class TooLongThere(AssistantError):
    """The server refused a prompt as longer than its model reads."""


class Upstream:
    """The server of one model. Every failure is an AssistantError that names its address."""

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec

    async def model(self) -> Listed:
        """The model that is to be used.

        Raises:
            ModelError: the server has none of that name, or lets us not in.
            AssistantError: it does not answer, or not in OpenAI's way.
        """
        async with self._open(CONNECT_S) as http:
            answer = await http.get(f"{self.spec.url}/models")
            self._raise_for(answer)
            found = self._read(ModelList, answer.text).data
        named = [one for one in found if self.spec.model in ("", one.id)]
        if not named:
            known = ", ".join(one.id for one in found[:8]) or "none"
            raise ModelError(f"{self.spec.url} has no model {self.spec.model!r}. It lists: {known}.")
        return named[0]

    async def reply(self, body: dict[str, Any]) -> AsyncGenerator[Chunk]:
        """The events of one streamed chat completion.

        Raises:
            TooLongThere: the prompt is longer than the model reads.
            ModelError: the server lets us not in, or has no such model.
            AssistantError: it does not answer, refuses for another reason, or ends in the middle.
        """
        whole = False
        async with self._open() as http, http.sse(f"{self.spec.url}/chat/completions", method="POST", json=body) as got:
            if not got.response.is_success:
                await got.response.aread()
                self._raise_for(got.response)
            async for event in got:
                whole = event.data == "[DONE]"
                if whole:
                    break
                chunk = self._read(Chunk, event.data)
                if (refusal := chunk.refusal) is not None:
                    raise self._refused(got.response.status_code, refusal)
                yield chunk
        if not whole:
            raise AssistantError(f"{self.spec.url} ended its reply in the middle. What was written is kept.")

    @asynccontextmanager
    async def _open(self, silence_s: float = SILENCE_S) -> AsyncIterator[httpx2.AsyncClient]:
        key = key_of(self.spec)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx2.Timeout(silence_s, connect=CONNECT_S)
        # A proxy would read what goes over plain HTTP, the key included.
        proxied = self.spec.url.startswith("https:")
        try:
            async with httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=proxied) as http:
                yield http
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            why = _printable(str(error)) or type(error).__name__
            raise AssistantError(f"{self.spec.url} does not answer ({why}). Is the server running?") from error

    def _raise_for(self, answer: httpx2.Response) -> None:
        if answer.is_success:
            return
        try:
            refusal = Refused.model_validate_json(answer.content).refusal
        except ValidationError:
            refusal = None
        raise self._refused(answer.status_code, refusal or Refusal())

    def _refused(self, status: int, refusal: Refusal) -> AssistantError:
        said = _printable(self._without_key(refusal.message)).rstrip(".")
        why = f"{self.spec.url} answered {status}" + (f": {said}." if said else ".")
        if refusal.too_long:
            return TooLongThere(why)
        if status in (401, 403):
            return ModelError(f"{why} Name its key in the catalogue: key_env or key_file (docs/server.md).")
        return ModelError(why) if status == 404 else AssistantError(why)

    def _without_key(self, text: str) -> str:
        """What a server says, which may quote the key."""
        key = key_of(self.spec)
        return text.replace(key, "[key]") if key else text

    def _read(self, kind: type[T], text: str) -> T:
        try:
            return kind.model_validate_json(text)
        except ValidationError as error:
            raise AssistantError(f"{self.spec.url} does not speak OpenAI's API: {_first(error)}.") from None


def key_of(spec: ServerSpec) -> str | None:
    """What lets us in; None where nothing is named.

    Raises:
        ModelError: it is named and not there; the text says where it was looked for.
    """
    if spec.key_env is not None:
        if not (key := os.environ.get(spec.key_env, "").strip()):
            raise ModelError(
                f"The key of {spec.url} should be in {spec.key_env}, which is not set. Set it where the daemon is "
                "started, then run: assistant daemon restart"
            )
        return _sendable(key, spec.key_env)
    if spec.key_file is not None:
        path = Path(spec.key_file).expanduser()
        try:
            return _sendable(path.read_text("utf-8").strip(), str(path))
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ModelError(f"The key of {spec.url} cannot be read from {path}: {why}.") from None
    return None


def _sendable(key: str, where: str) -> str:
    if not key or len(key) > 4096 or not key.isascii() or not key.isprintable():
        raise ModelError(f"What is in {where} is no key.")
    return key


def _printable(text: str) -> str:
    """What a server says, on one line without control characters."""
    line = " ".join(text.split())
    return "".join(char for char in line if char.isprintable())[:LONGEST_REASON]


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
