"""Files people bring along, as turns: OpenAI-style messages, our own exports, dialogue JSONL, ChatGPT exports.

Every reader yields `Dialogue`s; what is wrong with a file is one sentence that names the file and the line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast, get_args

from assistant.errors import UsageError
from assistant.protocol import MAX_TEXT, NewTurn, Role

As = Literal["transcript", "roles"]

_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "ai": "assistant", "system": "system"}
_MESSAGE_ROLES: dict[str, Role] = {**{role: role for role in get_args(Role)}, "developer": "system"}

_DATE = r"(?:\[(?P<date>[^\]\n]{1,80})\]\n)?"
_OPENING = r"(?:This is a transcript of conversations between [^\n]*\n)?\s*"
_TRANSCRIPT = re.compile(_OPENING + _DATE + r"(?P<speaker>[^:\n]{1,80}): (?P<text>.*)", re.DOTALL)
_ROLE = re.compile(_DATE + r"(?P<text>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Said:
    """What an imported turn says: without date line and speaker, which are told apart."""

    date: str | None
    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One conversation of a file: its own id (or None) and its turns, ready to be stored."""

    id: str | None
    turns: list[NewTurn]


def read_dialogues(path: Path, form: As | None = None, limit: int | None = None) -> list[Dialogue]:
    """The conversations of `path`, at most `limit`.

    `form` says how the dialogue format comes in: "transcript" (dates, `Name: text`) or "roles"; by default roles when
    the speakers are a user and an assistant, else a transcript.

    Raises:
        UsageError: the file cannot be read or is none of the formats; names file and line.
    """
    found: list[Dialogue] = []
    for place, item in _items(path):
        if limit is not None and len(found) >= limit:
            break
        try:
            found.append(_dialogue(item, form))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UsageError(f"{path.name}, {place}: {_reason(error)}") from error
    if not any(dialogue.turns for dialogue in found):
        raise UsageError(f"{path.name} holds no turns.")
    return found


def said_in(role: Role, text: str) -> Said:
    """The inverse of writing a turn of a dialogue; the role is the speaker where no name is written."""
    match = (_TRANSCRIPT if role == "transcript" else _ROLE).match(text)
    if match is None:
        return Said(None, role, text)
    return Said(match["date"], match.groupdict().get("speaker", role), match["text"])


def _items(path: Path) -> Iterator[tuple[str, Any]]:
    """(where in the file, one conversation as parsed)."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path.name} is not a text file (byte {error.start} is not UTF-8).") from error
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        yield from _listed(_lines(path, text))
        return
    many = isinstance(whole, list) and bool(whole) and not _is_message(whole[0])
    yield from ((f"conversation {number}", item) for number, item in enumerate(whole if many else [whole], 1))


def _listed(lines: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Lines of messages are one conversation, all others one each."""
    first = next(lines, None)
    if first is None:
        return
    if _is_message(first[1]):
        yield "conversation 1", [first[1], *(item for _, item in lines)]
    else:
        yield from chain([first], lines)


