"""`python -m assistant.worker`: requests on standard input, events on standard output, one JSON object a line.

Whatever libraries print goes to standard error. The worker ends when its input does, so it never outlives the daemon;
what waits to be written to disk is written first.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from contextlib import suppress
from typing import TextIO

from pydantic import ValidationError

from assistant.errors import AssistantError, Exit
from assistant.protocol import (
    DEVICE_LOST,
    REQUEST,
    Aside,
    Cancel,
    Failed,
    Quit,
    Run,
    Status,
    WorkerEvent,
    WorkerLine,
)
from assistant.traces import keep_words_out, report


def main() -> None:
    """Serve requests until the input ends or a Quit comes, then write what waits to be written.

    A device that is lost ends the process at once with DEVICE_LOST: what it still holds cannot be trusted.
    """
    output = _claim_stdout()
    keep_words_out()
    from assistant.worker.device import is_lost, steady_heap

    steady_heap()
    from assistant.worker.engine import Engine, failed

    engine, runs, lock = Engine(), queue.Queue[Run | None](), threading.Lock()
    running: list[str] = []
    cancelled: dict[str, bool] = {}
    """Of every Run that was heard and has not ended."""

    def send(request: str, body: WorkerEvent) -> None:
        with lock:
            output.write(WorkerLine(id=request, body=body).model_dump_json() + "\n")
            output.flush()

    def listen() -> None:
        for line in sys.stdin:
            try:
                request = REQUEST.validate_json(line)
            except ValidationError as error:
                print(f"ignored a request that is not one: {error}", file=sys.stderr, flush=True)
                continue
            match request:
                case Run():
                    cancelled[request.id] = False
                    runs.put(request)
                case Cancel() if request.id in cancelled:
                    cancelled[request.id] = True
                    if running == [request.id]:
                        engine.cancelled.set()
                case Cancel():
                    pass
                case Quit():
                    break
                case _:
                    # On a thread of its own: a check of every row must not keep a Cancel from being heard.
                    threading.Thread(target=lambda asked=request: send(asked.id, aside(asked)), daemon=True).start()
        engine.cancelled.set()
        runs.put(None)

    def aside(request: Aside) -> WorkerEvent:
        """What is answered while a reply is being written."""
        try:
            return engine.aside(request)
        except AssistantError as error:
            return failed(error)
        except Exception as error:
            note(error)
            return Failed(message=_unexpected(error), exit_code=Exit.FAILED)

    def note(error: Exception) -> None:
        """Write an error nobody foresaw to the log; there is no going on without a device."""
        report(error)
        if is_lost(error):
            sys.stderr.flush()
            os._exit(DEVICE_LOST)

    def rest() -> None:
        """What can be done before the next request comes."""
        try:
            engine.rest(lambda: not runs.empty())
        except Exception as error:
            note(error)
            engine.recover()

    threading.Thread(target=listen, name="requests", daemon=True).start()
    with suppress(BrokenPipeError):  # the daemon has ended meanwhile; the end of the input says so too
        send("", engine.aside(Status(id="")))
    while (request := runs.get()) is not None:
        engine.cancelled.clear()
        running[:] = [request.id]
        if cancelled.get(request.id):  # while it waited for what is done between replies
            engine.cancelled.set()
        try:
            send(request.id, engine.run(request, lambda body, to=request.id: send(to, body)))  # type: ignore[misc]
        except AssistantError as error:
            send(request.id, failed(error))
        except Exception as error:
            note(error)
            engine.recover()
            send(request.id, Failed(message=_unexpected(error), exit_code=Exit.FAILED))
        finally:
            running.clear()
            cancelled.pop(request.id, None)
        rest()
    engine.close()
    os._exit(0)


def _unexpected(error: Exception) -> str:
    kind = type(error).__name__
    return f"The worker could not finish the request ({kind}: {error}). The daemon's log has the details."


def _claim_stdout() -> TextIO:
    """Keep the real standard output for events and point file descriptor 1 at standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


if __name__ == "__main__":
    main()
