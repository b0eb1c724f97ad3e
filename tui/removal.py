"""Removing widgets when whoever waits for it may be cancelled.

Textual waits for the pumps of the widgets with `gather`, which hands a cancellation on to them: a worker that is
replaced while it waits would end the pumps halfway, and the widgets would stay on the screen and answer nothing.
It also hands one back: a pump that was cancelled would end whoever waits for it, the app's own too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator

from textual._callback import invoke
from textual.await_remove import AwaitRemove


class Removal(AwaitRemove):
    """Textual's, which goes on when nobody waits for it any more, and ends well however the pumps end."""

    @classmethod
    def of(cls, removal: AwaitRemove) -> Removal:
        return cls(removal._tasks, removal._post_remove)

    def __await__(self) -> Generator[None, None, None]:
        here = asyncio.current_task()
        return asyncio.shield(self._gone([task for task in self._tasks if task is not here])).__await__()

    async def _gone(self, tasks: list[asyncio.Task[None]]) -> None:
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._post_remove is not None:
            await invoke(self._post_remove)
