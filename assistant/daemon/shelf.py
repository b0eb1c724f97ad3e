"""The KV folder as the daemon sees it: through the worker that owns it, or by itself while no worker lives."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from assistant.daemon.worker import Worker, WorkerDied
from assistant.database import DatabaseError
from assistant.episodes import look_up
from assistant.errors import AssistantError, BudgetError, DaemonError, Exit, UsageError
from assistant.orders import Check, Checked, Explain, Explained, Forget, Plan, Planned
from assistant.protocol import Episodes, Failed
from assistant.reports import KvCheck, KvStatus, MemorySplit, StoredUse, TierUse
from memory.errors import KvLocked
from memory.folder import WAIT_S, KvFolder
from memory.forgetting import forget
from memory.sharing import stored_by
from memory.sweep import CheckReport, check

PATIENCE_S = 5.0
"""How long a worker may take to say where its memory is: writing to a slow disk comes first."""

_KINDS: dict[int, type[AssistantError]] = {Exit.BUDGET: BudgetError, Exit.USAGE: UsageError}

T = TypeVar("T")


class Shelf:
    """What is kept of conversations outside the history: all of it can be removed and made anew."""

    def __init__(self, worker: Worker, folder: Path, limit: int | None) -> None:
        """`limit`: bytes that may lie in `folder`; None when nothing is written there."""
        self._worker = worker
        self._folder = folder
        self._limit = limit

    async def forget(self, conversation_id: str, heirs: Mapping[str, list[int]]) -> None:
        """Remove everything kept of a conversation but the rows that its forks (`heirs`: the ids of their text) use.

        Raises:
            AssistantError: it could not be removed; the text says where it lies.
        """
        request = Forget(id=_id(), folder=str(self._folder), conversation=conversation_id, heirs=dict(heirs))
        try:
            if await self._asked(request) is None and self._folder.exists():
                await self._alone(lambda folder: forget(folder, conversation_id, heirs))
        except (OSError, DatabaseError) as error:
            raise AssistantError(
                f"The stored KV could not be removed ({error}); the conversation is still there. The KV lies in "
                f"{self._folder}, which may be deleted while no daemon runs."
            ) from error

    async def check(self, *, repair: bool) -> KvCheck:
        """Verify every stored row.

        Raises:
            AssistantError: the folder could not be read, or repaired.
        """
        answer = await self._asked(Check(id=_id(), folder=str(self._folder), repair=repair))
        if isinstance(answer, Checked):
            return answer.report
        if not self._folder.exists():
            return KvCheck(**asdict(CheckReport(repaired=repair)))
        try:
            return KvCheck(**asdict(await self._alone(lambda folder: check(folder, repair=repair))))
        except (OSError, DatabaseError) as error:
            raise AssistantError(f"The stored KV in {self._folder} could not be checked ({error}).") from error

    async def status(self) -> KvStatus:
        """Where the KV of all conversations lies, tier by tier and on disk conversation by conversation."""
        status = await self.tiers()
        stored = await asyncio.to_thread(stored_by, self._folder)
        status.stored = [StoredUse(conversation=name, own=one.own, shared=one.shared) for name, one in stored.items()]
        return status

    async def tiers(self) -> KvStatus:
        """What each tier holds; what no worker speaks for is looked up in the folder."""
        answer = await self._worker.refresh(PATIENCE_S)
        status = KvStatus() if answer is None or answer.kv is None else answer.kv
        if answer is None and self._worker.state in ("ready", "busy"):
            status.notice = "The worker is busy and does not say what it holds: only the disk is shown."
        if not status.disk.total and self._folder.exists():
            status.disk = await asyncio.to_thread(self._on_disk)
        return status

    async def explain(self, conversation_id: str) -> Episodes:
        """The episodes of a conversation: as a worker tells that answers in time, or as its file says.

        Raises:
            AssistantError: they could not be read.
        """
        request = Explain(id=_id(), folder=str(self._folder), conversation=conversation_id)
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await self._asked(request)
        except TimeoutError:
            answer = None
        if isinstance(answer, Explained):
            return answer.episodes
        try:
            return await asyncio.to_thread(look_up, self._folder, conversation_id)
        except OSError as error:
            raise AssistantError(f"The episodes in {self._folder} could not be read ({error.strerror}).") from error

    async def plan(self, budget: str) -> MemorySplit | None:
        """What a budget would come to for the loaded model; None when none is loaded, or it does not answer in time.

        Raises:
            BudgetError: it would not hold the model.
            UsageError: it is no size.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await self._asked(Plan(id=_id(), budget=budget))
        except TimeoutError:
            return None
        return answer.memory if isinstance(answer, Planned) and answer.memory.budget else None

    def _on_disk(self) -> TierUse:
        """Bytes by kind and conversation; looking takes no lock."""
        usage = KvFolder.walk(self._folder)
        return TierUse(parts=usage.kinds, total=usage.total, limit=self._limit, conversations=dict(usage.conversations))

    async def _asked(self, request: Forget | Check | Explain | Plan) -> object | None:
        """The worker's answer, None when none lives.

        Raises:
            AssistantError: the worker could not do it.
        """
        try:
            answer = await self._worker.aside(request)
        except WorkerDied:
            return None
        if isinstance(answer, Failed):
            raise _KINDS.get(answer.exit_code, AssistantError)(answer.message)
        return answer

    async def _alone(self, action: Callable[[KvFolder], T]) -> T:
        return await asyncio.to_thread(_with_folder, self._folder, action)


def _with_folder(path: Path, action: Callable[[KvFolder], T]) -> T:
    """`action` on the folder, opened and closed on this thread."""
    try:
        folder = KvFolder.open(path, wait_s=WAIT_S)
    except KvLocked as error:
        raise DaemonError(str(error)) from error
    with closing(folder):
        return action(folder)


def _id() -> str:
    return f"aside-{secrets.token_hex(4)}"
