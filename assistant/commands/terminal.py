"""Between the commands and the terminal: prompts come in clean, model text goes out without control codes."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from assistant.controls import CONTROL, without_controls
from assistant.errors import UsageError
from assistant.protocol import MAX_TEXT, Name

_NAME: TypeAdapter[str] = TypeAdapter(Name)
_ASK = 'assistant ask "What is my dog called?"'


def say(sentence: str) -> None:
    """One line to the user, beside the payload."""
    print(f"assistant: {sentence}", file=sys.stderr, flush=True)


def show(text: str, end: str = "\n") -> None:
    """Model text to standard output; a terminal gets it without escape sequences and control characters."""
    print(without_controls(text) if sys.stdout.isatty() else text, end=end, flush=True)


def read_prompt(argument: str | None, example: str = _ASK) -> str:
    """The question from the command line, from standard input, or both (then the question comes first).

    `example`: what is told to who gave none.

    Raises:
        UsageError: there is none, it is too long, or it is not text.
    """
    parts = [argument or "", _piped() if argument in (None, "", "-") or _has_pipe() else ""]
    if argument == "-":
        parts[0] = ""
    return checked("\n\n".join(part for part in parts if part.strip()), example)


def is_given(argument: str | None) -> bool:
    """Whether there is a question on the command line or on standard input."""
    return bool(argument and argument.strip()) or _has_pipe()


def checked(text: str, example: str = _ASK) -> str:
    """A prompt that can be sent; control characters are taken out and counted aloud."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("The question is not UTF-8 text; nothing was sent.") from None
    clean = CONTROL.sub("", text.replace("\r\n", "\n"))
    if not clean.strip():
        raise UsageError(f"There is no question. Write one: {example}")
    if len(clean) > MAX_TEXT:
        raise UsageError(f"The question has {len(clean):,} characters, at most {MAX_TEXT:,} fit; nothing was sent.")
    if removed := len(text.replace("\r\n", "\n")) - len(clean):
        say(f"took {removed} control character{'s' * (removed > 1)} out of the question")
    return clean


def checked_name(name: str) -> str:
    """A name a conversation can have."""
    try:
        return _NAME.validate_python(name)
    except ValidationError:
        raise UsageError(f"{name[:100]!r} cannot be a conversation's name: 1 to 80 printable characters.") from None


def new_name() -> str:
    """A name for a conversation that was not given one."""
    return f"{datetime.now():%Y-%m-%d-%H%M%S}-{secrets.token_hex(2)}"


def _has_pipe() -> bool:
    """Whether standard input is a pipe or a file, hence meant to be read. (A service's /dev/null is neither.)"""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _piped() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"Standard input is not UTF-8 text (byte {error.start}); nothing was sent.") from None
