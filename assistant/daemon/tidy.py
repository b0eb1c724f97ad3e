"""What the daemon does by itself from time to time: conversations that were put away long ago are removed."""

from __future__ import annotations

import asyncio

import structlog

from assistant.daemon.service import Service
from assistant.errors import AssistantError

EVERY_S = 24 * 3600.0

log = structlog.get_logger("tidy")


async def tidy(service: Service) -> None:
    """Purge now and once a day, for ever. What fails is tried again the next day."""
    while True:
        try:
            if gone := await service.purge():
                log.info("purged", conversations=len(gone))
        except AssistantError as error:
            log.error("purge failed", error=str(error))
        await asyncio.sleep(EVERY_S)
