"""Drives the chat program without a terminal: keys in, what is on the screen out, waiting on predicates only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from textual import events
from textual._wait import wait_for_idle
from textual.drivers.headless_driver import HeadlessDriver
from textual.geometry import Size
from textual.pilot import Pilot, WaitForScreenTimeout
from textual.widget import Widget

from tui.lines import activity
from tui.options import Options
from tui.preferences import Preferences
from tui.program import ChatApp
from tui.screens.chat import ChatScreen
from tui.widgets.prompt import Prompt
from tui.widgets.transcript import Transcript
from tui.widgets.turn import NoteTurn, ReplyTurn, UserTurn

DEADLINE_S = 20.0
W = TypeVar("W", bound=Widget)


class Driver:
    """A running app and shorthands for what a user sees of it."""

    def __init__(self, app: ChatApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def chat(self) -> ChatScreen:
        screen = self.app.screen_stack[0]
        assert isinstance(screen, ChatScreen)
        return screen

    @property
    def prompt(self) -> Prompt:
        return self.chat.query_one(Prompt)

    @property
    def transcript(self) -> Transcript:
        return self.chat.query_one(Transcript)

    def of(self, kind: type[W]) -> list[W]:
        return list(self.transcript.query(kind))

    @property
    def said(self) -> list[str]:
        return [turn.text for turn in self.of(UserTurn)]

    @property
    def replies(self) -> list[str]:
        return [turn.text for turn in self.of(ReplyTurn)]

    @property
    def notes(self) -> list[str]:
        return [note.text for note in self.of(NoteTurn)]

    @property
    def doing(self) -> str:
        return activity(self.chat.view, time.monotonic())

    @property
    def screen_text(self) -> str:
        """Every character on the screen."""
        lines = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text for strip in lines)

    async def until(self, true: Callable[[], bool], what: str, seconds: float = DEADLINE_S) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"not in {seconds} s: {what}\n{self.screen_text}"
            await asyncio.sleep(0.01)
        await self.pilot.pause()

    async def sees(self, words: str) -> None:
        """They are on the screen, or come as soon as it is drawn again."""
        await self.until(lambda: words in self.screen_text, f"{words!r} on the screen")

    async def ready(self) -> None:
        await self.until(lambda: self.chat.view.phase == "ready" and self.chat.desk.idle, "ready")

    async def type(self, text: str) -> None:
        self.prompt.insert(text)
        await self.pilot.press("enter")

    async def ask(self, text: str) -> None:
        """Send a message and wait for the committed reply."""
        before = len(self.replies)
        await self.type(text)
        await self.until(lambda: len(self.replies) > before and self.chat.desk.idle, f"answer to {text!r}")

    def send(self, event: events.Event) -> None:
        """An event as the terminal would send it, without waiting for what it does."""
        terminal = self.app._driver
        assert terminal is not None
        terminal.send_message(event)

    def resize(self, size: Size) -> None:
        """Change the size of the terminal, without waiting."""
        terminal = self.app._driver
        assert isinstance(terminal, HeadlessDriver)
        terminal._size = size
        self.send(events.Resize(size, size))

    async def settle(self) -> None:
        """All that was sent has been handled, and what that sent too. A widget that is removed before it answers never
        does: they are asked again."""
        end = time.monotonic() + DEADLINE_S
        for _ in range(2):
            while self.app.return_code is None and not await self._answered():
                assert time.monotonic() < end, f"it hangs\n{self.screen_text}"
            await wait_for_idle(0)

    async def _answered(self) -> bool:
        with suppress(WaitForScreenTimeout):
            await self.pilot._wait_for_screen(DEADLINE_S / 10)
            return True
        return False

    async def quit(self) -> None:
        """Ctrl+Q, and the app ends whatever is open."""
        if self.app.return_code is None:
            self.send(events.Key("ctrl+q", None))
        end = time.monotonic() + DEADLINE_S
        while self.app.return_code is None:
            assert time.monotonic() < end, f"it does not quit\n{self.screen_text}"
            await asyncio.sleep(0.01)


@asynccontextmanager
async def chatting(
    options: Options | None = None, size: tuple[int, int] = (80, 24), preferences: Preferences | None = None
) -> AsyncIterator[Driver]:
    """The chat program, opened and ready."""
    app = ChatApp(options, preferences)
    async with app.run_test(size=size) as pilot:
        driver = Driver(app, pilot)
        await driver.ready()
        yield driver
