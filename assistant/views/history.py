"""A whole conversation, page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from assistant.protocol import Turn

PAGE = 500
"""Turns asked for at a time, the most there can be."""

Page = Callable[[int | None], Awaitable[list[Turn]]]
"""The newest `PAGE` turns before a turn's id (None: of all), oldest first."""


async def every_turn(page: Page) -> list[Turn]:
    """Every turn of the conversation that `page` reads, oldest first."""
    pages = [await page(None)]
    while len(pages[-1]) == PAGE:
        pages.append(await page(pages[-1][0].id))
    return [turn for one in reversed(pages) for turn in one]
