"""A monkey at the keyboard: seeded random actions against a running chat, and what must be true whatever it does.

Every word it types is one character that no other word has, so that a word is either whole or gone. There are rounds in
which it writes, rounds in which it looks around, and rounds in which it may also delete; what was in the prompt before
one of the first two must be in the prompt, in the transcript or in the history afterwards.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
from collections.abc import Callable, Sequence

from textual import events
from textual.geometry import Size

from assistant.daemon.probe import listener
from assistant.places import Places
from tests.tui.driver import Driver
from tui.keys import bindings_of, sections

ACTIONS = 200
ROUND = 20
FIRST_WORD = 0x4E00
"""Words are Chinese characters: two cells wide each."""
SNIPPETS = (
    "[b]bold[/b] [/",
    "👩‍👩‍👧 🇩🇪 é",
    "\x1b[31mred\x1b[0m \x1b]0;t\x07",
    "`code` **x** <b>",
    "日本語 ｶﾀｶﾅ",
    "\t| a | b |\n",
)
STORMS = ("pace 1000 300", "long 200", "escape", "notice A notice.", "fail 5 It does not fit.", "garbage", "slow")
LOOK = ("escape", "enter", "tab", "shift+tab", "up", "down", "left", "right", "home", "end", "pageup", "pagedown", "f5")
EDIT = ("backspace", "delete", "ctrl+w", "ctrl+u", "ctrl+k", "ctrl+z", "ctrl+y", "ctrl+a", "ctrl+x", "slash", "@", "y")
QUITS = {"ctrl+q"}
BIG = "megabyte " * 116_509


class Monkey:
    """One sequence of actions; `diary` says what it did."""

    def __init__(self, driver: Driver, places: Places, seed: int) -> None:
        self._driver = driver
        self._places = places
        self._chance = random.Random(seed)
        self._words = 0
        self._big = False
        self._may_kill = seed % 5 == 0
        self.diary: list[str] = []

    async def play(self) -> None:
        """All rounds; ends early when the app has ended (Ctrl+C twice is a way out)."""
        rounds: Sequence[Callable[[], None]] = (self._write, self._look, self._anything)
        for number in range(ACTIONS // ROUND):
            await self._driver.settle()
            act = rounds[number % 3]
            before = self._words_in_prompt()
            if act == self._write:
                self._key("end")  # typing replaces what is selected
            for _ in range(ROUND):
                act()
                for _ in range(self._chance.randint(0, 4)):
                    await asyncio.sleep(0)
            await self._driver.settle()
            if self._gone:
                return
            if act != self._anything:
                self._nothing_lost(before)

    @property
    def _gone(self) -> bool:
        return self._driver.app.return_code is not None

    def _words_in_prompt(self) -> set[str]:
        text = "" if self._gone else self._driver.prompt.message
        return {char for char in text if FIRST_WORD <= ord(char) < FIRST_WORD + self._words}

    def _nothing_lost(self, words: set[str]) -> None:
        shown = self._driver.prompt.message + "".join(self._driver.said)
        missing = [word for word in words if word not in shown and not self._stored(word)]
        assert not missing, f"lost {missing} after {self.diary[-ROUND - 1 :]}; the prompt has {shown[:500]!r}"

    def _stored(self, word: str) -> bool:
        history = sqlite3.connect(f"file:{self._places.history}?mode=ro", uri=True)
        try:
            found = history.execute("select 1 from turns where instr(text, ?) limit 1", [word]).fetchone()
        finally:
            history.close()
        return found is not None

    # --- rounds -----------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        self._choose((8, self._word), (3, self._send), (2, self._snippet), (2, self._storm), (2, self._resize))
        if not self._big and self._words > 20:
            self._big = True
            self._paste(BIG)

    def _look(self) -> None:
        self._choose((8, self._bound_key), (4, self._click), (3, self._resize), (1, self._kill), (2, self._wheel))

    def _anything(self) -> None:
        self._choose((6, self._bound_key), (4, self._edit), (3, self._word), (2, self._snippet), (2, self._click))

    def _choose(self, *acts: tuple[int, Callable[[], None]]) -> None:
        weights, choices = zip(*acts, strict=True)
        self._chance.choices(choices, weights)[0]()

    # --- actions ----------------------------------------------------------------------------------------------------

    def _word(self) -> None:
        self._key(chr(FIRST_WORD + self._words))
        self._key("space", " ")
        self._words += 1

    def _send(self) -> None:
        self._key(self._chance.choice(("enter", "enter", "ctrl+j", "escape")))

    def _storm(self) -> None:
        """A message that makes the scripted worker do something; what is in the prompt goes with it."""
        self._key("home")
        for char in self._chance.choice(STORMS) + " ":
            self._key("space" if char == " " else char, char)
        self._key("end")
        self._key("enter")

    def _bound_key(self) -> None:
        self._key(self._chance.choice(bound_keys()))

    def _edit(self) -> None:
        self._key(self._chance.choice(EDIT))

    def _snippet(self) -> None:
        self._paste(self._chance.choice(SNIPPETS))

    def _paste(self, text: str) -> None:
        self._note(f"paste {text[:10]!r}")
        self._send_event(events.Paste(text))

    def _resize(self) -> None:
        size = Size(self._chance.randint(10, 300), self._chance.randint(3, 100))
        self._note(f"resize {size.width}x{size.height}")
        self._driver.resize(size)

    def _click(self) -> None:
        size = self._driver.app.size
        x, y = self._chance.randrange(size.width), self._chance.randrange(size.height)
        self._note(f"click {x},{y}")
        for kind in (events.MouseMove, events.MouseDown, events.MouseUp):
            self._send_event(kind(None, x, y, 0, 0, 1, False, False, False))

    def _wheel(self) -> None:
        x, y = self._driver.app.size.width // 2, self._driver.app.size.height // 2
        kind = self._chance.choice((events.MouseScrollUp, events.MouseScrollDown))
        self._note(kind.__name__)
        self._send_event(kind(None, x, y, 0, 0, 0, False, False, False))

    def _kill(self) -> None:
        """End the daemon; the app starts another one when it needs one."""
        if self._may_kill and (pid := listener(self._places.socket)) is not None:
            self._may_kill = False
            self._note(f"kill daemon {pid}")
            os.kill(pid, signal.SIGKILL)

    def _key(self, key: str, character: str | None = None) -> None:
        self._note(key)
        self._send_event(events.Key(key, character or (key if len(key) == 1 else None)))

    def _note(self, what: str) -> None:
        self.diary.append(what)

    def _send_event(self, event: events.Event) -> None:
        if not self._gone:
            self._driver.send(event)


def bound_keys() -> list[str]:
    """Every key of the help page that is no letter, and those of lists and dialogs."""
    keys = {key for _, owner in sections() for binding in bindings_of(owner) for key in binding.key.split(",")}
    return sorted({key for key in keys if len(key) > 1} - QUITS - set(EDIT)) + list(LOOK)
