"""How much of prompts that begin alike is not read again, against a cache without a limit.

    python -m benchmarks.serve.hits --trace FILE [--requests N] [--entries N] [--quick] [--json OUT]

FILE is a Mooncake trace. Every block of it becomes one chunk of 64 tokens for the real engine with a tiny model, every
request a conversation of its own that shares what is stored of others, as clients without a memory do; the reply is one
token. `most` is the share of blocks that a cache with no limit would have had.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.agents.real import VOCABULARY, tiny_model
from benchmarks.report import parser_of, publish
from benchmarks.serve.prompts import shared_most
from benchmarks.serve.trace import Request, load
from benchmarks.tiers import memory_on
from memory.block import CHUNK
from memory.store import Memory

WINDOW = 2**17


def main() -> None:
    """Replay, print one row."""
    parser = parser_of(__doc__, "the first 50 requests; nothing is recorded")
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--entries", type=int, default=4096, help="what the device holds, in tokens")
    options = parser.parse_args()
    requests = [one for one in load(options.trace) if one.blocks][: 50 if options.quick else options.requests]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = replay(requests, Path(folder), options.entries)
    rows = [{"trace": options.trace.stem} | found]
    publish(f"hits_{options.trace.stem}", rows, quick=options.quick, json_path=options.json)


def replay(requests: Sequence[Request], folder: Path, entries: int) -> dict[str, Any]:
    """One row: blocks that were found, of those that a cache without a limit would have had."""
    started, hits = time.perf_counter(), 0
    with memory_on(tiny_model(WINDOW), folder, "int8", entries, "bounded") as memory:
        for number, request in enumerate(requests):
            hits += _serve(memory, f"request {number}", request)
    blocks = sum(len(request.blocks) for request in requests)
    most = shared_most(requests)
    return {
        "requests": len(requests),
        "blocks": blocks,
        "found": f"{hits / blocks:.4f}",
        "most": f"{most:.4f}",
        "of_most": f"{hits / blocks / most:.4f}" if most else None,
        "disk_mib": round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20, 1),
        "seconds": round(time.perf_counter() - started, 1),
    }


def _serve(memory: Memory, name: str, request: Request) -> int:
    """Read one prompt and write a token; blocks of it that were not read."""
    prompt = [token for block in request.blocks for token in _tokens(block)] + [0]
    memory.open(name, tokens=len(prompt), share=True)
    reused = memory.resume(prompt).reused
    memory.read(prompt[reused:])
    memory.seal()
    return reused // CHUNK


def _tokens(block: int) -> list[int]:
    generator = random.Random(block)
    return [generator.randrange(VOCABULARY) for _ in range(CHUNK)]


if __name__ == "__main__":
    main()
