"""Better titles while nobody waits: what a conversation is about, from the episodes that the worker has found in it.

No model runs for them and no KV is touched: the episodes' own titles are read from their file.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import structlog

from assistant.daemon.lane import Lane
from assistant.daemon.records import Records
from assistant.episodes import look_up
from assistant.errors import AssistantError
from assistant.history import History
from assistant.history.base import first_line
from assistant.protocol import Episodes

IDLE_S = 2.0
"""How long after a message it is looked whether nobody waits."""

FEWEST = 12
"""Turns of a conversation that its first line does not stand for any more."""

GROWTH = 1.5
"""A title stays until there are so many times the turns it was made of: it should not change under the eye."""

TOPICS = 3
"""Episodes that a title names, the largest first."""

WORDS = 2
"""Words of each of them."""

log = structlog.get_logger("titles")


class Titles:
    """Titles of the conversations that something was said in."""

    def __init__(self, records: Records, lane: Lane, folder: Path) -> None:
        self._records = records
        self._lane = lane
        self._folder = folder
        self._touched: set[str] = set()
        self._wake = asyncio.Event()

    def note(self, conversation_id: str) -> None:
        """Something is said in a conversation."""
        self._touched.add(conversation_id)
        self._wake.set()

    async def serve(self) -> None:
        """Look at what was touched whenever nobody waits, for ever."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(IDLE_S)
            if self._lane.idle:
                touched, self._touched = self._touched, set()
                self._wake.clear()
                for one in touched:
                    await self._look(one)

    async def _look(self, conversation_id: str) -> None:
        try:
            await self._improve(conversation_id)
        except (AssistantError, OSError) as error:
            log.warning("no title", conversation=conversation_id, error=type(error).__name__)

    async def _improve(self, conversation_id: str) -> None:
        grown = await self._records.run(History.growth, conversation_id)
        if grown is None or grown[0] < max(FEWEST, GROWTH * grown[1]):
            return
        title = topics(await asyncio.to_thread(look_up, self._folder, conversation_id))
        if title:
            await self._records.run(History.suggest_title, conversation_id, title, grown[0])


def topics(found: Episodes) -> str:
    """Words of the largest episodes, none of them twice; nothing while there are no episodes."""
    sizes = Counter(one.episode for one in found.segments if one.episode is not None)
    said = set[str]()
    parts = []
    for episode, _ in sizes.most_common(TOPICS):
        words = [word for word in found.titles.get(episode, "").split(", ") if word and word not in said][:WORDS]
        said.update(words)
        parts += [", ".join(words)] if words else []
    text = " · ".join(parts)
    return first_line(text[:1].upper() + text[1:])
