"""What a longer history costs: time to the first token of a new turn, tokens a second and bytes, 1K to 128K.

    python -m benchmarks.frontier [MODEL_FOLDER] [--quick] [--json OUT]

One conversation grows under one plan: a working set of 2,048 entries, everything else as int8 chunks on disk, policy
"recall". Beside it, while it is feasible, transformers with the whole KV in `DynamicCache`: its tokens a second and the
bytes of its cache. `answer_mib`: the pool of the KV and the most that the tensors take which an answer makes, what is
brought back from disk included. A curve goes to results/<device>.

MODEL_FOLDER: default, the pulled smollm2-135m.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache

from benchmarks.models import as_used, in_full, options_of, some_ids
from benchmarks.prefill import BLOCK
from benchmarks.report import plot, publish, show
from benchmarks.tensor_peak import TensorPeak
from benchmarks.tiers import memory_on
from memory.budget import MIB, PATCH_TOKENS
from memory.policy.recall import Recall
from memory.store import Memory

ENTRIES = 2048
TURN, STEPS = 32, 16
FULL_UP_TO = 8192
"""Tokens up to which transformers' cache is filled too: the default model was trained no further."""


def main() -> None:
    """Measure and publish."""
    options = options_of(__doc__)
    lengths = [1024, 2048] if options.quick else [1024 * 2**power for power in range(8)]
    ours, theirs = as_used(options.model), in_full(options.model)
    ids, cache = some_ids(theirs, lengths[-1] + TURN * len(lengths)), DynamicCache(config=theirs.config)
    rows = list[dict[str, Any]]()
    with (
        tempfile.TemporaryDirectory() as folder,
        memory_on(ours, Path(folder), "int8", ENTRIES + BLOCK + PATCH_TOKENS, policy=Recall()) as memory,
    ):
        for length in lengths:
            rows.append({"length": length} | grown(memory, ours, ids, length))
            if length <= FULL_UP_TO:
                rows[-1] |= full(theirs, cache, ids, length)
            show(rows[-1:])
    rows = [dict.fromkeys(rows[0], "") | row for row in rows]
    publish("frontier", rows, quick=options.quick, json_path=options.json)
    if not options.quick:
        lines = {"ours": "tok_s", "DynamicCache": "dynamic_cache_tok_s"}
        plot("frontier", rows, "length", lines, "tokens a second after a history of so many tokens")


def grown(memory: Memory, model: Any, ids: list[int], length: int) -> dict[str, Any]:
    """Let the history grow to `length`, then ask: once for the time, once for the bytes."""
    before, turn = ids[: length - TURN], ids[length - TURN : length]
    memory.read(before[memory.resume([*before, -1]).reused :])
    memory.seal()
    ttft, steps = answered(memory, before, turn)
    with TensorPeak() as gauge:
        gauge.ignore([*model.parameters(), *model.buffers()])
        answered(memory, before, turn)
    kv = sum(layer.pool.arena.nbytes for layer in memory.working_set.layers)
    return {
        "ttft_s": round(ttft, 3),
        "tok_s": round(STEPS / steps, 2),
        "kv_mib": round(kv / MIB, 1),
        "answer_mib": round((kv + gauge.peak) / MIB, 1),
    }


def answered(memory: Memory, before: list[int], turn: list[int]) -> tuple[float, float]:
    """Seconds to the first token of the answer, and those of the next `STEPS`."""
    started = time.perf_counter()
    memory.resume([*before, -1])
    memory.focus(turn)
    memory.read(turn)
    first = time.perf_counter()
    for token in turn[:STEPS]:
        memory.step(token)
    return first - started, time.perf_counter() - first


def full(model: Any, cache: DynamicCache, ids: list[int], length: int) -> dict[str, Any]:
    """The same with everything in transformers' cache."""
    with torch.inference_mode():
        for start in range(cache.get_seq_length(), length, BLOCK):
            model(torch.tensor([ids[start : min(start + BLOCK, length)]]), past_key_values=cache, logits_to_keep=1)
        started = time.perf_counter()
        for token in ids[:STEPS]:
            model(torch.tensor([[token]]), past_key_values=cache)
        taken = time.perf_counter() - started
        cache.crop(-STEPS)
    size = sum(part.nbytes for layer in cache.layers for part in (layer.keys, layer.values))
    return {"dynamic_cache_tok_s": round(STEPS / taken, 2), "dynamic_cache_mib": round(size / MIB, 1)}


if __name__ == "__main__":
    main()
