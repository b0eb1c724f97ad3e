"""Asking the person at the terminal whether a call may be made."""

from __future__ import annotations

import asyncio
import sys

from assistant.agent.approval import Answer, Approver, Question
from assistant.commands.terminal import say

_ASKED = "[y] once · [s] for this run · [a] always, for exactly this · [n] no · or no, and why: "


def approver_at_terminal() -> Approver | None:
    """Asks on standard error and reads the answer from the terminal; None where there is nobody."""
    return _ask if sys.stdin.isatty() and sys.stderr.isatty() else None


async def _ask(question: Question) -> Answer:
    say(question.sentence)
    return await asyncio.to_thread(_answer)


def _answer() -> Answer:
    print(_ASKED, end="", file=sys.stderr, flush=True)
    said = sys.stdin.readline().strip()
    match said.lower():
        case "y" | "yes":
            return Answer("once")
        case "s":
            return Answer("session")
        case "a":
            return Answer("always")
        case "" | "n" | "no":
            return Answer("deny")
    return Answer("deny", said.removeprefix("no").lstrip(" ,:") or said)
