"""Commands that put something on the clipboard, or in a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.errors import UsageError
from tui.clipboard import code_blocks
from tui.commands.base import Command
from tui.figures import plural
from tui.text import clean
from tui.widgets.turn import ReplyTurn

if TYPE_CHECKING:
    from tui.screens.chat import ChatScreen

FORMS = {
    "md": "to read",
    "json": "one object, with states and usage records",
    "jsonl": "a turn a line",
    "svg": "a picture of the screen",
}
_UNSAFE = re.compile(r"[^\w.-]+")
_NO_REPLY = "There is no reply to copy yet."


async def copy(screen: ChatScreen, argument: str) -> None:
    """The last reply, or one of its code blocks: `code` is the last one, `code 2` the second."""
    replies = list(screen.transcript.query(ReplyTurn))
    if not replies:
        raise UsageError(_NO_REPLY)
    what, _, number = argument.partition(" ")
    if what not in ("", "reply", "code"):
        raise UsageError(f"/copy copies the last reply, or with `code` its last block; not {argument!r}.")
    if what == "code":
        copy_code(screen, replies[-1].said, number)
    else:
        screen.copy(replies[-1].said, "the last reply")


def copy_code(screen: ChatScreen, text: str, number: str) -> None:
    """Copy the last block of code of a text, or the one with this number."""
    blocks = code_blocks(text)
    if not blocks:
        raise UsageError("There is no block of code in this reply.")
    at = int(number) if number.isdecimal() else len(blocks)
    if not 1 <= at <= len(blocks):
        raise UsageError(f"This reply has {plural(len(blocks), 'block')} of code; there is no block {at}.")
    screen.copy(blocks[at - 1], f"block {at} of {len(blocks)}" if len(blocks) > 1 else "the block of code")


async def export(screen: ChatScreen, argument: str) -> None:
    """The conversation (or with svg: the screen) as a file; one that is there already is kept."""
    form, _, file = argument.partition(" ")
    form = form or "md"
    if form not in FORMS:
        raise UsageError(f"/export writes {', '.join(FORMS)}; not {form!r}.")
    name = screen.desk.name or ""
    if form == "svg":
        text = screen.app.export_screenshot(title=name)
    else:
        await screen.desk.conversation()
        text = await screen.session.exported(name, form)
    path = Path.cwd() / Path(file.strip() or f"{_UNSAFE.sub('-', name)}.{form}").expanduser()
    try:
        with path.open("x", encoding="utf-8") as out:
            out.write(f"{clean(text) if form == 'md' else text}\n")
    except FileExistsError:
        raise UsageError(f"{path.name} is there already. Name another: /export {form} FILE") from None
    except OSError as error:
        raise UsageError(f"{path.name} cannot be written: {error.strerror}. Its folder: {path.parent}") from None
    screen.notice(f"Written: {path.name}, in {path.parent}")


async def _forms(_screen: ChatScreen) -> list[tuple[str, str]]:
    return list(FORMS.items())


async def _what(_screen: ChatScreen) -> list[tuple[str, str]]:
    return [("reply", "the last reply"), ("code", "its last block of code"), ("code 1", "its first block of code")]


COMMANDS = (
    Command("copy", "Copy the last reply, or a block of its code", copy, "[code [NUMBER]]", _what, key="copy"),
    Command("export", "Write this conversation to a file, or a picture", export, "[md|json|jsonl|svg [FILE]]", _forms),
)
