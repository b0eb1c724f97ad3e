"""Chained ids of messages: two conversations that begin alike have the same ids as far as they are alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from assistant.protocol import Call, Role, ToolSpec, Written


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a client that brings its whole conversation with every request.

    `text` is what the model reads; of a reply that calls tools it holds the calls as the model writes them, and `said`
    is the text beside them.
    """

    role: Role
    text: str
    said: str
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """The chained id of a turn, and what it says beside its calls; None: all of its text."""

    id: str
    said: str | None = None


def root(tools: Sequence[ToolSpec]) -> str:
    """Where the chain of a conversation begins: its tools stand in front of everything that is said."""
    return _digest("", [tool.model_dump() for tool in tools])


def extend(parent: str, role: str, said: str, calls: Iterable[Call] = ()) -> str:
    """The id of a message after `parent`. White space around a reply is not part of it: clients cut it off."""
    written = [[call.name, call.arguments] for call in calls]
    return _digest(parent, [role, said.strip() if role == "assistant" else said, written])


def chain(start: str, messages: Iterable[Message]) -> list[Link]:
    """The id of every message."""
    found = [Link(start)]
    for message in messages:
        link = extend(found[-1].id, message.role, message.said, message.calls)
        found.append(Link(link, None if message.said == message.text else message.said))
    return found[1:]


def of_reply(after: str, text: str, written: Written | None) -> Link:
    """The id of a reply to the message `after`, of which the whole text was taken apart where it may call."""
    if written is None:
        return Link(extend(after, "assistant", text))
    said = None if written.text == text else written.text
    return Link(extend(after, "assistant", written.text, written.calls), said)


def _digest(parent: str, value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return blake2b(f"{parent}\n{text}".encode(), digest_size=32).hexdigest()
