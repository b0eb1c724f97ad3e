"""Requests on their way: committed to the history, then down the lane like every other request."""

from __future__ import annotations

from pathlib import Path

from assistant.agent.formats import SERVED, Format
from assistant.daemon.exchange import Errand, Exchange
from assistant.daemon.service import Service
from assistant.daemon.v1.asking import Asking
from assistant.daemon.v1.errors import ApiError
from assistant.daemon.v1.forms import form_in
from assistant.history import Begun, History
from assistant.history.links import Message, root
from assistant.protocol import Accepted, Engine


class Chats:
    """Replies for clients that bring their messages along, and for those that name a conversation."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._records = service.records

    def form(self, model: str) -> Format:
        """How the model writes calls.

        Raises:
            ModelError: it is unknown or not on this machine.
        """
        spec = self.service.spec(Engine(model=model))
        return SERVED if spec.server else form_in(Path(spec.path))

    async def begin(self, asking: Asking) -> tuple[Exchange, Accepted]:
        """Commit what is new and a pending reply, then put the reply on its way.

        Raises:
            AssistantError: it is refused, and nothing is stored.
        """
        service, sampling = self.service, self.service.sampling(asking.sampling)
        spec = service.spec(asking.engine)
        with service.lane.admit():
            begun, name, link = await self._commit(asking)
        accepted = Accepted(conversation=name, turn_id=begun.turn_id, reply_id=begun.reply_id)
        errand = Errand(
            accepted, begun.conversation_id, spec, sampling, asking.calling, link=link, logprobs=asking.logprobs
        )
        return service.submit(errand), accepted

    async def _commit(self, asking: Asking) -> tuple[Begun, str, str | None]:
        """(what was begun, the conversation's name, the chained id of the last message)."""
        if asking.conversation is not None:
            begun = await self._add(asking.conversation, asking)
            return begun, asking.conversation, None
        found = await self._records.run(
            History.begin_chained, root(asking.tools), asking.messages, asking.record, asking.after
        )
        return found.begun, found.name, found.link

    async def _add(self, name: str, asking: Asking) -> Begun:
        """Add what is new of the messages to a conversation with long memory: all that follow the last reply."""
        if asking.tools:
            raise ApiError(
                "Tools stand at the beginning of a conversation: they cannot be used with 'conversation'.",
                param="tools",
            )
        system = asking.messages[0].text if asking.messages[0].role == "system" else None
        new = _after_last_reply(asking.messages[1:] if system is not None else asking.messages)
        if not new:
            raise ApiError("There is no message after the last one of the assistant.", param="messages")
        default = self.service.engines.settings.system
        return await self._records.run(
            History.begin_named, name, new, asking.record, system=system, default_system=default
        )


def _after_last_reply(messages: list[Message]) -> list[Message]:
    replies = [at for at, message in enumerate(messages) if message.role == "assistant"]
    return messages[replies[-1] + 1 :] if replies else messages
