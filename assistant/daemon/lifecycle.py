"""The life of one daemon process: lock, socket, service, drain. `run` is the whole of it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import structlog
import uvicorn
from filelock import FileLock, Timeout

from assistant import __version__
from assistant.address import parse_address
from assistant.daemon import worker as child
from assistant.daemon.app import create_app
from assistant.daemon.door import bind, bind_tcp, bound
from assistant.daemon.engine import Engines
from assistant.daemon.gate import gate
from assistant.daemon.guard import Rules
from assistant.daemon.keeper import due
from assistant.daemon.limits import Limits
from assistant.daemon.log import open_log
from assistant.daemon.manager import Manager
from assistant.daemon.probe import listener
from assistant.daemon.records import Records
from assistant.daemon.service import Service
from assistant.daemon.tidy import tidy
from assistant.daemon.token import token_of
from assistant.errors import DaemonError, Exit
from assistant.history import History
from assistant.places import Places, private
from assistant.protocol import Notice
from assistant.settings import Settings

ANSWER_S = 2.0
"""How long a second daemon waits for the first, which holds the lock, to answer."""
CLOSE_S = 2
STOPPING = "The daemon is stopping: what was written so far is kept, and nothing is lost."

log = structlog.get_logger("daemon")


def run(
    places: Places, settings: Settings, command: Sequence[str] = child.COMMAND, limits: Limits | None = None
) -> Exit:
    """Be the daemon until a signal or POST /api/shutdown ends it; how it ended, as an exit code.

    Raises:
        DaemonError: another daemon serves these places; the text names its pid.
        UsageError: it cannot listen where it was told to.
    """
    os.umask(0o077)
    manager = Manager.of(os.environ)
    with _alone(places):
        open_log(places.log)
        return asyncio.run(Daemon(places, settings, command, manager, limits or Limits()).live())


class Daemon:
    """Everything a daemon has, from the first request to the last."""

    def __init__(
        self, places: Places, settings: Settings, command: Sequence[str], manager: Manager, limits: Limits
    ) -> None:
        self._places = places
        self._manager = manager
        self._settings = settings
        self._limits = limits
        self._worker = child.Worker(places.log, command)
        self._open = asyncio.Event()
        self._leave = asyncio.Event()
        self._exit = Exit.OK

    async def live(self) -> Exit:
        """Open the history, then the door: who can connect finds a daemon that can work."""
        self._listen_to_signals()
        passed = self._manager.door(self._places.socket)
        records = await Records.open(self._places.history)
        interrupted = await records.run(History.recover)
        log.info("serving", pid=os.getpid(), version=__version__, interrupted=interrupted)
        tcp = self._open_tcp()
        door = passed or bind(self._places.socket)
        try:
            await self._serve(records, door, tcp)
        finally:
            if passed is None:
                self._places.socket.unlink(missing_ok=True)
            for one in filter(None, (door, tcp)):
                one.close()
            await records.close()
        log.info("stopped", exit=int(self._exit))
        return self._exit

    def _open_tcp(self) -> socket.socket | None:
        """The socket on loopback, where the settings want one; its token is there before anyone can come."""
        if self._settings.listen is None:
            return None
        token_of(self._places.token)
        return bind_tcp(parse_address(self._settings.listen))

    async def _serve(self, records: Records, door: socket.socket, tcp: socket.socket | None) -> None:
        """Serve until told to leave, then drain."""
        address = bound(tcp) if tcp else None
        service = Service(records, self._worker, Engines(self._places, self._settings), address)
        rules = Rules.of(self._settings, self._limits, address, self._places.token)
        server = _Server(service, lambda: self._stop(Exit.OK), self._opened, rules)
        lane = asyncio.create_task(service.lane.serve())
        works = (tidy(service), service.titles.serve(), self._keep(service), self._end_when_idle(service))
        aside = [asyncio.create_task(work) for work in works]
        serving = asyncio.create_task(server.serve(sockets=[one for one in (door, tcp) if one]))
        await asyncio.wait([serving, asyncio.create_task(self._leave.wait())], return_when=asyncio.FIRST_COMPLETED)
        service.lane.close()
        await self._drain(service)
        for task in (lane, *aside):
            task.cancel()
        await self._worker.stop()  # who comes meanwhile is still answered: that the daemon is stopping
        server.should_exit = True
        await serving

    async def _keep(self, service: Service) -> None:
        """Have a worker ready; once the door is open, since its start takes what this process would need."""
        await self._open.wait()
        with suppress(DaemonError):
            await service.keeper.prepare()
        await service.keeper.serve()

    async def _end_when_idle(self, service: Service) -> None:
        """End the daemon when nobody has asked it anything for `exit_after`."""
        await due(lambda: service.attendance.left() if service.lane.idle else None, service.attendance.changed)
        log.info("nobody asked", exit_after=self._settings.exit_after)
        self._stop(Exit.OK)

    async def _drain(self, service: Service) -> None:
        """End every request within `drain_s`: partial replies are kept, a worker that does not stop is ended."""
        service.lane.tell(Notice(text=STOPPING))
        closing = asyncio.create_task(service.lane.cancel_all())
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_s):
                await asyncio.shield(closing)
        if not closing.done():
            await self._worker.kill()
        await closing

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number, code in ((signal.SIGTERM, Exit.SIGTERM), (signal.SIGINT, Exit.SIGINT)):
            loop.add_signal_handler(number, self._stop, code)

    def _opened(self) -> None:
        self._manager.tell("READY=1")
        self._open.set()

    def _stop(self, code: Exit) -> None:
        """Begin the end: what is still admitted is cancelled with the rest."""
        self._manager.tell("STOPPING=1")
        self._exit = code
        self._leave.set()


class _Server(uvicorn.Server):
    """uvicorn on sockets that we bound; signals are the daemon's business."""

    def __init__(
        self, service: Service, shut_down: Callable[[], None], ready: Callable[[], None], rules: Rules
    ) -> None:
        self._ready = ready
        super().__init__(
            uvicorn.Config(
                create_app(service, shut_down, rules),
                http=gate(rules.limits),
                ws="none",
                lifespan="off",
                proxy_headers=False,
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                h11_max_incomplete_event_size=rules.limits.header,
                timeout_graceful_shutdown=CLOSE_S,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say so when it is done: from now on whoever connects is answered."""
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


@contextmanager
def _alone(places: Places) -> Iterator[None]:
    """Hold the lock for life; the operating system gives it back even after kill -9."""
    private(places.runtime)
    lock = FileLock(places.lock, timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise DaemonError(_already(places)) from None
    try:
        yield
    finally:
        lock.release()


def _already(places: Places) -> str:
    """Name the daemon that holds the lock; one that has just begun to start is given a moment."""
    end = time.monotonic() + ANSWER_S
    while (pid := listener(places.socket)) is None and time.monotonic() < end:
        time.sleep(0.02)
    if pid is None:
        return f"Another daemon holds {places.lock} but does not answer. Look for it with: fuser {places.lock}"
    return f"A daemon runs already with pid {pid}. Stop it with: assistant daemon stop"
