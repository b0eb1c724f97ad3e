"""The line to the daemon: connect late, once, and again when it is gone. The only place that opens a client.

`assistant.client` and the wire types are imported on first use, in a thread, so that the first paint does not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from assistant.errors import AssistantError, DaemonError, UsageError
from tui.options import Options
from tui.pace import Pace
from tui.preferences import Preferences

if TYPE_CHECKING:
    from assistant.client import Client
    from assistant.protocol import AskRequest, Conversation, Episodes, Event, Hit, Turn
    from assistant.reports import DaemonStatus, MemoryReport, MemorySplit, ModelStatus, PullProgress

DEFAULT_NAME = "chat"


class Session:
    """Calls of one chat program to the daemon. Every method raises `AssistantError` with a sentence."""

    def __init__(self, options: Options, preferences: Preferences) -> None:
        self.options = options
        self.preferences = preferences
        self.told: set[str] = set()
        """Notices that were shown: each is shown once."""
        self.earlier: list[str] = []
        """Budgets that were in force before, for taking a change back."""
        self.sampling: dict[str, str] = {}
        """Decoding parameters of the next replies, as they were typed; others are as the settings say."""
        self.systems: dict[str, str] = {}
        """System prompts of conversations that begin with their next message."""
        self.pace = Pace()
        self._client: Client | None = None
        self._lock = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """A daemon was reached, and nothing has said that it is gone."""
        return self._client is not None

    async def connect(self) -> DaemonStatus:
        """Reach the daemon, starting one when none runs, and return what it says of itself."""
        async with self._lock:
            if self._client is not None:
                with suppress(DaemonError):
                    return await self._client.status()
                await self._drop()
            client_class = await asyncio.to_thread(_client_class)
            self._client = await client_class.connect()
            with suppress(AssistantError):
                await self._client.prepare()  # it starts while the user types
            return await self._client.status()

    async def restart(self) -> None:
        """Replace the daemon, which does not understand us, by one of this program's version."""
        from assistant.client import restart

        await restart()

    async def close(self) -> None:
        """Leave; the daemon goes on."""
        async with self._lock:
            await self._drop()

    async def status(self) -> DaemonStatus:
        return await self._reached().status()

    async def models(self, *, fit: bool = False) -> list[ModelStatus]:
        """The catalogue; `fit`: and what of it fits the budget."""
        return await self._reached().models(fit=fit, budget=self.options.budget)

    async def prompts(self) -> list[str]:
        """What the user wrote last in all conversations, the oldest of it first."""
        return (await self._reached().prompts())[::-1]

    async def first_turns(self, name: str) -> list[Turn]:
        """The newest two turns: enough to know whether anything but a system prompt was said."""
        return await self._reached().turns(name, limit=2)

    async def exported(self, name: str, form: str) -> str:
        """The path of a conversation that is shown, as md, json or jsonl."""
        from assistant.export import Form, exported

        client = self._reached()
        return exported(Form(form), await client.conversation(name), await client.all_turns(name))

    async def missing_model(self) -> ModelStatus | None:
        """The model this chat would use, when it is in the catalogue and not on this machine."""
        models = await self._reached().models()
        wanted = self.options.model
        used = next((model for model in models if (model.id == wanted if wanted else model.default)), None)
        return used if used is not None and not used.present else None

    async def conversations(self, *, archived: bool = False) -> list[Conversation]:
        """Conversations: pinned ones first, then the one used last; archived ones at the end or not at all."""
        return await self._reached().conversations(archived=archived)

    async def turns(self, name: str, before: int | None = None, limit: int = 50) -> list[Turn]:
        return await self._reached().turns(name, before=before, limit=limit)

    async def siblings(self, name: str, turn: int) -> list[Turn]:
        """The versions of a turn, oldest first."""
        return await self._reached().siblings(name, turn)

    async def choose(self, name: str, turn: int) -> None:
        """Make the conversation go through a turn."""
        await self._reached().choose(name, turn)

    async def fork(self, name: str, turn: int | None, new: str | None) -> Conversation:
        """A new conversation with the turns up to one (None: all)."""
        return await self._reached().fork(name, turn, new)

    async def ask(self, name: str, text: str, replaces: int | None = None) -> AsyncGenerator[Event, None]:
        """Send a message and yield what happens until the reply is committed."""
        request = self._request(text, replaces, self.systems.get(name))
        async with aclosing(self._reached().ask(name, request)) as events:
            async for event in events:
                self.systems.pop(name, None)
                yield event

    def checked_sampling(self, values: dict[str, str]) -> None:
        """See that parameters are what they may be.

        Raises:
            UsageError: one is not.
        """
        from assistant.protocol import Sampling

        try:
            Sampling.model_validate(_numbers(values))
        except ValueError as error:
            raise UsageError(f"This cannot be set: {_reasons(error)}.") from error

    def _request(self, text: str, replaces: int | None, system: str | None) -> AskRequest:
        from assistant.protocol import AskRequest, Engine

        engine = {name: getattr(self.options, name) for name in Engine.model_fields}
        said = {"text": text, "engine": engine, "replaces": replaces, "system": system}
        said |= {"sampling": _numbers(self.sampling)}
        try:
            return AskRequest.model_validate({name: value for name, value in said.items() if value not in (None, {})})
        except ValueError as error:
            raise UsageError(f"This message cannot be sent: {_reasons(error)}.") from error

    async def stop(self, name: str) -> None:
        await self._reached().stop(name)

    async def rename(self, old: str, new: str) -> None:
        await self._reached().rename(old, new)

    async def change(
        self, name: str, *, pinned: bool | None = None, archived: bool | None = None, system: str | None = None
    ) -> None:
        """Change what is not None."""
        from assistant.protocol import ConversationChange

        await self._reached().change(name, ConversationChange(pinned=pinned, archived=archived, system=system))

    async def remove(self, name: str) -> None:
        """Put a conversation away; `restore` brings it back."""
        await self._reached().remove(name)

    async def put_away(self) -> list[Conversation]:
        """What was removed and can be restored."""
        return await self._reached().conversations(removed=True)

    async def restore(self, name: str) -> None:
        await self._reached().restore(name)

    async def search(self, words: str, limit: int = 50) -> list[Hit]:
        """Turns of all conversations that contain all words."""
        return await self._reached().search(words, limit)

    async def every_turn(self, name: str) -> list[Turn]:
        """A whole conversation, oldest turn first; of one that is not stored yet, none."""
        client = self._reached()
        try:
            return await client.all_turns(name)
        except UsageError:
            return []

    async def memory(self) -> MemoryReport:
        return await self._reached().memory()

    async def episodes(self, name: str) -> Episodes:
        return await self._reached().episodes(name)

    async def plan(self, budget: str) -> MemorySplit:
        return await self._reached().plan(budget)

    async def pull(self, model_id: str) -> AsyncGenerator[PullProgress, None]:
        """Fetch a model; leaving the iteration early ends the download and keeps what can be resumed."""
        from assistant.client import pull

        async with aclosing(pull(model_id)) as steps:
            async for step in steps:
                yield step

    def _reached(self) -> Client:
        if self._client is None:
            raise DaemonError("The daemon is not reached yet. Try again in a moment.")
        return self._client

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(AssistantError):
                await client.close()


def free_name(taken: set[str]) -> str:
    """A name for a new conversation that is not taken: `chat`, `chat 2`, `chat 3` …"""
    if DEFAULT_NAME not in taken:
        return DEFAULT_NAME
    number = 2
    while f"{DEFAULT_NAME} {number}" in taken:
        number += 1
    return f"{DEFAULT_NAME} {number}"


def _numbers(values: Mapping[str, str]) -> dict[str, object]:
    """What was written, as a number where it is one."""
    return {name: _number(text) for name, text in values.items()}


def _number(text: str) -> object:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _reasons(error: ValueError) -> str:
    """What pydantic found wrong, without its form."""
    details = getattr(error, "errors", None)
    found = details(include_url=False, include_input=False) if details else []
    return "; ".join(f"{one['loc'][-1]}: {one['msg'].removeprefix('Value error, ')}" for one in found) or str(error)


def _client_class() -> type[Client]:
    from assistant.client import Client

    return Client
