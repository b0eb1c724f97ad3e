"""From a key to its echo: `assistant chat` with 10,000 lines above the prompt, while a reply of 100 pieces a second
arrives, against a bare Textual app with one text area.

Each program runs in a pseudo terminal; a key is timed from its write to the arrival of the frame that shows it. The
rounds alternate: the bare app, the chat at rest, the chat while it streams. Ends with 1 when the p99 of the last is
over the limit.

    python -m benchmarks.keystrokes [--quick] [--json OUT]
"""

from __future__ import annotations

import random
import statistics
import sys
from typing import Any

from benchmarks.report import parser_of, publish
from benchmarks.scene import CHAT, Terminal, paragraphs, running_daemon, seed

LIMIT_MS = 50.0
TURNS, LINES = 50, 200
"""The turns of one page, hence all of them mounted: 10,000 lines."""
RATE = 100
KEYS = 80
PAUSE_S = (0.06, 0.16)
"""Between two keys, drawn evenly, so that keys do not march in step with frames."""
ALPHABET = "αβγδεζηθικλμνξοπρστυφχψωабвгдежзиклмнопрстуфхцчшщъыьэюя"
"""Letters that nothing else on the screen has: one that comes out is an echo."""
CLEAR = "\x15"
LABEL = "one-label-of-a-bare-app"
BARE = f"""
from textual.app import App
from textual.widgets import Label, TextArea
class Bare(App):
    AUTO_FOCUS = "TextArea"
    def compose(self):
        yield Label("{LABEL}")
        yield TextArea()
Bare().run()
"""


def main() -> int:
    """Measure, print, save; 1 when the limit is not met."""
    options = parser_of(__doc__, "2 rounds instead of 8").parse_args()
    with running_daemon():
        seed("long", [paragraphs(turn, LINES) for turn in range(TURNS)])
        times = measure(2 if options.quick else 8)
    rows = [row_of(name, found) for name, found in times.items()]
    publish("keystrokes", rows, quick=options.quick, json_path=options.json)
    return 0 if rows[-1]["p99_ms"] <= LIMIT_MS else 1


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds from key to echo of every key, by program."""
    times: dict[str, list[float]] = {"bare": [], "chat at rest": [], "chat while streaming": []}
    bare, chat = Terminal([sys.executable, "-c", BARE]), Terminal([*CHAT, "-c", "long"])
    chance = random.Random(0)
    try:
        bare.until(LABEL)
        chat.until("ready", f"Line {LINES - 1} of turn {TURNS - 1}")
        for _ in range(rounds):
            times["bare"] += type_for_a_while(bare, chance)
            times["chat at rest"] += type_for_a_while(chat, chance)
            pieces = int(KEYS * sum(PAUSE_S) / 2 * RATE)
            chat.press(f"pace {RATE} {pieces}\r")
            chat.until("writing")
            times["chat while streaming"] += type_for_a_while(chat, chance)
            chat.press("\x1b")
            chat.until("ready")
    finally:
        bare.close()
        chat.close()
    return times


def type_for_a_while(terminal: Terminal, chance: random.Random) -> list[float]:
    """Type letters at the pace of a person; seconds from key to echo of each."""
    taken: list[float] = []
    for number in range(KEYS):
        letter = ALPHABET[number % len(ALPHABET)]
        if number % len(ALPHABET) == 0:
            terminal.press(CLEAR)
            terminal.rest(0.5)
        sent = terminal.press(letter)
        taken.append(terminal.until(letter) - sent)
        terminal.rest(chance.uniform(*PAUSE_S))
    terminal.press(CLEAR)
    terminal.rest(0.5)
    return taken


def row_of(name: str, times: list[float]) -> dict[str, Any]:
    """Milliseconds: the median, the 99th percentile, the slowest."""
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {
        "program": name,
        "keys": len(times),
        "p50_ms": round(1000 * cuts[49], 1),
        "p99_ms": round(1000 * cuts[98], 1),
        "max_ms": round(1000 * max(times), 1),
        "limit_p99_ms": LIMIT_MS,
    }


if __name__ == "__main__":
    sys.exit(main())
