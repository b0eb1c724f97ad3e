"""A scripted worker without torch: it speaks the JSON lines of `assistant.orders` and does what the last turn says.

The first word of the last turn's text is the script; anything else is echoed as a Markdown reply:

    crash              writes two pieces, then ends itself with SIGKILL
    crash-at-once      ends itself before it writes anything
    slow [FILE]        writes one piece, waits until FILE exists (without FILE: until it is cancelled), then goes on
    long N             writes N pieces, "word0 word1 ..."
    pace RATE N        writes N pieces of Markdown, RATE a second
    deaf               writes one piece and ignores Cancel
    turns              replies with the turns it was given, as JSON
    pins               replies with the pins it was given, as JSON
    spec               replies with the model spec it was given, as JSON
    notice TEXT        sends a Notice, then replies
    fail CODE TEXT     answers Failed with this exit code and text
    overflow           answers Failed: the prompt needs 5,000 tokens where there are 4,000
    calling            replies with what it may call, as JSON
    garbage            writes a line that is not a WorkerLine
    escape             replies with terminal escape codes in the text
    device NAME        says from now on that it runs on this device
    lose-device        writes two pieces, then ends as a worker does whose device is lost
    lose-later [FILE]  replies, and ends so as soon as FILE exists
    switch NUMBER      says that the question is about another episode, and that entries left the working set
    linger [FILE]      replies; asked to end, it waits until FILE exists (without FILE: LINGER_S), then leaves a file
                       `flushed` in the KV folder

A request with tools follows the first user turn instead: its lines after the first are what the replies are, in turn.

    call NAME JSON     a call; several on one line are parted by " & "
    mark WORDS | ...   says words, then makes calls as models do that mark them, a few characters at a time
    half NAME          half a call
    any other line     is said, or is one of the scripts above

Token ids are the characters' code points, and every piece is one token where logprobs are asked for. An embedding has
ones where the text has words; more than 254 words do not fit. What one process has read once counts as cached the next
time. The KV folder of the model spec is locked as the real worker does, and holds a tail file with the latest ids of
every conversation. Its episodes.db has an episode for every word that segments begin with; a question goes to that of
its last word.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from filelock import FileLock

from assistant.agent.formats import QWEN
from assistant.episodes import look_up
from assistant.orders import (
    REQUEST,
    Cancel,
    Check,
    Checked,
    Embed,
    Embedded,
    Explain,
    Explained,
    Forget,
    Forgotten,
    ModelSpec,
    Plan,
    Planned,
    Quit,
    Run,
    Status,
    WorkerDone,
    WorkerEvent,
    WorkerLine,
    WorkerStatus,
    WorkerTurn,
)
from assistant.protocol import (
    DEVICE_LOST,
    Alternative,
    Call,
    Episodes,
    Evicted,
    Failed,
    Finish,
    Loading,
    Notice,
    Piece,
    Prefill,
    Receipt,
    Resumed,
    Switched,
    TokenLogprob,
    TooLong,
    Usage,
    Written,
    dump,
)
from assistant.reports import KvCheck, KvStatus, MemorySplit, Outside, ResidentSet, TierUse
from assistant.traces import keep_words_out
from memory.block import CHUNK
from memory.budget import format_size, parse_size
from memory.episode_store import forget_episodes
from memory.folder import TAIL, make_private
from memory.publish import publish
from memory.tailfile import Tail, pack
from tests.fake_episodes import observe

MIB = 1024**2
BUDGET = 900 * MIB
SMALLEST = 200 * MIB
BRANCH = "0123456789abcdef"
LOCK_S = 10.0
LINGER_S = 0.5
ECHOED = 500
"""Words of a message that come back at most."""
_MARKS = {0: "\n\n", 30: "\n\n- **one** ", 40: "\n- two ", 50: "\n\n```python\n", 60: "\n", 70: "\n```\n\n", 90: "\n\n"}
"""What `pace` writes before a word, by its number in a round of 120."""


class FakeWorker:
    """One request at a time on the main thread; a second thread reads the input, so that Cancel is heard."""

    def __init__(self) -> None:
        self.runs: queue.Queue[Run] = queue.Queue()
        self.cancelled: dict[str, threading.Event] = {}
        self.spec: ModelSpec | None = None
        self.seen: dict[int, int] = {}
        self.output = threading.Lock()
        self.conversation = ""
        self.lock: FileLock | None = None
        self.device = "cpu"
        self.lingers: str | None = None

    def serve(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        self._say("", WorkerStatus(model=None, memory=MemorySplit()))
        while True:
            self._run(self.runs.get())

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            request = REQUEST.validate_json(line)
            match request:
                case Run():
                    self.cancelled[request.id] = threading.Event()
                    self.runs.put(request)
                case Cancel():
                    if (event := self.cancelled.get(request.id)) is not None:
                        event.set()
                case Status():
                    model = self.spec.id if self.spec else None
                    kv = self._kv() if self.spec else None
                    self._say(request.id, WorkerStatus(model=model, memory=self._memory(), kv=kv))
                case Forget():
                    shutil.rmtree(Path(request.folder) / request.conversation, ignore_errors=True)
                    forget_episodes(Path(request.folder), request.conversation)
                    self._say(request.id, Forgotten())
                case Check():
                    found = KvCheck(
                        files=1, rows_ok=3, rows_bad=1, bytes=4096, problems=["Row 3 is bad."], repaired=request.repair
                    )
                    self._say(request.id, Checked(report=found))
                case Explain():
                    self._say(request.id, Explained(episodes=self._explain(request)))
                case Plan():
                    self._say(request.id, self._planned(request))
                case Embed():
                    self._say(request.id, _embedded(request))
                case Quit():
                    break
        self._linger()
        os._exit(0)

    def _linger(self) -> None:
        if self.lingers is None:
            return
        end = time.monotonic() + LINGER_S
        while not Path(self.lingers).exists() if self.lingers else time.monotonic() < end:
            time.sleep(0.01)
        if self.spec is not None and self.spec.kv is not None:
            (Path(self.spec.kv.folder) / "flushed").touch()

    def _run(self, run: Run) -> None:
        self._load(run)
        self.conversation = run.conversation
        if (receipt := self._receipt(run)) is not None:
            self._say(run.id, Resumed(receipt=receipt))
        fresh = [turn for turn in run.turns if turn.id not in self.seen]
        total = sum(len(turn.text) for turn in fresh)
        for done in (total // 2, total):
            self._say(run.id, Prefill(done=done, total=total, tok_s=1000.0))
        if run.sampling is None:
            self._done(run, "", "read", fresh)
            return
        stop = self.cancelled[run.id]
        text = ""
        finish: Finish = "stop"
        for piece in self._script(run, stop):
            if stop.is_set() and not _last_text(run).startswith("deaf"):
                finish = "cancelled"
                break
            text += piece
            self._say(run.id, Piece(text=piece, logprobs=_logprobs(run, piece)))
        else:
            if stop.is_set():
                finish = "cancelled"
            elif _cut(run):
                finish = "length"
        if not _last_text(run).startswith(("fail", "overflow")):
            self._done(run, text, finish, fresh)

    def _load(self, run: Run) -> None:
        if self.spec == run.spec:
            return
        self.spec, self.seen = run.spec, {}
        if run.spec.kv is not None and self.lock is None:
            folder = Path(run.spec.kv.folder)
            make_private(folder)
            self.lock = FileLock(folder / "lock", timeout=LOCK_S, poll_interval=0.02, mode=0o600, thread_local=False)
            self.lock.acquire()
        for done in (0, 50 * MIB, 100 * MIB):
            self._say(run.id, Loading(model=run.spec.id, done_bytes=done, total_bytes=100 * MIB))

    def _script(self, run: Run, stop: threading.Event) -> Iterator[str]:
        text = _line_of(run) if run.calling is not None else _last_text(run)
        word, _, rest = text.partition(" ")
        match word:
            case "call" | "half":
                yield text
            case "cut":
                yield " ".join(rest.split()[: run.sampling.max_tokens if run.sampling else None])
            case "mark":
                words, _, calls = rest.partition("|")
                yield from re.findall(r"\S+\s*", words)
                yield from re.findall(r"(?s).{1,3}", QWEN.written(_calls(calls.strip())))
            case "crash":
                yield "These words "
                yield "were written "
                os.kill(os.getpid(), signal.SIGKILL)
            case "crash-at-once":
                os.kill(os.getpid(), signal.SIGKILL)
            case "slow":
                yield "Waiting for the gate. "
                while not (rest and Path(rest).exists()) and not stop.wait(0.01):
                    pass
                yield "The gate is open."
            case "long":
                for number in range(int(rest or 100)):
                    yield f"word{number} "
            case "pace":
                speed, _, count = rest.partition(" ")
                yield from _paced(float(speed), int(count), stop)
            case "deaf":
                yield "I hear nothing. "
                threading.Event().wait()
            case "turns":
                yield json.dumps([[turn.role, turn.text, turn.token_ids is not None] for turn in run.turns])
            case "sampling":
                yield run.sampling.model_dump_json() if run.sampling else ""
            case "pins":
                yield json.dumps(run.pins)
            case "spec":
                yield run.spec.model_dump_json()
            case "fail":
                code, _, message = rest.partition(" ")
                self._say(run.id, Failed(message=message or "It does not fit.", exit_code=int(code or 5)))
            case "overflow":
                too_long = TooLong(needed=5000, limit=4000)
                self._say(run.id, Failed(message="It needs 5,000 of 4,000 tokens.", exit_code=5, too_long=too_long))
            case "calling":
                yield run.calling.model_dump_json() if run.calling else "nothing"
            case "notice":
                self._say(run.id, Notice(text=rest or "The disk is full."))
                yield "I go on."
            case "garbage":
                with self.output:
                    print("this is not a line of the protocol", flush=True)
            case "device":
                self.device = rest
                yield f"I run on {rest}."
            case "lose-device":
                yield "These words "
                yield "were written "
                os._exit(DEVICE_LOST)
            case "lose-later":
                threading.Thread(target=_lose_device, args=(Path(rest),), daemon=True).start()
                yield "Later."
            case "switch":
                self._say(run.id, Switched(episode=int(rest)))
                self._say(run.id, Evicted(times=2, resident_tokens=10, stored_tokens=30))
                yield "About rivers."
            case "linger":
                self.lingers = rest
                yield "I take my time."
            case "escape":
                yield "before \x1b[31mred\x1b[0m \x1b]0;title\x07after"
            case _:
                yield from [text] if run.calling is not None else _echo(text)

    def _done(self, run: Run, text: str, finish: Finish, fresh: list[WorkerTurn]) -> None:
        new_ids = {turn.id: [ord(char) for char in turn.text] for turn in fresh if turn.token_ids is None}
        if run.reply_id is not None:
            new_ids[run.reply_id] = [ord(char) for char in text]
        usage = self._usage(run, text, fresh)
        self.seen.update({turn.id: len(turn.text) for turn in run.turns})
        if run.reply_id is not None:
            self.seen[run.reply_id] = len(text)
        self._store(run, "".join(turn.text for turn in run.turns) + text)
        observe(run, text)
        written = _written(text) if run.calling is not None else None
        memory = self._memory()
        body = WorkerDone(
            text=text,
            finish=finish,
            usage=usage,
            token_ids=new_ids,
            memory=memory,
            written=written,
            resident=[run.conversation],
        )
        self._say(run.id, body)

    def _store(self, run: Run, text: str) -> None:
        """Keep the latest ids where the real worker keeps its open chunk."""
        if run.spec.kv is None:
            return
        folder = Path(run.spec.kv.folder) / run.conversation
        make_private(folder)
        ids = tuple(ord(char) for char in text[1 - CHUNK :])
        positions = tuple(range(len(ids)))
        tail = Tail(bytes(32), BRANCH, rows=0, ids=ids, positions=positions, exact=True, state=b"", payload=b"")
        publish(folder / f"{BRANCH}{TAIL}", pack(tail), durable=False)

    def _explain(self, request: Explain) -> Episodes:
        """What is stored; every other 64 characters of the conversation at hand are on the device."""
        told = look_up(Path(request.folder), request.conversation)
        tokens = told.segments[-1].turns[-1].last_token if told.segments else 0
        if request.conversation == self.conversation:
            told.residency = [float(at % 2) for at in range(-(-tokens // 64))]
        return told

    def _planned(self, request: Plan) -> WorkerEvent:
        """The KV takes what the rest leaves; the smallest budget is 200 MiB, and what is no size is refused. Without a
        model there is nothing to tell, as with the real worker."""
        if self.spec is None:
            return Planned(memory=MemorySplit())
        try:
            budget = parse_size(request.budget)
        except ValueError as error:
            return Failed(message=str(error), exit_code=2)
        if budget < SMALLEST:
            text = f"The budget of {format_size(budget)} is too small. The smallest budget that works is 200 MiB."
            return Failed(message=text, exit_code=5)
        kv = budget * 150 // 900
        entries = 4096 * budget // BUDGET
        changes = {"budget": budget, "kv": kv, "capacity_tokens": entries, "working_set_tokens": entries - 96}
        return Planned(memory=self._memory().model_copy(update=changes | {"peak": 0}))

    def _usage(self, run: Run, text: str, fresh: list[WorkerTurn]) -> Usage:
        prompt = sum(len(turn.text) for turn in run.turns)
        computed = sum(len(turn.text) for turn in fresh)
        again = sum(len(turn.text) for turn in fresh if turn.token_ids is not None)
        return Usage(
            prompt_tokens=prompt,
            cached_tokens=prompt - computed,
            computed_tokens=computed,
            completion_tokens=len(text),
            resident_tokens=min(prompt + len(text), 4096),
            stored_tokens=prompt + len(text),
            episode=None,
            recalled_tokens=0,
            ttft_s=0.01,
            decode_tok_s=100.0 if text else None,
            peak_bytes=300 * MIB,
            budget_bytes=BUDGET,
            mode="bounded",
            recomputed_tokens=again,
            recompute_reason="the worker is new" if again else None,
            receipt=self._receipt(run, recompute_s=1.5),
        )

    def _receipt(self, run: Run, recompute_s: float | None = None) -> Receipt | None:
        """What is known of the conversation; `recompute_s` is what reading some of it again took."""
        known = [turn for turn in run.turns if turn.token_ids is not None]
        if not known:
            return None
        again = sum(len(turn.text) for turn in known if turn.id not in self.seen)
        reused = sum(len(turn.text) for turn in known) - again
        source: Literal["resident", "none"] = "none" if again else "resident"
        reason = "the worker is new" if again else None
        cost = recompute_s if again else None
        return Receipt(seconds=0.31, reused=reused, recomputed=again, source=source, reason=reason, recompute_s=cost)

    def _kv(self) -> KvStatus:
        held = ResidentSet(conversation=self.conversation, tokens=100, entries=100, bytes=MIB, state="active")
        return KvStatus(
            device=TierUse(parts={"weights": 100 * MIB, "working sets": MIB}, total=110 * MIB, limit=BUDGET),
            ram=TierUse(parts={"rows": 0, "free slots": 0}, total=0, limit=0),
            disk=TierUse(
                parts={"chunks": 5 * MIB, "index": MIB},
                total=6 * MIB,
                limit=100 * MIB,
                conversations={self.conversation: 5 * MIB} if self.conversation else {},
            ),
            sets=[held] if self.conversation else [],
            counters={"rows_sealed": 7},
            spilling=True,
            outside=Outside(seen=160 * MIB, parts={"Python and libraries": 50 * MIB}, capacity=4096 * MIB),
            row_bytes=MIB,
        )

    def _memory(self) -> MemorySplit:
        stored = sum(self.seen.values())
        return MemorySplit(
            budget=BUDGET,
            weights=100 * MIB,
            kv=150 * MIB,
            staging=10 * MIB,
            activations=40 * MIB,
            peak=300 * MIB,
            capacity_tokens=4096,
            working_set_tokens=4000,
            resident_tokens=min(stored, 4096),
            stored_tokens=stored,
            device=self.device,
            quant="none",
        )

    def _say(self, request_id: str, body: WorkerEvent) -> None:
        with self.output:
            print(dump(WorkerLine(id=request_id, body=body)), flush=True)


def _logprobs(run: Run, piece: str) -> list[TokenLogprob] | None:
    if run.logprobs is None:
        return None
    top = [Alternative(token=f"or{number}", logprob=-1.5 - number) for number in range(run.logprobs)]
    return [TokenLogprob(token=piece, logprob=-0.5, top=top)]


def _embedded(request: Embed) -> WorkerEvent:
    sizes = [len(text.split()) for text in request.texts]
    if max(sizes) > 254:
        too_long = TooLong(needed=max(sizes), limit=254)
        return Failed(message=f"The text has {max(sizes)} tokens, 254 fit.", exit_code=2, too_long=too_long)
    vectors = [[0.0] * 384 for _ in sizes]
    for vector, text in zip(vectors, request.texts, strict=True):
        for word in text.split():
            vector[zlib.crc32(word.encode()) % 384] = 1.0
    return Embedded(vectors=vectors, tokens=sum(sizes))


def _cut(run: Run) -> bool:
    """Whether the limit of tokens (words here) ends a reply of the kind that minds it."""
    words = _line_of(run).split()
    return words[:1] == ["cut"] and run.sampling is not None and len(words) - 1 > run.sampling.max_tokens


def _line_of(run: Run) -> str:
    """What the script of a program says at this step; after its end, that it is done."""
    task = next((turn.text for turn in run.turns if turn.role == "user"), "").splitlines()[1:]
    step = sum(turn.role == "assistant" for turn in run.turns)
    return task[step] if step < len(task) else "All done."


def _written(text: str) -> Written:
    """A reply taken apart as the real worker does."""
    word, _, rest = text.partition(" ")
    if QWEN.opening in text:
        taken = QWEN.take(text)
        return Written(text="".join(taken.said).strip(), calls=[Call(**value) for value in taken.values])
    if word == "half":
        return Written(text="", problems=[f"The call of {rest} ends in the middle. Write it again, whole."])
    if word != "call":
        return Written(text=text)
    return Written(text="", calls=_calls(rest))


def _calls(text: str) -> list[Call]:
    calls = [one.split(" ", 1) for one in text.split(" & ")]
    return [Call(name=name, arguments=json.loads(said)) for name, said in calls]


def _last_text(run: Run) -> str:
    return run.turns[-1].text


def _lose_device(gate: Path) -> None:
    while not gate.exists():
        time.sleep(0.01)
    os._exit(DEVICE_LOST)


def _paced(rate: float, count: int, stop: threading.Event) -> Iterator[str]:
    """Paragraphs, list items and a code block, word by word at a steady pace."""
    start = time.monotonic()
    for number in range(count):
        if stop.wait(max(start + number / rate - time.monotonic(), 0)):
            return
        yield _MARKS.get(number % 120, "") + f"word{number} "


def _echo(text: str) -> Iterator[str]:
    yield "You said:\n\n"
    yield "> "
    for word in text.split()[:ECHOED]:
        yield f"{word} "
    yield "\n\n- **one** thing\n- another, in `code`\n\nThat is *all*."


if __name__ == "__main__":
    keep_words_out()
    FakeWorker().serve()
