"""transformers' caches, and kvpress over them, as a child process: requests on standard input, answers on standard
output, one JSON object a line.

Runs in the environment that kvpress.sh makes, which has nothing of ours: `python caches_child.py MODEL_FOLDER THREADS`.

    {"side": s, "ids": [...], "kept": k} -> {"seconds": s, "bytes": b}, {"refused": why}: read into cache s
    {"side": s, "write": n}              -> {"seconds": s}: write n tokens after it, each chosen greedily
"""

from __future__ import annotations

import copy
import io
import json
import sys
import time
from contextlib import nullcontext
from typing import Any

import kvpress
import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache, QuantizedCache

PRESSES = {"kvpress_keydiff": kvpress.KeyDiffPress, "kvpress_snapkv": kvpress.SnapKVPress}


class Caches:
    """One cache of each side, with the length of what was read into it."""

    def __init__(self, folder: str) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
        self._filled: dict[str, tuple[Any, list[int]]] = {}

    def read(self, side: str, ids: list[int], kept: float) -> dict[str, Any]:
        """Fill the cache of a side."""
        started = time.perf_counter()
        try:
            cache = self._empty(side)
            press = PRESSES[side](compression_ratio=1 - kept)(self._model) if side in PRESSES else nullcontext()
            with press:
                self._model(torch.tensor([ids[:-1]]), past_key_values=cache, logits_to_keep=1)
        except (RuntimeError, ImportError, AssertionError) as error:
            return {"refused": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        seconds = time.perf_counter() - started
        self._filled[side] = cache, ids
        return {"seconds": seconds, "bytes": _bytes(cache)}

    def write(self, side: str, count: int) -> dict[str, Any]:
        """Write behind it; the cache is as before afterwards."""
        filled, ids = self._filled[side]
        cache = copy.copy(filled)
        cache.layers = [copy.copy(layer) for layer in filled.layers]  # they replace their tensors, none is written to
        started, token = time.perf_counter(), ids[-1]
        for place in range(len(ids) - 1, len(ids) - 1 + count):
            logits = self._model(
                torch.tensor([[token]]), past_key_values=cache, position_ids=torch.tensor([[place]])
            ).logits
            token = int(logits[0, -1].argmax())
        return {"seconds": time.perf_counter() - started}

    def _empty(self, side: str) -> Any:
        if side == "quantized":
            return QuantizedCache("quanto", self._model.config, nbits=4)
        return DynamicCache(config=self._model.config, offloading=side == "offloaded")


def _bytes(cache: Any) -> int:
    """What its tensors take when they are written down."""
    buffer = io.BytesIO()
    torch.save([vars(layer) for layer in cache.layers], buffer)
    return buffer.tell()


def main(folder: str, threads: int) -> None:
    """Answer until the input ends."""
    torch.set_num_threads(threads)
    caches = Caches(folder)
    print(json.dumps({"transformers": transformers.__version__}), flush=True)
    with torch.inference_mode():
        for line in sys.stdin:
            request = json.loads(line)
            told = caches.write(request["side"], request["write"]) if "write" in request else caches.read(**request)
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
