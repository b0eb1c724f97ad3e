"""The flags of `assistant chat`. Imported only when there are some: argparse costs a part of the first paint."""

from __future__ import annotations

import argparse
from typing import NoReturn

from assistant.errors import UsageError
from tui.options import Options

_NAME_LIMIT = 80


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one sentence, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"assistant chat: {message}. See: assistant chat --help")


def parse(argv: list[str]) -> Options:
    """The options that `argv` asks for.

    Raises:
        UsageError: a flag or value that does not exist.
        SystemExit: the help was asked for and printed.
    """
    given = vars(_parser().parse_args(argv))
    del given["plain"]  # whoever asks for it gets another program
    return Options(**given)


def without_web(argv: list[str]) -> list[str]:
    """The flags of the chat itself, which is started for every page."""
    kept = [one for one in argv if one != "--web" and not one.startswith("--port=")]
    return [one for at, one in enumerate(kept) if one != "--port" and (not at or kept[at - 1] != "--port")]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="assistant chat",
        description="Talk to the model on this machine. F1 inside shows the keys.",
        epilog="Example: assistant chat --conversation trip --budget 900MiB",
    )
    parser.add_argument("-c", "--conversation", metavar="NAME", type=_name, help="open this one (default: the last)")
    parser.add_argument("--model", metavar="ID", help="model id, alias or source (default: as in the settings)")
    parser.add_argument("--budget", metavar="SIZE", help="memory never exceeded, for example 900MiB or 6GiB")
    parser.add_argument(
        "--quant", metavar="Q", choices=("auto", "none", "fp16", "int8", "nf4"), help="auto, none, fp16, int8 or nf4"
    )
    parser.add_argument(
        "--mode",
        metavar="M",
        choices=("auto", "exact", "bounded"),
        help="attention to stored tokens: auto, exact or bounded",
    )
    parser.add_argument("--policy", metavar="P", help="how the working set is chosen, for example patched_prompt")
    parser.add_argument(
        "--plain",
        action="store_true",
        help="plain lines, for pipes and screen readers; see: assistant chat --plain --help",
    )
    parser.add_argument("--web", action="store_true", help="serve the chat to a browser on this machine")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="port of --web (default: 8000)")
    return parser


def _name(text: str) -> str:
    if not 1 <= len(text) <= _NAME_LIMIT or not text.isprintable():
        raise argparse.ArgumentTypeError(f"a name has 1 to {_NAME_LIMIT} printable characters")
    return text
