"""kill -9 at every named point and at random instants: no acknowledged turn is lost, no wrong chunk is served."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from assistant.history import History
from memory.folder import KvFolder
from memory.sweep import check

POINTS = [
    ("pwrite", False),
    ("pwrite", True),
    ("write", True),
    ("replace", False),
    ("ftruncate", False),
    ("preadv", False),
]


class Talker:
    """The forking process of `talker.py`, and what its children acknowledged."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-m", "tests.faults.talker", str(root)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._line() == "ready"
        self.asked: dict[int, str] = {}
        self.done: dict[int, str] = {}
        self.of: dict[int, str] = {}
        self.counted: Counter[str] = Counter()

    def run(self, order: dict[str, Any], kill_after: int | None = None) -> None:
        """One child: check its report, note its acknowledgements, kill it after so many of them if it still lives."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        acknowledged = 0
        while (line := self._line()) != "end":
            try:
                said = json.loads(line)
            except json.JSONDecodeError:
                continue  # killed in the middle of a line: nothing was acknowledged
            assert "problem" not in said, said
            self._note(said)
            acknowledged += "asked" in said or "done" in said
            if kill_after is not None and acknowledged == kill_after:
                self._kill_child()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def _note(self, said: dict[str, Any]) -> None:
        if "asked" in said:
            self.asked[said["asked"]] = said["text"]
            self.of[said["asked"]] = said["text"].split()[0]
        elif "done" in said:
            self.done[said["done"]] = said["text"]
            self.of[said["done"]] = said["conversation"]
        elif "removed" in said:
            for turn in [turn for turn, name in self.of.items() if name == said["removed"]]:
                self.of.pop(turn)
                self.asked.pop(turn, None)
                self.done.pop(turn, None)
        else:
            self._verify(said["verified"])

    def _verify(self, report: dict[str, Any]) -> None:
        stored = {int(turn): text for found in report.values() for turn, text in found["turns"].items()}
        for turn, text in (self.asked | self.done).items():
            assert stored.get(turn) == text, f"turn {turn} was acknowledged and is lost"
        for found in report.values():
            self.counted["tokens"] += found["tokens"]
            self.counted["reused"] += found["reused"]
            assert found.get("difference", 0.0) < 1e-3, found

    def _kill_child(self) -> None:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)

    def _line(self) -> str:
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline()) == "\n":
            pass
        assert line, "the talker ended"
        return line.strip()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(2))
def test_no_kill_loses_an_acknowledged_turn_or_serves_a_wrong_chunk(part: int, tmp_path: Path) -> None:
    """100 kills in each part, in turn at a named point and after a random number of acknowledgements."""
    chooser, talker, killed = random.Random(part), Talker(tmp_path), 0
    try:
        for number in range(100):
            seed = part * 1000 + number
            if number % 2:
                name, halfway = POINTS[number // 2 % len(POINTS)]
                fault = [name, chooser.randint(1, 12), halfway]
                before = len(talker.done)
                talker.run({"seed": seed, "fault": fault, "turns": 12})
                killed += len(talker.done) < before + 12
            else:
                talker.run({"seed": seed, "fault": None, "turns": 40}, kill_after=chooser.randint(1, 9))
                killed += 1
        talker.run({"seed": 0, "fault": None, "turns": 0})
    finally:
        talker.close()
    assert killed >= 80
    assert talker.counted["reused"] > 0.7 * talker.counted["tokens"]  # most of it survives the kills
    history = History(tmp_path / "history.db")
    assert history._db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    history.close()
    folder = KvFolder.open(tmp_path / "kv")
    assert check(folder, repair=False).rows_bad == 0
    folder.close()
