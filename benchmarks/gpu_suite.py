"""Everything that is worth measuring on a GPU, in one script: correctness first, then budgets, then speed.

    python benchmarks/gpu_suite.py [--minutes 8] [--device cuda|cpu] [--quick] [--model FOLDER] [--out FILE]

Needs torch, transformers and what `memory/` imports (xxhash, sqlite-utils); no other part of the project, no network.
Models have random weights in the shapes of Llama-3.1-8B and Qwen3-4B, made on the device; FOLDER adds a real one. Rows
appear as they are measured; the table at the end says what each had to reach. `--quick`: small shapes and short texts.
What there is no time left for is named as not measured. Exit code 1 when a row missed what it had to reach.
"""

from __future__ import annotations

import argparse
import csv
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # a checkout is enough; nothing is installed there

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # a growing cache fragments without

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, Qwen3Config

from memory.budget import GIB, MIB, Plan, plan
from memory.errors import BudgetTooSmall
from memory.geometry import Geometry
from memory.policy.sinks_recent import SinksRecent
from memory.store import Memory

BLOCK = 512
ENTRIES = 8192
FAR = 100_000
"""Tokens of a history from which on the whole KV is expected to be slow."""
LLAMA = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131_072,
}
QWEN = {
    "vocab_size": 151_936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131_072,
    "tie_word_embeddings": True,
}
SMALL = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 8192,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `bar`: what it has to reach, empty where it is only reported."""

    model: str
    what: str
    figure: float
    unit: str
    bar: str = ""
    ok: bool = True


@dataclass(slots=True)
class Suite:
    """Where to measure, until when, and what was found."""

    device: torch.device
    dtype: torch.dtype
    quick: bool
    until: float
    rows: list[Row] = field(default_factory=list)

    def note(self, row: Row) -> None:
        """Keep a figure and show it."""
        self.rows.append(row)
        print(line(row), flush=True)

    def judge(self, model: str, what: str, figure: float, unit: str, least: float) -> None:
        """A figure that is to reach `least` on a GPU with the large shapes; elsewhere it is only reported."""
        judged = self.device.type == "cuda" and not self.quick
        self.note(Row(model, what, figure, unit, f">= {least}" if judged else "", not judged or figure >= least))

    def left(self, what: str) -> bool:
        """Whether there is time for this."""
        if time.monotonic() < self.until:
            return True
        print(f"not measured, no time left: {what}", flush=True)
        return False


def main() -> int:
    """Measure, print the table, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path, help="a CSV file")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU here: --device cpu --quick runs without one")
    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    suite = Suite(device, dtype, options.quick, time.monotonic() + 60 * options.minutes)
    torch.manual_seed(0)
    correctness(suite)
    try:
        for name, made in models(suite, options.model):
            if suite.left(name):
                model = made()
                with torch.inference_mode():
                    measured(suite, name, model)
                del model
                forget(device)
    finally:
        print("\n" + "\n".join(line(row) for row in suite.rows))
        if options.out:
            write(options.out, suite.rows)
    return 0 if all(row.ok for row in suite.rows) else 1


def models(suite: Suite, folder: Path | None) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The names of the models, and how each is made."""
    if suite.quick:
        yield "small", lambda: random_model(LlamaConfig(**SMALL), suite)
    else:
        yield "llama-3.1-8b shape", lambda: random_model(LlamaConfig(**LLAMA), suite)
        yield "qwen3-4b shape", lambda: random_model(Qwen3Config(**QWEN), suite)
    if folder is not None:
        yield (
            folder.name,
            lambda: AutoModelForCausalLM.from_pretrained(folder, dtype=suite.dtype).to(suite.device).eval(),
        )


def random_model(config: Any, suite: Suite, dtype: torch.dtype | None = None) -> Any:
    """A model with random weights, made where it runs."""
    with suite.device:
        return AutoModelForCausalLM.from_config(config, dtype=dtype or suite.dtype).eval().requires_grad_(False)


def forget(device: torch.device) -> None:
    """Give back what the last model took."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


# --- correctness -----------------------------------------------------------------------------------------------------


