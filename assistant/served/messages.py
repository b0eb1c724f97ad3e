"""The turns of a conversation as messages for a server, as many as it can read, with what is recalled of the others.

Sizes are bytes of UTF-8: nobody here knows the server's tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from assistant.agent.formats import SERVED
from assistant.protocol import WorkerTurn
from assistant.toolprompt import RESULT

OVERHEAD = 24
"""Bytes that a chat template may put around a message."""

RECALLED_SHARE = 0.25
"""Of the room, what recalled text may take where not everything fits."""

THOUGHT = ("<think>", "</think>")
_RECALLED = "From earlier in this conversation:\n\n{}\n\nEnd of what was said earlier. Now:\n\n"

Message = dict[str, Any]
Recall = Callable[[set[int], int], str]
"""Text to recall, given the ids of the turns that are sent anyway, and how many bytes it may have."""


class NoRoom(ValueError):
    """What must be sent does not fit: `needed` bytes where there are `room`."""

    def __init__(self, needed: int, room: int) -> None:
        super().__init__(f"{needed} bytes where there are {room}")
        self.needed = needed
        self.room = room


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is sent. `left_out` counts turns that are not, `recalled` bytes of the text that stands in for them."""

    messages: list[Message]
    left_out: int
    recalled: int

    @property
    def size(self) -> int:
        """Bytes of all messages."""
        return sum(map(_size, self.messages))


def fit(turns: Sequence[WorkerTurn], room: int, recall: Recall) -> Fitted:
    """Everything where it fits, else the system prompt, the latest exchanges, and before the last question what
    `recall` finds.

    Raises:
        NoRoom: the system prompt and the last exchange alone do not fit.
    """
    system, exchanges = _divided(turns)
    sizes = [_sizes(one) for one in exchanges]
    fixed = _sizes(system)
    if fixed + sum(sizes) <= room:
        return Fitted(_messages([*system, *(turn for one in exchanges for turn in one)]), 0, 0)
    if fixed + sizes[-1] > room:
        raise NoRoom(fixed + sizes[-1], room)
    first = _first_that_fits(sizes, room - fixed, int(room * RECALLED_SHARE))
    sent = [turn for one in exchanges[first:] for turn in one]
    found = recall({turn.id for turn in sent}, room - fixed - sum(sizes[first:]) - len(_RECALLED))
    messages = _messages([*system, *sent])
    text = _RECALLED.format(found) if found else ""
    question = next(at for at in reversed(range(len(messages))) if messages[at]["role"] == "user")
    messages[question] |= {"content": text + messages[question]["content"]}
    left_out = sum(len(one) for one in exchanges[:first])
    return Fitted(messages, left_out, len(text.encode()))


def _first_that_fits(sizes: list[int], room: int, spared: int) -> int:
    """Number of the first exchange that is sent: the last one always, those before it while `spared` bytes stay."""
    taken, first = sizes[-1], len(sizes) - 1
    while first > 0 and taken + sizes[first - 1] <= room - spared:
        first -= 1
        taken += sizes[first]
    return first


def _divided(turns: Sequence[WorkerTurn]) -> tuple[list[WorkerTurn], list[list[WorkerTurn]]]:
    """The system prompts, and the exchanges: what somebody says and everything up to what is said next."""
    system = [turn for turn in turns if turn.role == "system"]
    exchanges = list[list[WorkerTurn]]()
    for turn in turns:
        if turn.role in ("user", "transcript") or (turn.role != "system" and not exchanges):
            exchanges.append([turn])
        elif turn.role != "system":
            exchanges[-1].append(turn)
    return system, exchanges


def _messages(turns: Sequence[WorkerTurn]) -> list[Message]:
    """Messages whose roles alternate as templates want them: neighbours of one role become one."""
    single = [message for group in _answered(turns) for message in group]
    merged = list[Message]()
    for message in single:
        before = merged[-1] if merged else {}
        if before.get("role") == message["role"] and message["role"] in ("user", "system"):
            merged[-1] = before | {"content": f"{before['content']}\n\n{message['content']}"}
        else:
            merged.append(message)
    return merged


def _answered(turns: Sequence[WorkerTurn]) -> list[list[Message]]:
    """Each turn with the results that follow it, where it called tools."""
    found = list[list[Message]]()
    at = 0
    while at < len(turns):
        turn = turns[at]
        results = []
        while turn.role == "assistant" and at + 1 < len(turns) and turns[at + 1].role == "tool":
            at += 1
            results.append(turns[at])
        found.append(_exchange(turn, results))
        at += 1
    return found


def _exchange(turn: WorkerTurn, results: Sequence[WorkerTurn]) -> list[Message]:
    """A turn and the results of its calls; in words where one call is not one result."""
    if turn.role != "assistant":
        return [{"role": turn.role if turn.role == "system" else "user", "content": _told(turn)}]
    taken = SERVED.take(_said(turn.text))
    values = [one for one in taken.values if isinstance(one, dict) and isinstance(one.get("name"), str)]
    if taken.problems or not values or len(values) != len(results):
        told = [{"role": "user", "content": RESULT + one.text} for one in results]
        return [{"role": "assistant", "content": _said(turn.text)}, *told]
    ids = [f"call_{turn.id}_{number}" for number in range(len(values))]
    calls = [_call(name, value) for name, value in zip(ids, values, strict=True)]
    answers = [
        {"role": "tool", "tool_call_id": name, "content": one.text} for name, one in zip(ids, results, strict=True)
    ]
    return [{"role": "assistant", "content": "".join(taken.said).strip(), "tool_calls": calls}, *answers]


def _call(name: str, value: dict[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(value.get("arguments", {}), ensure_ascii=False)
    return {"id": name, "type": "function", "function": {"name": value["name"], "arguments": arguments}}


def _told(turn: WorkerTurn) -> str:
    return RESULT + turn.text if turn.role == "tool" else turn.text


def _said(text: str) -> str:
    """A reply without what was thought aloud before it, which no template shows again."""
    opening, closing = THOUGHT
    begins = text.lstrip().startswith(opening)
    return text.partition(closing)[2].lstrip() if begins and closing in text else text


def _sizes(turns: Sequence[WorkerTurn]) -> int:
    return sum(_size(message) for message in _messages(turns))


def _size(message: Message) -> int:
    calls = json.dumps(message["tool_calls"], ensure_ascii=False) if "tool_calls" in message else ""
    return len((message["content"] + calls).encode("utf-8", "replace")) + OVERHEAD