def _lines(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except json.JSONDecodeError as error:
                raise UsageError(f"{path.name}, line {number}: this is not JSON ({error.msg}).") from error


def _dialogue(item: Any, form: As | None) -> Dialogue:
    if isinstance(item, list):
        return Dialogue(None, _messages(item))
    if not isinstance(item, dict):
        raise TypeError("expected an object or a list of messages")
    if "sessions" in item:
        roles = form == "roles" or (form is None and _speakers(item) <= set(_ROLES))
        return Dialogue(item.get("id"), _roles(item) if roles else _transcript(item))
    if "messages" in item:
        return Dialogue(item.get("id"), _messages(item["messages"]))
    if "turns" in item:
        return Dialogue(item.get("name"), _messages(item["turns"]))
    if "mapping" in item:
        return Dialogue(item.get("title") or item.get("id"), _chatgpt(item))
    if _is_message(item):
        return Dialogue(None, _messages([item]))
    raise ValueError(
        "expected sessions (a dialogue), messages (OpenAI style), turns (our own export) or mapping (a ChatGPT export)"
    )


# --- dialogue JSONL --------------------------------------------------------------------------------------------------


def _transcript(item: dict[str, Any]) -> list[NewTurn]:
    """One turn per utterance; the first of a session carries its date, the very first who is speaking."""
    turns = []
    names = " and ".join(item.get("speakers") or sorted(_speakers(item)))
    opening = f"This is a transcript of conversations between {names}.\n\n"
    for date, moment, utterances in _sessions(item):
        for utterance in utterances:
            text = f"{utterance['speaker']}: {_said(utterance)}"
            turns.append(_turn("transcript", opening + date + text, moment))
            opening = date = ""
        opening = "\n"
    return turns


def _roles(item: dict[str, Any]) -> list[NewTurn]:
    """User and assistant as roles; the first turn of a session carries its date."""
    turns = []
    for date, moment, utterances in _sessions(item):
        for utterance in utterances:
            role = _ROLES.get(str(utterance["speaker"]).lower())
            if role is None:
                raise ValueError(f"the speaker {utterance['speaker']!r} is no role; use --as transcript")
            turns.append(_turn(role, date + _said(utterance), moment))
            date = ""
    return turns


def _sessions(item: dict[str, Any]) -> Iterator[tuple[str, datetime | None, list[dict[str, Any]]]]:
    """(date line or nothing, when it was, utterances that say something) per session."""
    for session in item["sessions"]:
        date = session.get("date_raw") or session.get("date")
        said = [turn for turn in session["turns"] if _said(turn)]
        yield f"[{date}]\n" if date else "", _local(session.get("date")), said


def _local(date: Any) -> datetime | None:
    """A date of ISO 8601 as a moment, on this machine's clock unless it names another; nothing where it is none."""
    try:
        return datetime.fromisoformat(date).astimezone()
    except (TypeError, ValueError, OverflowError):
        return None


def _said(utterance: dict[str, Any]) -> str:
    caption = utterance.get("image_caption")
    parts = [str(utterance.get("text") or "").strip(), f"[image: {caption}]" if caption else ""]
    return " ".join(part for part in parts if part)


def _speakers(item: dict[str, Any]) -> set[str]:
    return {str(turn["speaker"]) for session in item["sessions"] for turn in session["turns"]}


# --- message lists and ChatGPT exports -------------------------------------------------------------------------------


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and "role" in item


def _messages(messages: Any) -> list[NewTurn]:
    """What says something; of our own exports, which have `text` and `created`, what is on the path that was shown."""
    turns = []
    for number, message in enumerate(messages, 1):
        role = _MESSAGE_ROLES.get(str(message.get("role"))) if isinstance(message, dict) else None
        if role is None:
            raise ValueError(f"message {number} has no role of {', '.join(_MESSAGE_ROLES)}")
        text = message["text"] if isinstance(message.get("text"), str) else _text(message.get("content"))
        if text and message.get("shown", True):
            turns.append(_turn(role, text, _local(message.get("created"))))
    return turns


def _text(content: Any) -> str:
    """The text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content.strip()
    parts = [part if isinstance(part, str) else part.get("text", "") for part in content or []]
    return "\n".join(part for part in parts if isinstance(part, str) and part.strip()).strip()


def _chatgpt(item: dict[str, Any]) -> list[NewTurn]:
    """The branch that ends at `current_node`, root first: what was said in words, and when."""
    turns = []
    for message in _branch(item):
        role = _MESSAGE_ROLES.get((message.get("author") or {}).get("role", ""))
        text = _text((message.get("content") or {}).get("parts"))
        if role and role != "tool" and text and _is_said(message):
            turns.append(_turn(role, text, _moment(message.get("create_time"))))
    return turns


def _branch(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages on the way to `current_node`."""
    nodes = item["mapping"]
    branch: list[dict[str, Any]] = []
    if not isinstance(nodes, dict):
        raise TypeError("mapping is no object")
    at = item.get("current_node") or _last_leaf(nodes)
    while at is not None:
        if len(branch) > len(nodes):
            raise ValueError("the turns follow one another in a circle")
        branch.append(nodes[at].get("message") or {})
        at = nodes[at].get("parent")
    return branch[::-1]


def _is_said(message: dict[str, Any]) -> bool:
    """Whether a message was meant for the reader: not hidden, and not sent to a tool."""
    hidden = (message.get("metadata") or {}).get("is_visually_hidden_from_conversation")
    return not hidden and message.get("recipient", "all") in ("all", None)


def _moment(seconds: Any) -> datetime | None:
    """A time in seconds since 1970 as one; nothing where it is none."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _last_leaf(nodes: dict[str, Any]) -> str | None:
    return next((name for name in reversed(nodes) if not nodes[name].get("children")), None)


def _turn(role: str, text: str, created: datetime | None = None) -> NewTurn:
    if role not in get_args(Role):
        raise ValueError(f"{role!r} is no role")
    if len(text) > MAX_TEXT:
        raise ValueError(f"a turn of {len(text):,} characters is longer than the {MAX_TEXT:,} allowed")
    return NewTurn(role=cast(Role, role), text=text, created=created)


def _reason(error: Exception) -> str:
    return f"{error.args[0]!r} is missing." if isinstance(error, KeyError) else f"{error}."
