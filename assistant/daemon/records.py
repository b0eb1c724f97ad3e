"""The one thread that owns the history's connection; everything in the event loop goes through `Records.run`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

from assistant.database import DatabaseError
from assistant.errors import AssistantError
from assistant.history import History

P = ParamSpec("P")
T = TypeVar("T")


class Records:
    """A `History` on its own thread. Calls are executed in the order in which they were made."""

    def __init__(self, thread: ThreadPoolExecutor, history: History) -> None:
        self._thread = thread
        self._history = history

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the history on a new thread."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        try:
            history = await asyncio.get_running_loop().run_in_executor(thread, History, path)
        except BaseException:
            thread.shutdown()
            raise
        return cls(thread, history)

    async def run(self, call: Callable[Concatenate[History, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call(history, ...)` on the history's thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: self._call(call, *args, **kwargs))

    async def close(self) -> None:
        """Finish what was asked for, then close the file."""
        await self.run(History.close)
        self._thread.shutdown()

    def _call(self, call: Callable[Concatenate[History, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(self._history, *args, **kwargs)
        except DatabaseError as error:
            raise AssistantError(f"The history {self._history.path} could not be used: {error}.") from error
