"""Decode speed at equal cache length: our working set against transformers' generate with DynamicCache.

Both run the same weights in one process, interleaved round by round; figures are medians.

    python -m benchmarks.decode [MODEL_FOLDER] [--quick] [--json OUT]

MODEL_FOLDER: default, the pulled smollm2-135m.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from assistant.catalog import load_catalog
from assistant.places import find_places
from assistant.protocol import Sampling
from assistant.worker.sampling import Sampler
from benchmarks.report import publish
from memory.budget import GIB, plan
from memory.geometry import Geometry
from memory.store import Memory, make_policy


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--quick", action="store_true", help="shorter caches, fewer rounds (about a minute)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lengths, rounds, new = ([256, 1024], 3, 16) if options.quick else ([256, 1024, 4096, 7168], 5, 32)
    folder = options.model or default_model()
    ours, theirs = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval() for _ in range(2))
    rows = [measure(ours, theirs, length, rounds, new) for length in lengths]
    publish("decode", rows, quick=options.quick, json_path=options.json)


def default_model() -> Path:
    """Where the default model lies once it is pulled."""
    places = find_places()
    catalog = load_catalog(places)
    return catalog.require(catalog.find("smollm2-135m"), places)


def measure(ours: Any, theirs: Any, length: int, rounds: int, new: int) -> dict[str, Any]:
    """One row: `new` tokens after a cache of `length`, A and B in turn, `rounds` times each."""
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(100, ours.config.vocab_size, (length,), generator=generator).tolist()
    memory, cache = _our_cache(ours, ids), _their_cache(theirs, ids)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds + 1):  # the first round warms up
        seconds["ours"].append(_time_ours(memory, ids, new))
        seconds["theirs"].append(_time_theirs(theirs, cache, ids, new))
    a, b = (statistics.median(taken[1:]) for taken in seconds.values())
    return {
        "length": length,
        "tok_s": round(new / a, 2),
        "dynamic_cache_tok_s": round(new / b, 2),
        "ratio_vs_dynamic_cache": round(b / a, 3),
        "rounds": rounds,
        "new_tokens": new,
    }


def _our_cache(model: Any, ids: list[int]) -> Memory:
    geometry = Geometry.from_config(model.config.to_dict())
    memory = Memory(model, plan(geometry, 8 * GIB, 0, 4, 256), make_policy("sinks_recent"))
    memory.read(ids[:-1])
    return memory


def _their_cache(model: Any, ids: list[int]) -> DynamicCache:
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        for start in range(0, len(ids) - 1, 512):
            model(torch.tensor([ids[start : min(start + 512, len(ids) - 1)]]), past_key_values=cache)
    return cache


def _time_ours(memory: Memory, ids: list[int], new: int) -> float:
    memory.resume(ids)
    started = time.perf_counter()
    sampler = Sampler(Sampling(temperature=0, max_tokens=new), ids, torch.device("cpu"))
    logits = memory.read(ids[-1:])
    for count in range(new):
        token = sampler.next(logits)
        if count + 1 < new:
            logits = memory.step(token)
    return time.perf_counter() - started


def _time_theirs(model: Any, cache: DynamicCache, ids: list[int], new: int) -> float:
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


if __name__ == "__main__":
    main()
