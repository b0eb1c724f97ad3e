"""What a line that begins with a slash does in `assistant chat --plain`. Answers go to standard output, words about
them to standard error."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from assistant.client import Client
from assistant.commands.terminal import checked_name, new_name, say
from assistant.controls import without_controls
from assistant.errors import AssistantError
from assistant.export import Form, exported

_COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?")


@dataclass(slots=True)
class Talk:
    """The conversation that lines go to; a command may change it."""

    client: Client
    name: str


Act = Callable[[Talk, str], Awaitable[None]]


async def obey(talk: Talk, line: str) -> bool:
    """Carry out a command; False when the line is a message. What goes wrong is said."""
    found = _COMMAND.fullmatch(line.strip())
    if found is None:
        return False
    word, rest = found[1], (found[2] or "").strip()
    if word not in COMMANDS:
        say(f"there is no command /{word}; /help lists them")
        return True
    try:
        await COMMANDS[word][1](talk, rest)
    except AssistantError as error:
        say(str(error))
    return True


async def _new(talk: Talk, name: str) -> None:
    talk.name = checked_name(name or new_name())
    say(f"conversation {talk.name!r}")


async def _open(talk: Talk, name: str) -> None:
    talk.name = (await talk.client.conversation(checked_name(name))).name
    for turn in await talk.client.turns(talk.name, limit=2):
        print(f"{turn.role}: {without_controls(turn.text).strip()}", flush=True)
    say(f"conversation {talk.name!r}")


async def _list(talk: Talk, words: str) -> None:
    for one in await talk.client.conversations(words):
        print(f"{without_controls(one.name)} · {one.turns} turns · {without_controls(one.title)}", flush=True)


async def _search(talk: Talk, words: str) -> None:
    for hit in await talk.client.search(words):
        print(f"{without_controls(hit.conversation)}: {' '.join(without_controls(hit.snippet).split())}", flush=True)


async def _fork(talk: Talk, name: str) -> None:
    talk.name = (await talk.client.fork(talk.name, None, checked_name(name) if name else None)).name
    say(f"conversation {talk.name!r}, with everything that was said")


async def _export(talk: Talk, _: str) -> None:
    turns = await talk.client.all_turns(talk.name)
    print(without_controls(exported(Form.MD, await talk.client.conversation(talk.name), turns)), flush=True)


async def _help(_: Talk, __: str) -> None:
    for word, (words, _act) in COMMANDS.items():
        print(f"/{word}: {words}")
    print("/stop: end the running reply; what was written is kept\n/quit: leave", flush=True)


COMMANDS: dict[str, tuple[str, Act]] = {
    "new": ("a new conversation; a name may follow", _new),
    "open": ("go on with the conversation whose name follows", _open),
    "list": ("the conversations; words to look for may follow", _list),
    "search": ("turns of all conversations with the words that follow", _search),
    "fork": ("go on in a copy of this conversation; a name may follow", _fork),
    "export": ("this conversation as Markdown", _export),
    "help": ("this list", _help),
}
