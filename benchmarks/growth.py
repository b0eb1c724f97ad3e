"""A long conversation, turn by turn, through a small working set: does a turn late cost what one early did?

    python -m benchmarks.growth --data FILE [--turns 300] [--share 1/8] [--model ID] [--json OUT]

Each turn is read with the program's policy and a reply of a few tokens written; what is timed is a token of each. The
working set holds `share` of the turns' tokens, or of the trained window where that is shorter. Medians of turns 40-60
and of the last 20, and the growth of the process between them. FILE is a dialogue file (BEAM).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from assistant.orders import WorkerTurn
from assistant.template import build_prompt
from benchmarks.models import load_model
from benchmarks.quality.data import read
from benchmarks.quality.program import BLOCK, policy_of
from benchmarks.quality.score import share_of
from benchmarks.report import publish
from benchmarks.tiers import memory_on
from memory.budget import PATCH_TOKENS
from memory.store import Memory

STEPS = 8
EARLY = slice(40, 60)
LATE = slice(-20, None)


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds to resume, of a token read and of a token written, and the bytes of the process afterwards."""

    resume: float
    read: float
    step: float
    resident: int


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--share", default="1/8")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model, tokenizer = load_model(options.model)
    talk = max(read(options.data, tokenizer, 0, 0), key=lambda one: len(one.turns))
    pieces, opening = talk.pieces[: options.turns], _opening(tokenizer)
    longest = min(sum(map(len, pieces)), model.config.max_position_embeddings)
    capacity = int(longest * share_of(options.share)) + BLOCK + PATCH_TOKENS
    turns = list[Turn]()
    with (
        tempfile.TemporaryDirectory() as folder,
        memory_on(model, Path(folder), "int8", capacity, policy=policy_of("default")) as memory,
    ):
        memory.protect(talk.prefix)
        for count in range(1, len(pieces) + 1):
            turns.append(_turn(memory, [token for piece in pieces[:count] for token in piece], opening))
            if count % 20 == 0:
                print(count, len(memory.tokens), memory.served, turns[-1], flush=True)
    publish(
        "growth",
        [row(name, turns) for name in ("resume", "read", "step")] + [memory_row(turns)],
        quick=False,
        json_path=options.json,
    )


def _turn(memory: Memory, ids: list[int], opening: list[int]) -> Turn:
    """Read what is new of `ids`, write a few tokens, store."""
    started = time.perf_counter()
    reused = memory.resume([*ids, *opening]).reused
    resumed = time.perf_counter()
    logits = memory.read([*ids, *opening][reused:])
    was_read = time.perf_counter()
    for _ in range(STEPS):
        logits = memory.step(int(logits.argmax()))
    stepped = time.perf_counter()
    memory.seal()
    new = len(ids) + len(opening) - reused
    return Turn(
        resumed - started, (was_read - resumed) / new, (stepped - was_read) / STEPS, psutil.Process().memory_info().rss
    )


def row(name: str, turns: list[Turn]) -> dict[str, Any]:
    """Medians early and late, in milliseconds."""
    early, late = (statistics.median(getattr(one, name) for one in turns[part]) for part in (EARLY, LATE))
    return {
        "what": f"{name}, ms",
        "early": round(1000 * early, 3),
        "late": round(1000 * late, 3),
        "ratio": round(late / early, 3),
    }


def memory_row(turns: list[Turn]) -> dict[str, Any]:
    """The process, in MiB."""
    early, late = (statistics.median(one.resident for one in turns[part]) / 2**20 for part in (EARLY, LATE))
    return {"what": "process, MiB", "early": round(early, 1), "late": round(late, 1), "ratio": round(late / early, 3)}


def _opening(tokenizer: Any) -> list[int]:
    return build_prompt(tokenizer, [WorkerTurn(id=0, role="user", text="x")], reply=True).opening


if __name__ == "__main__":
    main()
