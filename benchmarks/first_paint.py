"""First paint of `assistant chat` against a bare Textual app that shows one label.

Both are started in a pseudo terminal, alternately, N times each; the time is from the start of the process to the
arrival of the first frame with their words in it. Prints the medians and their ratio, appends a row to
benchmarks/results/first_paint.csv, and ends with 1 when the ratio is over the limit.

    python benchmarks/first_paint.py [--quick] [--json OUT]
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import json
import os
import platform
import pty
import select
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from datetime import UTC, datetime
from pathlib import Path

LIMIT = 1.3
DEADLINE_S = 60.0
RESULTS = Path(__file__).parent / "results" / "first_paint.csv"
LABEL = "one-label-of-a-bare-app"
BARE = f"""
from textual.app import App
from textual.widgets import Label
class Bare(App):
    def compose(self):
        yield Label("{LABEL}")
Bare().run()
"""


def first_paint(command: list[str], words: list[str], home: Path) -> float:
    """Seconds from starting `command` until all `words` have come out of its terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=_environment(home), start_new_session=True
    )
    os.close(slave)
    try:
        return _wait_for(master, [word.encode() for word in words], start)
    finally:
        process.send_signal(signal.SIGTERM)
        _drain(master, process)
        os.close(master)


def _environment(home: Path) -> dict[str, str]:
    terminal = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    return {**os.environ, **terminal, "ASSISTANT_HOME": str(home), "PYTHONDONTWRITEBYTECODE": ""}


def _wait_for(master: int, words: list[bytes], start: float) -> float:
    seen = b""
    while not all(word in seen for word in words):
        left = start + DEADLINE_S - time.perf_counter()
        if left <= 0 or not select.select([master], [], [], left)[0]:
            raise SystemExit(f"No first frame within {DEADLINE_S:.0f} s. The terminal showed: {seen[-2000:]!r}")
        seen += _read(master)
    return time.perf_counter() - start


def _drain(master: int, process: subprocess.Popen[bytes]) -> None:
    """Read what the program still writes until it has ended, so that it cannot block on a full terminal."""
    end = time.perf_counter() + DEADLINE_S
    while process.poll() is None and time.perf_counter() < end:
        if select.select([master], [], [], 0.05)[0]:
            _read(master)
    process.kill()
    process.wait()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # the last process on the other side has closed it
        return b""


def measure(runs: int) -> dict[str, list[float]]:
    """Alternate both programs; the first pair warms the disk cache and is thrown away."""
    assistant = Path(sys.executable).with_name("assistant")
    programs = {
        "bare": ([sys.executable, "-c", BARE], [LABEL]),
        "chat": ([str(assistant), "chat"], ["assistant", "f1 keys", "budget"]),
    }
    times: dict[str, list[float]] = {name: [] for name in programs}
    home = Path(tempfile.mkdtemp(prefix="a", dir="/tmp"))  # short: socket paths are limited
    try:
        for run in range(runs + 1):
            for name, (command, words) in programs.items():
                taken = first_paint(command, words, home)
                if run:
                    times[name].append(taken)
    finally:
        subprocess.run([str(assistant), "daemon", "stop"], env=_environment(home), capture_output=True, check=False)
        shutil.rmtree(home, ignore_errors=True)
    return times


def summary(times: dict[str, list[float]]) -> dict[str, object]:
    bare, chat = statistics.median(times["bare"]), statistics.median(times["chat"])
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "runs": len(times["bare"]),
        "bare_s": round(bare, 4),
        "chat_s": round(chat, 4),
        "ratio": round(chat / bare, 3),
        "limit": LIMIT,
    }


def write_row(row: dict[str, object]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> int:
    parser = argparse.ArgumentParser(description="First paint of `assistant chat` against a bare Textual app.")
    parser.add_argument("--quick", action="store_true", help="5 runs each instead of 15, and no row in the CSV")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the summary and all times to this file")
    given = parser.parse_args()
    times = measure(5 if given.quick else 15)
    row = summary(times)
    print(f"bare {row['bare_s']} s · assistant chat {row['chat_s']} s · ratio {row['ratio']} (limit {LIMIT})")
    if given.json:
        given.json.write_text(json.dumps({**row, "times": times}, indent=1) + "\n")
    if not given.quick:
        write_row(row)
    return 0 if statistics.median(times["chat"]) <= LIMIT * statistics.median(times["bare"]) else 1


if __name__ == "__main__":
    sys.exit(main())
