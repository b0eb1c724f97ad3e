"""kill -9 of the worker and of the daemon in mid-reply, at random moments, with the real model.

Counts acknowledged turns that are missing or doubled afterwards (must be 0), and next starts that failed (must be 0).
Works in a throw-away ASSISTANT_HOME; the model store stays the user's.

    python -m benchmarks.kill_drill [--kills 20] [--model smollm2-135m] [--seed 0]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter

from assistant.client import Client
from assistant.errors import AssistantError
from assistant.places import find_places
from assistant.protocol import Accepted, AskRequest, Done, Engine, Failed, Piece, Sampling, Turn
from assistant.reports import DaemonStatus

LONGEST_WAIT_S = 1.0
QUESTION = "Write a very long story about a lighthouse keeper and the sea, with many chapters."


def main() -> None:
    """Run the drill for both victims and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["ASSISTANT_MODELS"] = str(find_places().models)
    with tempfile.TemporaryDirectory(prefix="drill") as home:
        os.environ["ASSISTANT_HOME"] = home
        drill = Drill(random.Random(options.seed), options.model)
        bad = asyncio.run(drill.run(options.kills))
    sys.exit(bool(bad))


class Drill:
    """Asks, kills, and keeps its own book of what was acknowledged."""

    def __init__(self, dice: random.Random, model: str) -> None:
        self.dice = dice
        self.engine = Engine(model=model, budget="700MiB")
        self.acknowledged: dict[int, tuple[str, str]] = {}
        self.failed_starts = 0

    async def run(self, kills: int) -> int:
        """Both victims in turn; the number of broken promises."""
        try:
            return await self.drill(kills)
        finally:
            async with await Client.connect() as client:
                await client.shutdown()

    async def drill(self, kills: int) -> int:
        await self.settle()
        for victim in ("worker", "daemon"):
            told, cut = [], Counter[str]()
            for number in range(kills):
                seconds, state = await self.kill_once(victim, f"{victim}-{number}", f"{number}. {QUESTION}")
                told.append(seconds)
                cut[state] += 1
                await self.settle()
            print(
                f"{victim}: {kills} kills, client told after {max(told):.2f} s at most, replies {dict(cut)}", flush=True
            )
        return await self.verdict()

    async def settle(self) -> None:
        """The next start works: a short question is answered."""
        try:
            async with await Client.connect() as client:
                last = [event async for event in client.ask("settle", self.question("Say yes.", 3))][-1]
            if not isinstance(last, Done):
                raise AssistantError(str(last))
        except AssistantError as error:
            self.failed_starts += 1
            print(f"a start failed: {error}", file=sys.stderr)

    async def kill_once(self, victim: str, name: str, text: str) -> tuple[float, str]:
        """(seconds from the kill to the client's knowing, state of the reply in the history)."""
        async with await Client.connect() as client:
            killer: asyncio.Task[float] | None = None
            reply = None
            try:
                async for event in client.ask(name, self.question(text, 400)):
                    if isinstance(event, Accepted):
                        self.acknowledged[event.turn_id] = (name, text)
                        reply = event.reply_id
                    if isinstance(event, Piece) and killer is None:
                        killer = asyncio.create_task(self.kill(await client.status(), victim))
                    if isinstance(event, Failed):
                        break
            except AssistantError:
                pass
            heard = time.monotonic()
        assert killer is not None
        seconds = heard - await killer
        return max(0.0, seconds), await self.state_of(name, reply)

    async def kill(self, status: DaemonStatus, victim: str) -> float:
        """Wait a random moment, kill, and say when."""
        await asyncio.sleep(self.dice.uniform(0, LONGEST_WAIT_S))
        pid = status.worker_pid if victim == "worker" else status.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return time.monotonic()

    async def state_of(self, name: str, reply: int | None) -> str:
        found = {turn.id: turn for turn in await self.history(name)}
        turn = found.get(reply or 0)
        return "missing" if turn is None else f"{turn.state}{' with text' if turn.text else ' without text'}"

    async def verdict(self) -> int:
        """Compare the book with the history."""
        turns = {name: await self.history(name) for name, _ in self.acknowledged.values()}
        said = Counter((name, turn.id, turn.text) for name in turns for turn in turns[name] if turn.role == "user")
        lost = [key for key, (name, text) in self.acknowledged.items() if not said[name, key, text]]
        doubled = sum(said.values()) - len(said)
        doubled += sum(len([turn for turn in found if turn.role == "user"]) - 1 for found in turns.values())
        pending = [turn.id for found in turns.values() for turn in found if turn.state == "pending"]
        print(
            f"acknowledged {len(self.acknowledged)}, lost {len(lost)}, doubled {doubled}, "
            f"left pending {len(pending)}, failed starts {self.failed_starts}"
        )
        return len(lost) + doubled + len(pending) + self.failed_starts

    async def history(self, name: str) -> list[Turn]:
        async with await Client.connect() as client:
            return await client.turns(name, limit=500)

    def question(self, text: str, tokens: int) -> AskRequest:
        return AskRequest(text=text, engine=self.engine, sampling=Sampling(max_tokens=tokens, temperature=0.7))


if __name__ == "__main__":
    main()
