"""The turns of a conversation as messages for a server, as many as it can read, with what is recalled of the others.

Sizes are bytes of UTF-8: nobody here knows the server's tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from assistant.agent.formats import SERVED, THOUGHT, parse
from assistant.orders import WorkerTurn
from assistant.protocol import Call, Calling
from assistant.toolprompt import RESULT

OVERHEAD = 24
"""Bytes that a chat template may put around a message."""

SPARED = 0.25
"""Of the room, what is spared at least for recalled text where not everything fits."""

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


def fit(turns: Sequence[WorkerTurn], room: int, recall: Recall, calling: Calling | None = None) -> Fitted:
    """Everything where it fits, else the system prompt, the latest exchanges, and before the last question what
    `recall` finds. Of a last exchange that is too long itself, its question and the latest calls with their results.

    Raises:
        NoRoom: the system prompt and the question, with the latest results, alone do not fit.
    """
    whole = _messages(turns, calling)
    if sum(map(_size, whole)) <= room:
        return Fitted(whole, 0, 0)
    system, exchanges = _divided(turns)
    last = _last_that_fits(exchanges.pop(), room - _bytes(system, calling), calling)
    room -= _bytes([*system, *last], calling)
    spared = int(room * SPARED)
    sizes = [_bytes(one, calling) for one in reversed(exchanges)]
    count = sum(taken <= room - spared for taken in accumulate(sizes))
    sent = [turn for one in exchanges[len(exchanges) - count :] for turn in one] + last
    found = recall({turn.id for turn in sent}, room - sum(sizes[:count]) - len(_RECALLED))
    messages, text = _messages([*system, *sent], calling), _RECALLED.format(found) if found else ""
    question = next((at for at in reversed(range(len(messages))) if _is_question(messages[at])), 0)
    messages[question] |= {"content": text + messages[question]["content"]}
    return Fitted(messages, len(turns) - len(system) - len(sent), len(text.encode("utf-8", "replace")))


def spoken(text: str) -> str:
    """A reply without what was thought aloud before it, which no template shows again."""
    opening, closing = THOUGHT
    if not text.lstrip().startswith(opening):
        return text
    return text.partition(closing)[2].lstrip()


def said(text: str) -> str:
    """What a reply says, without thoughts and calls."""
    return "".join(SERVED.take(spoken(text)).said).strip()


def _last_that_fits(exchange: list[WorkerTurn], room: int, calling: Calling | None) -> list[WorkerTurn]:
    """What was asked, and as many of the latest steps after it as fit, one at least."""
    steps = _steps(exchange)
    for first in range(1, max(2, len(steps))):
        kept = steps[0] + [turn for step in steps[first:] for turn in step]
        if _bytes(kept, calling) <= room:
            return kept
    raise NoRoom(_bytes(kept, calling), room)


def _steps(exchange: list[WorkerTurn]) -> list[list[WorkerTurn]]:
    """The question, then each reply with the results that follow it."""
    steps = [exchange[:1]]
    for turn in exchange[1:]:
        if turn.role == "assistant":
            steps.append([turn])
        else:
            steps[-1].append(turn)
    return steps


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


def _messages(turns: Sequence[WorkerTurn], calling: Calling | None) -> list[Message]:
    """Messages whose roles alternate as templates want them: neighbours of one role become one, and what says nothing
    is no message."""
    merged = list[Message]()
    for message in _answered(turns, calling):
        before = merged[-1] if merged else {}
        if before.get("role") == message["role"] != "tool" and not {"tool_calls"} & {*before, *message}:
            merged[-1] = before | {"content": f"{before['content']}\n\n{message['content']}"}
        elif message["content"] or "tool_calls" in message or message["role"] != "assistant":
            merged.append(message)
    return merged


def _answered(turns: Sequence[WorkerTurn], calling: Calling | None) -> list[Message]:
    """Each turn, a reply together with the results that follow it."""
    found, at = list[Message](), 0
    while at < len(turns):
        end = at + 1
        while turns[at].role == "assistant" and end < len(turns) and turns[end].role == "tool":
            end += 1
        found += _exchange(turns[at], [turn.text for turn in turns[at + 1 : end]], calling)
        at = end
    return found


def _exchange(turn: WorkerTurn, results: Sequence[str], calling: Calling | None) -> list[Message]:
    """A turn and the results of its calls: those that could be made, then what was told of the others, in words."""
    if turn.role != "assistant":
        text = RESULT + turn.text if turn.role == "tool" else turn.text
        return [{"role": "system" if turn.role == "system" else "user", "content": text}]
    text = spoken(turn.text)
    calls = parse(text, calling, SERVED).calls if calling is not None and calling.tools and results else []
    if not calls or len(calls) > len(results):
        return [{"role": "assistant", "content": text}, *map(_told, results)]
    ids = [f"{turn.id:07d}{number:02d}"[-9:] for number in range(len(calls))]  # as Mistral's templates want them
    asked = {"role": "assistant", "content": said(text), "tool_calls": list(map(_call, ids, calls))}
    answers = [{"role": "tool", "tool_call_id": name, "content": one} for name, one in zip(ids, results, strict=False)]
    return [asked, *answers, *map(_told, results[len(calls) :])]


def _call(name: str, call: Call) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": name, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _told(result: str) -> Message:
    return {"role": "user", "content": RESULT + result}


def _is_question(message: Message) -> bool:
    return message["role"] == "user" and not message["content"].startswith(RESULT)


def _bytes(turns: Sequence[WorkerTurn], calling: Calling | None) -> int:
    return sum(map(_size, _messages(turns, calling)))


def _size(message: Message) -> int:
    calls = json.dumps(message["tool_calls"], ensure_ascii=False) if "tool_calls" in message else ""
    return len((message["content"] + calls).encode("utf-8", "replace")) + OVERHEAD
