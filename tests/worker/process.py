"""A real worker process, spoken to in its own lines."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from assistant.orders import Cancel, ModelSpec, Run, WorkerDone, WorkerLine, WorkerTurn
from assistant.protocol import Calling, Failed, Prefill, Sampling
from tests.worker.warm import WarmProcess


class WorkerProcess:
    """`with WorkerProcess(folder) as worker:`; `ask` continues one conversation as the daemon would."""

    def __init__(self, folder: Path, command: Sequence[str] | None = None, **spec: Any) -> None:
        self.spec = ModelSpec(id="tiny", path=str(folder), **({"budget": "64MiB"} | spec))
        self.conversation = "c"
        self.origins: list[str] = []
        self.calling: Calling | None = None
        self.turns: list[WorkerTurn] = []
        self.events: list[Any] = []
        self.process: Any = WarmProcess() if command is None else _cold(command)

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        finally:
            self.process.kill()
            self.process.stdout.close()

    @property
    def text(self) -> str:
        """What the pieces of the last reply add up to."""
        return "".join(event.text for event in self.events if event.event == "piece")

    @property
    def prefills(self) -> list[Prefill]:
        return [event for event in self.events if event.event == "prefill"]

    def ask(self, text: str, watch: Callable[[Any], None] | None = None, **sampling: Any) -> Any:
        """One turn and its reply; on success both are recorded with their ids."""
        self.turns.append(WorkerTurn(id=len(self.turns), role="user", text=text))
        chosen = Sampling(**({"temperature": 0.0, "max_tokens": 12} | sampling))
        answer = self.run(len(self.turns), chosen, watch)
        if isinstance(answer, WorkerDone):
            self.turns.append(WorkerTurn(id=len(self.turns), role="assistant", text=answer.text))
            self._record(answer)
        return answer

    def read(self, texts: list[str], watch: Callable[[Any], None] | None = None) -> Any:
        """An import: transcript turns, read without a reply."""
        start = len(self.turns)
        self.turns += [WorkerTurn(id=start + at, role="transcript", text=text) for at, text in enumerate(texts)]
        answer = self.run(None, None, watch)
        self._record(answer)
        return answer

    def run(self, reply: int | None, sampling: Sampling | None, watch: Callable[[Any], None] | None = None) -> Any:
        """Send a Run and collect its events until it ends."""
        request = Run(
            id="1",
            spec=self.spec,
            conversation=self.conversation,
            turns=self.turns,
            reply_id=reply,
            sampling=sampling,
            origins=self.origins,
            calling=self.calling,
        )
        self.send(request.model_dump_json())
        self.events = []
        while True:
            event = self.receive()
            self.events.append(event)
            if watch is not None:
                watch(event)
            if isinstance(event, WorkerDone | Failed):
                return event

    def aside(self, request: Any) -> Any:
        """Send a request that is answered beside replies, and wait for the answer."""
        self.send(request.model_dump_json())
        return self.receive()

    def fork(self, conversation: str, turns: int) -> None:
        """Go on in another conversation that begins with the first `turns` turns of this one, as the daemon does it."""
        self.origins = [self.conversation, *self.origins]
        self.conversation = conversation
        self.turns = [
            turn.model_copy(update={"id": 1000 * len(self.origins) + at}) for at, turn in enumerate(self.turns[:turns])
        ]

    def cancel(self) -> None:
        self.send(Cancel(id="1").model_dump_json())

    def send(self, line: str) -> None:
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        """The next event that answers something; every line of the worker's standard output must be an event."""
        while line := self.process.stdout.readline():
            said = WorkerLine.model_validate(json.loads(line))
            if said.id:
                return said.body
        raise AssertionError("the worker ended")

    def status_bytes(self, field: str) -> int:
        """A size of the process as the kernel tells it, in bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

    def _record(self, answer: WorkerDone) -> None:
        for turn in self.turns:
            turn.token_ids = answer.token_ids.get(turn.id, turn.token_ids)


def _cold(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
