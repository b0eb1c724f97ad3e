"""Synthetic requests with the columns of BurstGPT: bursts, conversations with pauses, lengths with heavy tails.

    python -m benchmarks.serve.generate [--sessions N] [--rate R] [--seed K] > trace.csv

Conversations begin at times whose gaps are Gamma with a coefficient of variation of 2; each has a geometric number of
turns, 4 on the mean, with log-normal pauses, 20 s at the median, between the end of a reply and the next message.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from benchmarks.serve.trace import COLUMNS, SYNTHETIC

VARIATION = 2.0
TURNS = 4.0
PAUSE_S, PAUSE_SPREAD = 20.0, 1.0
MESSAGE, REPLY, SPREAD = 60, 120, 1.0
"""Tokens at the median of a message and a reply, and the spread of their logarithms."""
LONGEST = 2000
TOKEN_S = 0.03
"""Seconds that a token of a reply is taken to last, for the time at which a conversation can go on."""


def main() -> None:
    """Write a trace to standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.1, help="conversations that begin in a second")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write(sys.stdout, generate(options.sessions, options.rate, options.seed))


def generate(sessions: int, rate: float, seed: int) -> list[dict[str, Any]]:
    """Rows of BurstGPT's columns, by their times. A request's tokens are its new message and all before it."""
    chance, start, rows = random.Random(seed), 0.0, list[dict[str, Any]]()
    shape = 1 / VARIATION**2
    for number in range(sessions):
        start += chance.gammavariate(shape, 1 / (rate * shape))
        rows += _conversation(chance, number, start)
    return sorted(rows, key=lambda row: float(row["Timestamp"]))


def write(file: TextIO, rows: list[dict[str, Any]]) -> None:
    """As CSV with a header."""
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)


def _conversation(chance: random.Random, number: int, at: float) -> Iterator[dict[str, Any]]:
    said = 0
    while True:
        message, reply = _tokens(chance, MESSAGE), _tokens(chance, REPLY)
        elapsed = reply * TOKEN_S
        values = [round(at, 3), f"s{number}", round(elapsed, 3), SYNTHETIC, said + message, reply]
        yield dict(zip(COLUMNS, [*values, said + message + reply, "Conversation log"], strict=True))
        said += message + reply
        if chance.random() < 1 / TURNS:
            return
        at += elapsed + PAUSE_S * math.exp(chance.gauss(0, PAUSE_SPREAD))


def _tokens(chance: random.Random, median: int) -> int:
    return max(1, min(LONGEST, round(median * math.exp(chance.gauss(0, SPREAD)))))


if __name__ == "__main__":
    main()
