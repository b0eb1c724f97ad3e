"""The man page `assistant.1`: the facts in troff."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from facts import EXITS, FILES, PLACES, PREFIX, VARIABLES, Entry, Word

from assistant import __version__
from assistant.errors import Exit
from assistant.settings import PROJECT_FILE, Settings

ABOUT = (
    "A chat assistant for one GPU, or none, that never exceeds the memory it was given and does not read the same text "
    "twice: a terminal app, one-shot questions for scripts, and a local daemon behind both.",
    "Every command prints its help with `--help`; `assistant --version` prints the version. Standard output carries "
    "the payload only, progress goes to standard error.",
    "A setting comes from the first of these that names it: a flag, the environment, "
    f"{PROJECT_FILE} in the working folder, config.toml in the configuration folder, its default. "
    "`assistant config show --origin` prints what is in force.",
)
_TYPED = (("\\", r"\e"), ("-", r"\-"), ("'", r"\(aq"), ("~", r"\(ti"), ("^", r"\(ha"))


def man_page(found: Iterable[Entry]) -> str:
    """The whole page, section by section."""
    parts = {
        "NAME": [roff("assistant - an on-device assistant that remembers")],
        "SYNOPSIS": [r"\fBassistant\fR \fICOMMAND\fR [\fIARGUMENT\fR...] [\fIOPTION\fR...]"],
        "DESCRIPTION": [line for text in ABOUT for line in (".PP", roff(text))],
        "COMMANDS": [line for entry in found for line in _entry(entry)],
        "EXIT STATUS": _items((str(int(one)), EXITS[one]) for one in Exit),
        "FILES": _items((str(place(PLACES)), text) for place, text in FILES),
        "ENVIRONMENT": _items((*_settings(), *VARIABLES.items())),
    }
    lines = [f'.TH ASSISTANT 1 "" "assistant {__version__}" "User Commands"']
    for title, text in parts.items():
        lines += [f".SH {title}", *text]
    return "\n".join(lines) + "\n"


def roff(text: str) -> str:
    """A line of text: nothing in it is taken for a request, and nothing typed is made prettier than it was typed."""
    for character, name in _TYPED:
        text = text.replace(character, name)
    text = re.sub(r"[^\x00-\x7f]", lambda found: rf"\[u{ord(found[0]):04X}]", text)
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", text)
    return rf"\&{text}" if text.startswith(".") else text


def _entry(entry: Entry) -> Iterator[str]:
    yield f".SS {roff(entry.usage or entry.name)}"
    for text in entry.paragraphs:
        yield from (".PP", roff(text))
    for word in entry.words:
        yield from _word(word)
    if entry.examples:
        yield from (".PP", "Example:", ".RS", ".nf", *map(roff, entry.examples), ".fi", ".RE")


def _word(word: Word) -> Sequence[str]:
    names = ", ".join(rf"\fB{roff(one)}\fR" for one in word.names)
    value = rf"\fI{roff(word.value)}\fR" if word.value else ""
    default = f"Default: {word.default}." if word.default else ""
    return ".TP", f"{names} {value}".strip(), roff(f"{word.text} {default}".strip()) or r"\&"


def _items(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [line for name, text in pairs for line in (".TP", rf"\fB{roff(name)}\fR", roff(text))]


def _settings() -> Iterator[tuple[str, str]]:
    for name, field in Settings.model_fields.items():
        yield PREFIX + name.upper(), field.description or ""