def correctness(suite: Suite) -> None:
    """A small shape in fp32, everything resident, against transformers; and the device's own type: no further from fp32
    than transformers' own attention in that type is."""
    model = random_model(LlamaConfig(**SMALL, initializer_range=0.1), suite, torch.float32)
    ids = some_ids(model, 700)
    with torch.inference_mode():
        expected = whole_logits(model, ids, suite)
        worst = float((expected - written(memory_of(model, 2048), ids)).abs().max())
        suite.note(
            Row("small, fp32", "largest difference of a logit to transformers", worst, "", "<= 1e-3", worst <= 1e-3)
        )
        if suite.dtype != torch.float32:
            half = random_model(LlamaConfig(**SMALL), suite)
            half.load_state_dict(model.state_dict())
            theirs = divergence(expected, whole_logits(half, ids, suite).to(torch.float32))
            ours = divergence(expected, written(memory_of(half, 2048), ids))
            ok = ours <= 2 * theirs + 1e-4
            suite.note(Row(f"small, {suite.dtype}", "KL to fp32, transformers", theirs, ""))
            suite.note(Row(f"small, {suite.dtype}", "KL to fp32, ours", ours, "", f"<= {2 * theirs + 1e-4:.2g}", ok))


def whole_logits(model: Any, ids: list[int], suite: Suite) -> Tensor:
    """The last nine of transformers' own."""
    model.set_attn_implementation("sdpa")
    logits: Tensor = model(torch.tensor([ids], device=suite.device)).logits[0, -9:]
    return logits


def written(memory: Memory, ids: list[int]) -> Tensor:
    """Logits of the last nine tokens, eight of them read one by one."""
    logits = [memory.read(ids[:-8]), *(memory.step(token) for token in ids[-8:])]
    return torch.stack(logits)


def divergence(full: Tensor, near: Tensor) -> float:
    """Mean KL of two stacks of logits."""
    one, two = (side.to(torch.float64).log_softmax(-1) for side in (full, near))
    return float((one.exp() * (one - two)).sum(-1).mean())


# --- budgets and speed -----------------------------------------------------------------------------------------------


def measured(suite: Suite, name: str, model: Any) -> None:
    """Everything about one model: a history grows, and at each length a turn is timed beside the whole KV."""
    lengths = [1024, 2048] if suite.quick else [8192, 16_384, 32_768, 102_400]
    entries = 512 if suite.quick else ENTRIES
    memory = memory_of(model, entries)
    ids = some_ids(model, lengths[-1])
    context = outside(suite.device)
    reset_peak(suite.device)
    read_s, speeds = 0.0, dict[int, float]()
    for length in lengths:
        if not suite.left(f"{name}, {length} tokens"):
            break
        read_s += clock(suite.device, partial(memory.read, ids[len(memory.tokens) : length]))
        speeds[length] = decode_rate(suite, memory)
        suite.note(Row(name, f"decode after {length} tokens, {entries} resident", speeds[length], "tok/s"))
        suite.note(Row(name, f"reading {length} tokens", read_s, "s"))
    if not speeds:
        return
    budget_rows(suite, name, memory, context)
    roofline_row(suite, name, model, memory, speeds)
    flat = speeds[max(speeds)] / speeds[min(speeds)]
    if len(speeds) > 1:
        suite.judge(name, f"decode, longest / {min(speeds)} tokens", flat, "x", 0.95)
    del memory
    forget(suite.device)
    try:
        whole(suite, name, model, ids, lengths, speeds)
    except torch.OutOfMemoryError:
        print("not measured, no memory left: DynamicCache from here on", flush=True)


def whole(suite: Suite, name: str, model: Any, ids: list[int], lengths: list[int], speeds: dict[int, float]) -> None:
    """The same history with everything in transformers' cache."""
    cache, read_s = DynamicCache(config=model.config), 0.0
    model.set_attn_implementation("sdpa")
    for length in lengths:
        if length not in speeds or not suite.left(f"{name}, DynamicCache at {length} tokens"):
            break
        read_s += clock(suite.device, partial(fill, model, cache, ids[:length], suite.device))
        rate = their_rate(suite, model, cache)
        suite.note(Row(name, f"DynamicCache: decode after {length} tokens", rate, "tok/s"))
        suite.note(Row(name, f"DynamicCache: reading {length} tokens", read_s, "s"))
        ratio, what = speeds[length] / rate, f"decode against DynamicCache at {length} tokens"
        if length >= FAR:
            suite.judge(name, what, ratio, "x", 2.4)
        else:
            suite.note(Row(name, what, ratio, "x"))


def budget_rows(suite: Suite, name: str, memory: Memory, context: int) -> None:
    """The allocator's peak against the plan, and what the driver counts now beside the allocator that it did not count
    when only the model was there (`context` bytes)."""
    if suite.device.type != "cuda":
        held = memory.ledger.peak
        suite.note(Row(name, "promised / budget", held / memory.plan.total, "x", "<= 1", held <= memory.plan.total))
        return
    peak, total = torch.cuda.max_memory_allocated(), memory.plan.total
    suite.note(Row(name, "peak of the allocator / budget", peak / total, "x", "<= 1", peak <= total))
    free, capacity = torch.cuda.mem_get_info()
    unexplained = max(0, outside(suite.device) - context) / (capacity - free)
    suite.note(
        Row(
            name,
            "in use that nobody explains",
            unexplained,
            "",
            "<= 0.03",
            unexplained <= 0.03,
        )
    )


