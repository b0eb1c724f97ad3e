"""The KV folder as the daemon sees it: through the worker that owns it, or by itself while no worker lives."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import structlog

from assistant.daemon.worker import Worker, WorkerDied
from assistant.errors import AssistantError, DaemonError
from assistant.protocol import Check, Checked, Failed, Forget, KvCheck, KvStatus, Status, TierUse, WorkerStatus
from memory.errors import KvLocked
from memory.folder import KvFolder
from memory.sweep import check

WAIT_S = 10.0
"""How long a worker that is just ending is waited for."""

T = TypeVar("T")
log = structlog.get_logger("shelf")


class Shelf:
    """What is kept of conversations outside the history: all of it can be removed and made anew."""

    def __init__(self, worker: Worker, folder: Path) -> None:
        self._worker = worker
        self._folder = folder

    async def forget(self, conversation_id: str) -> None:
        """Remove everything kept of a conversation.

        Raises:
            AssistantError: it could not be removed; the text says where it lies.
        """
        request = Forget(id=_id(), folder=str(self._folder), conversation=conversation_id)
        try:
            if await self._asked(request) is None:
                await self._alone(lambda folder: folder.forget(conversation_id))
        except OSError as error:
            raise AssistantError(
                f"The stored KV could not be removed ({error.strerror}). It lies in {self._folder}, "
                "which may be deleted while no daemon runs."
            ) from error

    async def check(self, *, repair: bool) -> KvCheck:
        """Verify every stored row."""
        answer = await self._asked(Check(id=_id(), folder=str(self._folder), repair=repair))
        if isinstance(answer, Checked):
            return answer.report
        return KvCheck(**asdict(await self._alone(lambda folder: check(folder, repair=repair))))

    async def status(self) -> KvStatus:
        """Where the KV of all conversations lies."""
        answer = await self._asked(Status(id=_id()))
        if isinstance(answer, WorkerStatus) and answer.kv is not None:
            return answer.kv
        if not self._folder.exists():
            return KvStatus()
        kinds, total = await asyncio.to_thread(_walk, self._folder)
        return KvStatus(disk=TierUse(parts=kinds, total=total))

    async def _asked(self, request: Forget | Check | Status) -> object | None:
        """The worker's answer, None when none lives.

        Raises:
            AssistantError: the worker could not do it.
        """
        try:
            answer = await self._worker.aside(request)
        except WorkerDied:
            return None
        if isinstance(answer, Failed):
            raise AssistantError(answer.message)
        return answer

    async def _alone(self, action: Callable[[KvFolder], T]) -> T:
        return await asyncio.to_thread(_with_folder, self._folder, action)


def _with_folder(path: Path, action: Callable[[KvFolder], T]) -> T:
    """`action` on the folder, opened and closed on this thread."""
    try:
        folder = KvFolder.open(path, wait_s=WAIT_S)
    except KvLocked as error:
        raise DaemonError(str(error)) from error
    try:
        return action(folder)
    finally:
        folder.close()


def _walk(path: Path) -> tuple[dict[str, int], int]:
    """Bytes by kind and in all; looking takes no lock."""
    kinds = KvFolder.walk(path).kinds
    return kinds, sum(kinds.values())


def _id() -> str:
    return f"aside-{secrets.token_hex(4)}"
