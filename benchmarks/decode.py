"""Decode speed at equal cache length: our working set against transformers' `generate` with its caches.

    python -m benchmarks.decode [MODEL_FOLDER] [--quick] [--json OUT]

All run the same model in one process, in turn; figures are medians. `ours` holds the weights as the program does by
default (fp16 on a CPU), `ours_fp32` and transformers in fp32. `kl` is what fp16 changes: the mean divergence of the
tokens' distributions, and `top1` the share of equal first choices, along what fp32 writes after random tokens.
`roofline`: the seconds in which memory is copied as large as the weights and the KV that a token reads, over those the
token took.

MODEL_FOLDER: default, the pulled smollm2-135m.
"""

from __future__ import annotations

import copy
import time
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from assistant.protocol import Sampling
from assistant.worker.halves import HalfLinear
from assistant.worker.sampling import Sampler
from benchmarks.models import as_used, in_full, options_of, some_ids
from benchmarks.pairs import clock, medians
from benchmarks.report import publish
from memory.budget import GIB, plan
from memory.geometry import Geometry
from memory.store import Memory, make_policy

PIECE = 512
COPIED = 256 * 1024 * 1024
"""Bytes that are copied to measure how fast memory is."""


def main() -> None:
    """Measure and publish."""
    options = options_of(__doc__)
    lengths, rounds, new = ([256, 1024], 3, 16) if options.quick else ([256, 1024, 4096, 7168], 5, 32)
    ours, plain, theirs = as_used(options.model), in_full(options.model), in_full(options.model)
    rows = [measure(ours, plain, theirs, length, rounds, new) for length in lengths]
    publish("decode", rows, quick=options.quick, json_path=options.json)


def measure(ours: Any, plain: Any, theirs: Any, length: int, rounds: int, new: int) -> dict[str, Any]:
    """One row: `new` tokens after a cache of `length`, every side in turn, `rounds` times each."""
    ids = some_ids(plain, length)
    sides = {"ours": filled(ours, ids), "ours_fp32": filled(plain, ids)}
    caches = {"dynamic": DynamicCache(config=theirs.config), "static": StaticCache(theirs.config, length + new)}
    for cache in caches.values():
        fill(theirs, cache, ids)
    work = {name: partial(time_ours, memory, ids, new) for name, memory in sides.items()}
    work |= {name: partial(time_theirs, theirs, cache, ids, new) for name, cache in caches.items()}
    seconds = medians(work, rounds)
    kl, top1 = apart(sides["ours"], sides["ours_fp32"], ids, new)
    read = weight_bytes(ours) + kv_bytes(sides["ours"])
    rates = {name: round(new / taken, 2) for name, taken in seconds.items()}
    return {
        "length": length,
        "tok_s": rates["ours"],
        "fp32_tok_s": rates["ours_fp32"],
        "dynamic_cache_tok_s": rates["dynamic"],
        "static_cache_tok_s": rates["static"],
        "ratio_vs_dynamic_cache": round(seconds["dynamic"] / seconds["ours"], 3),
        "ratio_fp32_vs_dynamic_cache": round(seconds["dynamic"] / seconds["ours_fp32"], 3),
        "roofline": round(read * copy_seconds_per_byte() * rates["ours"], 3),
        "kl": f"{kl:.2g}",
        "top1": round(top1, 4),
        "rounds": rounds,
        "new_tokens": new,
    }


def filled(model: Any, ids: list[int]) -> Memory:
    """A memory with room for everything that has read `ids` but the last."""
    geometry = Geometry.from_config(model.config.to_dict())
    division = plan(geometry, 8 * GIB, 0, 4, 256)
    memory = Memory(model, division, make_policy("sinks_recent"), dtype=torch.float32)
    memory.read(ids[:-1])
    return memory


def fill(model: Any, cache: Any, ids: list[int]) -> None:
    """Read `ids` but the last into one of transformers' caches."""
    with torch.inference_mode():
        for start in range(0, len(ids) - 1, PIECE):
            model(torch.tensor([ids[start : min(start + PIECE, len(ids) - 1)]]), past_key_values=cache)


def time_ours(memory: Memory, ids: list[int], new: int) -> float:
    """Seconds to write `new` tokens after `ids`."""
    memory.resume(ids)
    started = time.perf_counter()
    sampler = Sampler(Sampling(temperature=0, max_tokens=new), ids, torch.device("cpu"))
    logits = memory.read(ids[-1:])
    for count in range(new):
        token = sampler.next(logits)
        if count + 1 < new:
            logits = memory.step(token)
    return time.perf_counter() - started


def time_theirs(model: Any, cache: Any, ids: list[int], new: int) -> float:
    """The same by `generate`."""
    own = copy.deepcopy(cache)
    started = time.perf_counter()
    model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
        past_key_values=own,
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=False,
        pad_token_id=0,
    )
    return time.perf_counter() - started


def apart(ours: Memory, plain: Memory, ids: list[int], new: int) -> tuple[float, float]:
    """Mean KL and equal first choices of both along what `plain` writes."""
    for memory in (ours, plain):
        memory.resume(ids)
    here, there = ours.read(ids[-1:]), plain.read(ids[-1:])
    found = list[tuple[Tensor, Tensor]]()
    for _ in range(new):
        found.append((here, there))
        token = int(there.argmax())
        here, there = ours.step(token), plain.step(token)
    one, two = (torch.stack(side).to(torch.float64).log_softmax(-1) for side in zip(*found, strict=True))
    divergence = (two.exp() * (two - one)).sum(-1).mean()
    return float(divergence), float((one.argmax(-1) == two.argmax(-1)).double().mean())


def weight_bytes(model: Any) -> int:
    """Bytes of the weights that one token reads: all but the embeddings, unless they are the output head too."""
    halves = [2 * one.out_features * one.in_features for one in model.modules() if isinstance(one, HalfLinear)]
    embeddings = model.get_input_embeddings().weight
    others = {one.data_ptr(): one.nbytes for one in model.parameters()}
    head = getattr(model.get_output_embeddings(), "weight", None)
    return sum(halves) + sum(others.values()) - (0 if head is embeddings else embeddings.nbytes)


def kv_bytes(memory: Memory) -> int:
    """Bytes of the keys and values that one token attends to."""
    return sum(part.nbytes for layer in memory.working_set.layers for part in layer.stored)


def copy_seconds_per_byte() -> float:
    """What reading and writing memory takes, a byte that is read; the best of five."""
    source = torch.ones(COPIED, dtype=torch.uint8)
    target = torch.empty_like(source)
    return min(clock(lambda: target.copy_(source)) for _ in range(5)) / (2 * COPIED)


if __name__ == "__main__":
    main()
