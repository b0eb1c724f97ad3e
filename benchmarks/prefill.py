"""Reading a prompt: a bounded working set against transformers with its whole KV in `DynamicCache`, equal blocks.

    python -m benchmarks.prefill [MODEL_FOLDER] [--quick] [--json OUT]

`bounded`: a working set of an eighth of the longest text, chosen by the policy "sinks_recent"; `whole`: one that holds
everything. Both hold the weights as the program does; `fp32` and transformers in fp32. A second table (prefill_blocks):
tokens a second with blocks of other sizes, everything resident. One process, in turn, medians.

MODEL_FOLDER: default, the pulled smollm2-135m.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache

from benchmarks.models import as_used, in_full, options_of, some_ids
from benchmarks.pairs import clock, medians
from benchmarks.report import publish, show
from benchmarks.tiers import memory_on
from memory.budget import PATCH_TOKENS
from memory.store import Memory

BLOCK = 256
BLOCKS = (64, 128, 256, 512, 1024)
SHARE = 8


def main() -> None:
    """Measure and publish."""
    options = options_of(__doc__)
    lengths, rounds = ([512, 1024], 2) if options.quick else ([1024, 2048, 4096, 7168], 3)
    ours, theirs = as_used(options.model), in_full(options.model)
    capacity = max(lengths) // SHARE + BLOCK + PATCH_TOKENS
    rows = list[dict[str, Any]]()
    with (
        memory_on(ours, None, "int8", capacity) as bounded,
        memory_on(ours, None, "int8", max(lengths) + BLOCK) as whole,
        memory_on(theirs, None, "int8", max(lengths) + BLOCK) as plain,
    ):
        for length in lengths:
            ids = some_ids(theirs, length)
            work: dict[str, Callable[[], float]] = {
                name: partial(read_ours, memory, ids)
                for name, memory in {"bounded": bounded, "whole": whole, "fp32": plain}.items()
            }
            seconds = medians(work | {"dynamic": partial(read_theirs, theirs, ids)}, rounds)
            rows.append({"length": length} | figures(length, seconds))
            show(rows[-1:])
    publish("prefill", rows, quick=options.quick, json_path=options.json)
    publish("prefill_blocks", [blocks(ours, lengths[1], rounds)], quick=options.quick, json_path=None)


def blocks(model: Any, length: int, rounds: int) -> dict[str, float]:
    """Tokens a second by the size of a block."""
    ids = some_ids(model, length)
    with ExitStack() as stack:
        work: dict[str, Callable[[], float]] = {
            str(block): partial(
                read_ours, stack.enter_context(memory_on(model, None, "int8", length + block, block=block)), ids
            )
            for block in BLOCKS
        }
        return {block: round(length / seconds, 1) for block, seconds in medians(work, rounds).items()}


def read_ours(memory: Memory, ids: list[int]) -> float:
    """Seconds to read `ids` from nothing."""
    memory.clear()
    return clock(lambda: memory.read(ids))


def read_theirs(model: Any, ids: list[int]) -> float:
    """The same with `DynamicCache`, logits for the last token only."""
    cache = DynamicCache(config=model.config)

    def read() -> None:
        with torch.inference_mode():
            for start in range(0, len(ids), BLOCK):
                model(torch.tensor([ids[start : start + BLOCK]]), past_key_values=cache, logits_to_keep=1)

    return clock(read)


def figures(length: int, seconds: dict[str, float]) -> dict[str, float]:
    """Tokens a second of each side, and what each takes of transformers' time."""
    rates = {f"{name}_tok_s": round(length / taken, 1) for name, taken in seconds.items()}
    return rates | {f"{name}_time_ratio": round(seconds[name] / seconds["dynamic"], 3) for name in ("bounded", "whole")}


if __name__ == "__main__":
    main()