def outside(device: torch.device) -> int:
    """Bytes that the driver counts and the allocator does not: the context, other processes."""
    if device.type != "cuda":
        return 0
    free, capacity = torch.cuda.mem_get_info()
    return capacity - free - torch.cuda.memory_reserved()


def roofline_row(suite: Suite, name: str, model: Any, memory: Memory, speeds: dict[int, float]) -> None:
    """Time to copy what a token reads over the time of the token, at the longest history."""
    kv = sum(part.nbytes for layer in memory.working_set.layers for part in layer.stored)
    reads = weight_bytes(model) + kv
    share = reads * copy_s(suite.device, suite.quick) * speeds[max(speeds)]
    suite.judge(name, "share of the roofline", share, "", 0.7)


def weight_bytes(model: Any) -> int:
    """Bytes of the weights that a token reads: all but the embeddings, of which it reads a row."""
    embeddings = model.get_input_embeddings().weight
    tied = model.config.tie_word_embeddings
    sizes = {parameter.data_ptr(): parameter.nbytes for parameter in model.parameters()}
    return sum(sizes.values()) - (0 if tied else embeddings.nbytes)


def memory_of(model: Any, entries: int) -> Memory:
    """A memory with room for so many entries and a block; the latest stay."""
    return Memory(model, sized(model, entries + BLOCK), SinksRecent())


def sized(model: Any, capacity: int) -> Plan:
    """The plan of the smallest budget whose working set has this capacity, found by halving."""
    geometry = Geometry.from_config(model.config.to_dict())
    weights = sum({one.data_ptr(): one.nbytes for one in [*model.parameters(), *model.buffers()]}.values())
    itemsize = next(model.parameters()).itemsize

    def holds(budget: int) -> bool:
        try:
            return plan(geometry, budget, weights, itemsize, BLOCK).capacity >= capacity
        except BudgetTooSmall:
            return False

    low, high = 0, 256 * GIB
    while high - low > MIB:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return plan(geometry, high, weights, itemsize, BLOCK)


def decode_rate(suite: Suite, memory: Memory) -> float:
    """Tokens a second, the median of several short runs; the tokens are taken back."""
    before, steps = len(memory.tokens), 8 if suite.quick else 32
    taken = list[float]()
    for _ in range(4):
        taken.append(clock(suite.device, lambda: [memory.step(7) for _ in range(steps)]))
        memory.resume([*memory.tokens[:before], -1])
    return steps / statistics.median(taken[1:])


def their_rate(suite: Suite, model: Any, cache: DynamicCache) -> float:
    """The same with transformers' cache."""
    steps = 8 if suite.quick else 32
    token = torch.tensor([[7]], device=suite.device)
    taken = list[float]()
    for _ in range(4):
        taken.append(clock(suite.device, lambda: [model(token, past_key_values=cache) for _ in range(steps)]))
        cache.crop(-steps)
    return steps / statistics.median(taken[1:])


def fill(model: Any, cache: DynamicCache, ids: list[int], device: torch.device) -> None:
    """Read what the cache lacks of `ids`, block by block, logits for the last token only."""
    for start in range(cache.get_seq_length(), len(ids), BLOCK):
        piece = torch.tensor([ids[start : start + BLOCK]], device=device)
        model(piece, past_key_values=cache, logits_to_keep=1)


def clock(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds until the device is done."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def copy_s(device: torch.device, quick: bool) -> float:
    """Seconds to read a byte, from the best of several copies (each reads and writes)."""
    source = torch.ones((64 if quick else 1024) * MIB, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return min(clock(device, lambda: target.copy_(source)) for _ in range(5)) / (2 * source.numel())


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def some_ids(model: Any, length: int) -> list[int]:
    """Random tokens."""
    ids: list[int] = torch.randint(
        0, model.config.vocab_size, (length,), generator=torch.Generator().manual_seed(1)
    ).tolist()
    return ids


def line(row: Row) -> str:
    verdict = "" if not row.bar else f"{row.bar} {'ok' if row.ok else 'MISSED'}"
    return f"{row.model:<20} {row.what:<52} {row.figure:>12.4g} {row.unit:<6} {verdict}"


def write(path: Path, rows: list[Row]) -> None:
    """The rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
