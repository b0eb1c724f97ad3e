"""Between the worker's standard streams and its engine: who is heard, what waits, what is cancelled, what is said."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import TextIO

from pydantic import ValidationError

from assistant.errors import AssistantError, Exit
from assistant.orders import REQUEST, Aside, Cancel, Quit, Request, Run, Status, WorkerEvent, WorkerLine
from assistant.protocol import DEVICE_LOST, Failed
from assistant.traces import report
from assistant.worker.device import is_lost
from assistant.worker.engine import Engine, failed


class Lines:
    """One reply at a time on the calling thread; requests are heard, and asides answered, beside it.

    A device that is lost ends the process at once with DEVICE_LOST: what it still holds cannot be trusted.
    """

    def __init__(self, engine: Engine, output: TextIO) -> None:
        self._engine = engine
        self._output = output
        self._lock = threading.Lock()
        self._runs: queue.Queue[Run | None] = queue.Queue()
        self._running: str | None = None
        self._cancelled: dict[str, bool] = {}
        """Of every Run that was heard and has not ended."""

    def serve(self, requests: Iterable[str]) -> None:
        """Say how the worker is, then answer until the requests end or one is a Quit."""
        threading.Thread(target=self._listen, args=(requests,), name="requests", daemon=True).start()
        with suppress(BrokenPipeError):  # the daemon has ended meanwhile; the end of the input says so too
            self._send("", self._engine.aside(Status(id="")))
        while (run := self._runs.get()) is not None:
            self._begin(run)
            self._answer(run)
            self._rest()

    def _send(self, request: str, body: WorkerEvent) -> None:
        with self._lock:
            self._output.write(WorkerLine(id=request, body=body).model_dump_json() + "\n")
            self._output.flush()

    def _listen(self, lines: Iterable[str]) -> None:
        for line in lines:
            try:
                request = REQUEST.validate_json(line)
            except ValidationError as error:
                print(f"ignored a request that is not one: {error}", file=sys.stderr, flush=True)
                continue
            if isinstance(request, Quit):
                break
            self._hear(request)
        self._engine.cancelled.set()
        self._runs.put(None)

    def _hear(self, request: Request) -> None:
        match request:
            case Run():
                self._cancelled[request.id] = False
                self._runs.put(request)
            case Cancel():
                self._cancel(request.id)
            case _:
                # On a thread of its own: a check of every row must not keep a Cancel from being heard.
                threading.Thread(target=self._answer_aside, args=(request,), daemon=True).start()

    def _cancel(self, request: str) -> None:
        if request in self._cancelled:
            self._cancelled[request] = True
            if self._running == request:
                self._engine.cancelled.set()

    def _begin(self, run: Run) -> None:
        self._engine.cancelled.clear()
        self._running = run.id
        if self._cancelled.get(run.id):  # while it waited
            self._engine.cancelled.set()

    def _answer(self, run: Run) -> None:
        try:
            self._send(run.id, self._engine.run(run, lambda body: self._send(run.id, body)))
        except AssistantError as error:
            self._send(run.id, failed(error))
        except Exception as error:
            _note(error)
            self._engine.recover()
            self._send(run.id, _unexpected(error))
        finally:
            self._running = None
            self._cancelled.pop(run.id, None)

    def _answer_aside(self, request: Aside) -> None:
        self._send(request.id, self._aside(request))

    def _aside(self, request: Aside) -> WorkerEvent:
        """What is answered while a reply is being written."""
        try:
            return self._engine.aside(request)
        except AssistantError as error:
            return failed(error)
        except Exception as error:
            _note(error)
            return _unexpected(error)

    def _rest(self) -> None:
        """What can be done before the next request comes."""
        try:
            self._engine.rest(lambda: not self._runs.empty())
        except Exception as error:
            _note(error)
            self._engine.recover()


def _note(error: Exception) -> None:
    """Write an error nobody foresaw to the log; there is no going on without a device."""
    report(error)
    if is_lost(error):
        sys.stderr.flush()
        os._exit(DEVICE_LOST)


def _unexpected(error: Exception) -> Failed:
    kind = type(error).__name__
    message = f"The worker could not finish the request ({kind}: {error}). The daemon's log has the details."
    return Failed(message=message, exit_code=Exit.FAILED)
