"""How long a conversation of 10,000 turns takes to open in `assistant chat`, against one of 50.

The program runs in a pseudo terminal with a scripted daemon. It goes back and forth between an empty conversation and
each of the two; timed is from the Enter that chooses one to the arrival of the frame with its last turn. Medians; ends
with 1 over the limit.

    python -m benchmarks.opening [--quick] [--json OUT]
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

from benchmarks.report import parser_of, publish
from benchmarks.scene import CHAT, Terminal, running_daemon, seed

LIMIT_S = 1.0
TURNS = {"few": 50, "many": 10_000}
LAST = "the last turn of "


def main() -> int:
    """Measure, print, save; 1 when the limit is not met."""
    options = parser_of(__doc__, "3 runs of each instead of 15").parse_args()
    with running_daemon():
        for name, turns in {**TURNS, "empty": 2}.items():  # its title, the first line, is not what is waited for
            seed(name, [*(f"Turn {turn}, some words about the ferry" for turn in range(turns - 1)), LAST + name])
        times = measure(3 if options.quick else 15)
    rows = [row_of(name, found) for name, found in times.items()]
    publish("opening", rows, quick=options.quick, json_path=options.json)
    return 0 if rows[-1]["median_s"] <= LIMIT_S else 1


def measure(runs: int) -> dict[str, list[float]]:
    """Seconds to open each conversation; the first of each fills the caches and is thrown away."""
    times: dict[str, list[float]] = {name: [] for name in TURNS}
    terminal = Terminal([*CHAT, "-c", "empty"])
    try:
        terminal.until("ready", LAST)
        terminal.rest(1.0)
        for run in range(runs + 1):
            for name, found in times.items():
                taken = switch(terminal, name)
                if run:
                    found.append(taken)
                switch(terminal, "empty")
    finally:
        terminal.close()
    return times


def switch(terminal: Terminal, name: str) -> float:
    """Choose a conversation by its name in the list; seconds from Enter to its last turn."""
    terminal.press("\x13")
    terminal.until("type to filter")
    terminal.rest(0.3)
    terminal.press(name)
    terminal.until("1 of 3")
    terminal.rest(0.3)
    pressed = terminal.press("\r")
    return terminal.until(LAST + name) - pressed


def row_of(name: str, times: list[float]) -> dict[str, Any]:
    """The median and the slowest."""
    return {
        "turns": TURNS[name],
        "runs": len(times),
        "median_s": round(statistics.median(times), 3),
        "max_s": round(max(times), 3),
        "limit_s": LIMIT_S,
    }


if __name__ == "__main__":
    sys.exit(main())
