"""First paint of `assistant chat` against a bare Textual app that shows one label.

Both are started in a pseudo terminal, alternately; the time is from the start of the process to the arrival of the
frame that holds all their lines (not the first partial one). Figures are medians; ends with 1 over the limit.

    python -m benchmarks.first_paint [--quick] [--json OUT]
"""

from __future__ import annotations

import fcntl
import os
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
from pathlib import Path
from typing import Any

from benchmarks.report import parser_of, publish

LIMIT = 1.3
DEADLINE_S = 60.0
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
    return {**os.environ, **terminal, "ASSISTANT_HOME": str(home)}


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


def row_of(times: dict[str, list[float]]) -> dict[str, Any]:
    """The medians, and how they compare."""
    bare, chat = statistics.median(times["bare"]), statistics.median(times["chat"])
    return {
        "bare_s": round(bare, 4),
        "chat_s": round(chat, 4),
        "ratio_vs_bare": round(chat / bare, 3),
        "limit": LIMIT,
        "runs": len(times["bare"]),
    }


def main() -> int:
    """Measure, print, save; 1 when the limit is not met."""
    options = parser_of(__doc__, "5 runs of each instead of 21").parse_args()
    row = row_of(measure(5 if options.quick else 21))
    publish("first_paint", [row], quick=options.quick, json_path=options.json)
    return 0 if row["ratio_vs_bare"] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
