"""Which working sets stay on the device while nobody asks for them: those of programs whose tools run, and of a chat.

The worker is told with every request whom to keep; what it lets go of for want of room is on disk, and comes back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from assistant.daemon.pins import Pins, PinView
from assistant.daemon.ttl import RELEASED_S, Constant
from assistant.orders import WorkerDone
from assistant.reports import MemorySplit

USER = "user"
"""The tool that a person is: reading and thinking, until the next message."""

_FIRST_GUESS = 20e-6
"""Seconds to bring one token back from disk, before any was."""
_LATEST = 20


class Reloads:
    """What bringing a working set back took, over the latest times."""

    def __init__(self) -> None:
        self._latest = deque[tuple[int, float]](maxlen=_LATEST)

    def record(self, tokens: int, seconds: float) -> None:
        """So many tokens came back in this time."""
        if tokens > 0:
            self._latest.append((tokens, seconds))

    def seconds(self, tokens: int) -> float:
        """An estimate for so many tokens."""
        known = sum(count for count, _ in self._latest)
        each = sum(seconds for _, seconds in self._latest) / known if known else _FIRST_GUESS
        return tokens * each


class Holding:
    """Pins of every conversation, by its id. Times are those of `time.monotonic`."""

    def __init__(self, memory: Callable[[], MemorySplit]) -> None:
        """`memory`: what the worker planned last."""
        self.reloads = Reloads()
        self._rule = Constant(least=RELEASED_S)
        self._pins = Pins(time.monotonic)
        self._resident: frozenset[str] = frozenset()
        self._memory = memory

    def wanted(self, conversation: str) -> None:
        """The next step of a conversation waits: what it needs stays."""
        self._pins.follow_up(conversation)

    def ranking(self, conversation: str) -> list[str]:
        """Whom to keep while `conversation` runs, the one to let go of last first; its own pin has served."""
        self._pins.unpin(conversation)
        return self._pins.ranking()

    def is_resident(self, conversation: str) -> bool:
        """Whether its working set was on the device after the last step."""
        return conversation in self._resident

    def ended(self, conversation: str, arrived: float, done: WorkerDone) -> None:
        """A step is over: its working set is pinned until its tools, or its user, are expected back."""
        usage = done.usage
        self._resident = frozenset(done.resident)
        if usage.receipt is not None and usage.receipt.source == "disk":
            self.reloads.record(usage.receipt.reused, usage.receipt.seconds)
        tools = sorted({call.name for call in done.written.calls}) if done.written else [USER]
        if not tools:
            return
        reload_s = self.reloads.seconds(usage.stored_tokens)
        tool = max(tools, key=lambda one: self._rule.ttl(one, reload_s))
        size = usage.resident_tokens * _entry_bytes(self._memory())
        self._pins.pin(conversation, arrived, tool, self._rule.ttl(tool, reload_s), size)

    def let_go(self, conversation: str) -> None:
        """The program has ended, or what it goes on with is another text: its pin is of no use."""
        self._pins.unpin(conversation)

    def emptied(self) -> None:
        """The worker has ended: nothing is on the device."""
        self._resident = frozenset()
        self._pins.clear()

    def view(self) -> list[PinView]:
        """Every pin, those that count first; `program` is the id of a conversation."""
        return self._pins.view()


def _entry_bytes(memory: MemorySplit) -> int:
    return memory.kv // memory.capacity_tokens if memory.capacity_tokens else 0
