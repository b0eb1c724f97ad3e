"""Asking the person at the terminal whether a call may be made."""

from __future__ import annotations

import asyncio
import sys

from assistant.agent.approval import Answer, Approver, Question
from assistant.commands.terminal import say

_ASKED = "[y] once · [s] for this run · [a] always, for exactly this · [n] no · or no, and why: "


def approver_at_terminal() -> Approver | None:
    """Asks on standard error and reads the answer from the terminal; None where there is nobody."""
    return _Asker().ask if sys.stdin.isatty() and sys.stderr.isatty() else None


class _Asker:
    """Asks one question after the other."""

    async def ask(self, question: Question) -> Answer:
        say(question.sentence)
        print(_ASKED, end="", file=sys.stderr, flush=True)
        return _answer(await self._line())

    async def _line(self) -> str:
        """What is typed; Ctrl+C leaves without waiting for it, as a thread that reads would not."""
        loop, typed = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(sys.stdin, typed.set)
        try:
            await typed.wait()
        finally:
            loop.remove_reader(sys.stdin)
        return sys.stdin.readline().strip()


def _answer(said: str) -> Answer:
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
