"""What recall adds to a token, and what exact attention would take: the same working set, in turn, in one process.

    python -m benchmarks.recall [--model ID] [--data FILE] [--lengths 4096,8192] [--share 1/8] [--json OUT] [--quick]

`plain`: the working set as it is; `recall`: the program's policy; `exact`: everything stored is attended to. Medians of
interleaved rounds, with the stored rows in RAM and on disk. FILE is a dialogue file; without it the text is random.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.models import load_model, random_ids
from benchmarks.quality.data import read
from benchmarks.quality.score import share_of
from benchmarks.report import parser_of, publish, show
from benchmarks.tiers import memory_on
from memory.budget import PATCH_TOKENS
from memory.policy.recall import Recall
from memory.sealing import Wanted
from memory.store import Memory

BLOCK = 256
ROUNDS, STEPS, SETTLE = 7, 8, 24
"""Rounds, tokens that count in each, and tokens before them in which recall finds its pace again."""

Row = dict[str, Any]


def main() -> None:
    """Measure and publish."""
    parser = parser_of(__doc__, "the last length alone, in RAM")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--lengths", type=lambda text: [int(one) for one in text.split(",")], default=[4096, 7680])
    parser.add_argument("--share", default="1/8")
    options = parser.parse_args()
    model, tokenizer = load_model(options.model)
    lengths = options.lengths[-1:] if options.quick else options.lengths
    ids = _text(options.data, tokenizer, max(lengths) + 512)
    rows = list[Row]()
    for length in lengths:
        for tier in ("ram",) if options.quick else ("ram", "disk"):
            rows.append(
                {"model": options.model, "tier": tier} | measure(model, ids, length, share_of(options.share), tier)
            )
            show(rows[-1:])
    publish(f"recall_{options.model}".replace("/", "-"), rows, quick=options.quick, json_path=options.json)


def measure(model: Any, ids: list[int], length: int, share: float, tier: str) -> Row:
    """One row: seconds of a token in the three ways."""
    policies = {"plain": Recall(still=-2.0, every=10**9), "recall": Recall(), "exact": Recall()}
    seconds: dict[str, list[float]] = {name: [] for name in policies}
    capacity, ram = int(length * share) + BLOCK + PATCH_TOKENS, 2**31 if tier == "ram" else 0
    chosen, more = list[float](), iter(ids[length + 1 :])
    with (
        tempfile.TemporaryDirectory() as folder,
        memory_on(model, Path(folder), "int8", capacity, "auto", ram, policies["recall"]) as memory,
    ):
        memory.read(ids[: length + 1][memory.resume(ids[: length + 1]).reused :])
        for _ in range(ROUNDS):
            for name, policy in policies.items():
                chosen += _take(memory, name, policy, more, seconds[name])
    middle = {name: statistics.median(some) for name, some in seconds.items()}
    return {
        "length": length,
        **{f"{name}_ms": round(1000 * one, 2) for name, one in middle.items()},
        "recall_ratio": round(middle["recall"] / middle["plain"], 3),
        "exact_ratio": round(middle["exact"] / middle["plain"], 3),
        "chose": round(statistics.fmean(chosen), 3),
    }


def _take(memory: Memory, name: str, policy: Recall, more: Any, seconds: list[float]) -> list[float]:
    """A few steps to settle and `STEPS` that count; the share of the layers that chose, of recall."""
    memory.sealer.wanted = Wanted(blocks=True, steps=name == "exact")
    recaller = memory.sealer.trail.recaller
    if recaller is not None:
        recaller.policy = policy
    for _ in range(SETTLE if name == "recall" else 1):
        memory.step(next(more))
    before = (recaller.choices, recaller.steps) if recaller is not None else (0, 0)
    started = time.perf_counter()
    for _ in range(2 if name == "exact" else STEPS):
        memory.step(next(more))
    seconds.append((time.perf_counter() - started) / (2 if name == "exact" else STEPS))
    if name != "recall" or recaller is None:
        return []
    return [(recaller.choices - before[0]) / (recaller.steps - before[1]) / len(memory.working_set.layers)]


def _text(path: Path | None, tokenizer: Any, length: int) -> list[int]:
    if path is None:
        return random_ids(length)
    ids = [token for talk in read(path, tokenizer, 0, 0) for token in talk.ids]
    assert len(ids) >= length
    return ids[:length]


if __name__ == "__main__":
    main()
