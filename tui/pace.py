"""When a growing reply is drawn: right after the echo of a key while somebody types, at any time otherwise.

Drawing a reply takes longer than the echo of a key. Between two keys there is time for it; a key that comes in the
middle of it waits.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

TYPING_S = 0.3
"""So long after a key another one is expected."""

INTERVAL_S = 1.2
"""Between two drawings while somebody types."""

QUIET_S = 1.5
"""So long after a key none is expected soon."""


class Pace:
    """One for the prompt, which says when keys come and are echoed, and the reply, which waits for its gap."""

    def __init__(self) -> None:
        self._typed = -TYPING_S
        self._waiting: list[asyncio.Event] = []

    @property
    def quiet(self) -> bool:
        """Nobody is typing."""
        return time.monotonic() - self._typed > QUIET_S

    @property
    def interval(self) -> float:
        """Seconds between two drawings, at least: longer ones for somebody who is busy with other words."""
        return INTERVAL_S if time.monotonic() - self._typed < TYPING_S else 0.0

    def typed(self) -> None:
        """A key has come; its echo will follow."""
        self._typed = time.monotonic()

    def echoed(self) -> None:
        """What was typed is on the screen."""
        for one in self._waiting:
            one.set()
        self._waiting.clear()

    async def gap(self) -> None:
        """Until a key has been echoed, or none has come for a while."""
        while (left := self._typed + TYPING_S - time.monotonic()) > 0:
            echo = asyncio.Event()
            self._waiting.append(echo)
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await echo.wait()
                return
