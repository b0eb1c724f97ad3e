"""KV that lasts: exactness, resuming, spilling and restoring, measured on the real default model.

    python -m benchmarks.tiers [--quick] [--json OUT] [--dialogues FILE] [--only NAME ...]

FILE: conversations with questions (one JSON object a line, as `assistant import` takes them); without it the text is
random tokens and the KL along gold answers is left out. Each figure stands beside the bar it must reach. The curve of
peak KV memory goes to results/<device>/tiers_peak.csv and .png.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks.models import folder_of, in_full, random_ids
from benchmarks.report import RESULTS, device_name, parser_of, publish, show
from benchmarks.tensor_peak import TensorPeak
from memory.budget import GIB, MIB, Plan, divide_capacity, plan
from memory.chunkfile import Layout
from memory.codec import RowCodec, layer_codecs
from memory.fingerprint import Fingerprint
from memory.folder import KvFolder
from memory.geometry import Geometry
from memory.identity import model_fields
from memory.policy import Policy
from memory.policy.sinks_recent import SinksRecent
from memory.spill import Spill
from memory.store import Memory, Mode
from memory.tier.disk import DiskTier

DEFAULT = "smollm2-135m"
Row = dict[str, Any]


def main() -> None:
    """Measure and publish."""
    parser = parser_of(__doc__, "shorter texts (about two minutes)")
    parser.add_argument("--dialogues", type=Path)
    parser.add_argument("--only", nargs="*", choices=list(MEASURES), help="these; the other recorded rows stay")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        resume_child(*options.child)
        return
    rows = list[Row]()
    for name in options.only or MEASURES:
        for row in MEASURES[name](options):
            rows.append(row)
            show([row])
    publish("tiers", merged(rows) if options.only else rows, quick=options.quick, json_path=options.json)


def merged(rows: list[Row]) -> list[Row]:
    """The rows of a part, in place of those that were recorded before under the same name."""
    path = RESULTS / device_name() / "tiers.csv"
    if not path.exists():
        return rows
    fresh = {one["measure"]: one for one in rows}
    with path.open(encoding="utf-8") as file:
        before = [fresh.pop(one["measure"], one) for one in csv.DictReader(file)]
    return [*before, *fresh.values()]


def row(measure: str, figure: float, bar: str, ok: bool, detail: str = "") -> Row:
    """One line of the result."""
    return {"measure": measure, "figure": f"{figure:.5g}", "bar": bar, "ok": ok, "detail": detail}


# --- what is measured on ---------------------------------------------------------------------------------------------


def load() -> Any:
    """The default model in fp32."""
    return in_full(folder_of(DEFAULT))


def text_of(options: argparse.Namespace, length: int) -> list[int]:
    """`length` tokens of the first conversation, or random ones."""
    if options.dialogues is None:
        return random_ids(length)
    ids = transcript(json.loads(options.dialogues.read_text().splitlines()[0]))
    assert len(ids) >= length
    return ids[:length]


def transcript(dialogue: dict[str, Any]) -> list[int]:
    """Token ids of a conversation, date lines and names included."""
    lines = list[str]()
    for session in dialogue["sessions"]:
        lines.append(f"[{session.get('date', '')}]")
        lines += [f"{turn['speaker']}: {turn['text']}" for turn in session["turns"]]
    ids: list[int] = AutoTokenizer.from_pretrained(folder_of(DEFAULT))("\n".join(lines))["input_ids"]
    return ids


def sized_plan(model: Any, capacity: int, shares: Sequence[float] = (), block: int = 256) -> Plan:
    """A plan with this many entries, a layer's mean where they get different `shares`."""
    geometry = Geometry.from_config(model.config.to_dict())
    roomy = plan(geometry, 64 * GIB, 0, 4, block)
    kv = geometry.kv_bytes_per_token(4) * capacity + capacity * 8 * len(geometry.layers) * geometry.layers[0].kv_heads
    weights = sum(one.nbytes for one in {one.data_ptr(): one for one in model.parameters()}.values())
    made = Plan(64 * GIB, weights, kv, roomy.staging, roomy.activations, capacity, roomy.block, roomy.patch)
    headroom = made.block + made.patch
    return replace(made, capacities=divide_capacity(shares, capacity, headroom, geometry.window)) if shares else made


@contextmanager
def memory_on(
    model: Any,
    folder: Path | None,
    codec: str,
    capacity: int,
    mode: Mode = "auto",
    ram: int = 0,
    policy: Policy | None = None,
    ends: frozenset[int] = frozenset(),
    shares: Sequence[float] = (),
    block: int = 256,
) -> Iterator[Memory]:
    """A memory with tiers in `folder` (None: without), opened on one conversation; by default the latest stay."""
    geometry = Geometry.from_config(model.config.to_dict())
    shapes = [(layer.kv_heads, layer.head_dim) for layer in geometry.layers]
    spill = None
    if folder is not None:
        sealed, lossless = (
            RowCodec(shapes, layer_codecs(one, len(shapes), torch.float32)) for one in (codec, "lossless")
        )
        fields = model_fields(model, torch.float32, sealed.names)

        def open_disk() -> DiskTier:
            layout = Layout(sealed.sections)
            return DiskTier(KvFolder.open(folder), Fingerprint.of(fields), layout, sealed.names, shapes, 64 * GIB, 0)

        spill = Spill(sealed, lossless, ram, open_disk)
    made = sized_plan(model, capacity, shares, block)
    chosen = policy or SinksRecent()
    memory = Memory(model, made, chosen, dtype=torch.float32, spill=spill, mode=mode, ends=ends)
    memory.open("bench")
    try:
        yield memory
    finally:
        if spill is not None:
            spill.close()


def read(memory: Memory, ids: list[int]) -> torch.Tensor:
    """Logits after `ids`, whatever of them is known."""
    return memory.read(ids[memory.resume(ids).reused :])


# --- exactness -------------------------------------------------------------------------------------------------------


def exact(options: argparse.Namespace) -> Iterator[Row]:
    """Exact mode against full attention over the same tokens, for several splits over the tiers."""
    model, ids = load(), text_of(options, 1500 if options.quick else 4000)
    steps = 8
    with memory_on(model, None, "lossless", 8192) as whole:
        expected = [read(whole, ids[:-steps]), *(whole.step(token) for token in ids[-steps:])]
    stride = 64 * 2 * 4 * sum(model.config.num_key_value_heads * 64 for _ in range(model.config.num_hidden_layers))
    for name, ram in (("disk", 0), ("half in RAM", 8 * stride), ("all in RAM", 100 * stride)):
        with (
            tempfile.TemporaryDirectory() as folder,
            memory_on(model, Path(folder), "lossless", 1024, "exact", ram) as memory,
        ):
            found = [read(memory, ids[:-steps]), *(memory.step(token) for token in ids[-steps:])]
            resident = memory.resident
        worst = max(float((one - other).abs().max()) for one, other in zip(expected, found, strict=True))
        detail = f"{len(ids)} tokens, {resident} resident, the rest on {name}"
        yield row(f"max logit difference ({name})", worst, "<= 1e-3", worst <= 1e-3, detail)


def answers(options: argparse.Namespace) -> Iterator[Row]:
    """KL to full KV along gold answers, int8 in exact mode with an eighth of the text resident."""
    if options.dialogues is None:
        return
    model, tokenizer = load(), AutoTokenizer.from_pretrained(folder_of(DEFAULT))
    dialogues = [json.loads(line) for line in options.dialogues.read_text().splitlines()]
    questions = 4 if options.quick else 12
    divergences = list[float]()
    for dialogue in dialogues[: 1 if options.quick else 4]:
        ids = transcript(dialogue)[-(2000 if options.quick else 7000) :]
        asked = [one for one in dialogue["questions"] if one.get("answer") and not one.get("unanswerable")]
        chosen = asked[:: max(1, len(asked) // questions)][:questions]
        with (
            tempfile.TemporaryDirectory() as folder,
            memory_on(model, None, "int8", 8192) as whole,
            memory_on(model, Path(folder), "int8", 1300, "exact") as exactly,
        ):
            read(whole, ids)
            read(exactly, ids)
            for one in chosen:
                prompt = tokenizer(f"\nQuestion: {one['question']}\nAnswer:")["input_ids"]
                answer = tokenizer(f" {one['answer']}")["input_ids"]
                divergences.append(_divergence(whole, exactly, ids + prompt, answer))
    mean = statistics.mean(divergences)
    detail = f"{len(divergences)} questions, worst {max(divergences):.5f}"
    yield row("answer KL, int8 exact against full KV", mean, "<= 0.002", mean <= 0.002, detail)


def _divergence(whole: Memory, exactly: Memory, prompt: list[int], answer: list[int]) -> float:
    """Mean KL over the tokens of the answer."""
    sides = list[torch.Tensor]()
    for memory in (whole, exactly):
        logits = [read(memory, prompt), *(memory.step(token) for token in answer[:-1])]
        sides.append(torch.stack(logits).log_softmax(-1))
    full, near = sides
    return float((full.exp() * (full - near)).sum(-1).mean())


# --- resuming --------------------------------------------------------------------------------------------------------


def resume(options: argparse.Namespace) -> Iterator[Row]:
    """A conversation resumed in a new process against reading it, and bit for bit against never having stopped."""
    length = 1500 if options.quick else 7500
    for codec in ("int8", "lossless"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "ids.json").write_text(json.dumps(text_of(options, length)))
            first, second = (_child(folder, codec, phase) for phase in ("read", "resume"))
            ratio = first["ttft_s"] / second["ttft_s"]
            detail = f"{length} tokens: read {first['ttft_s']:.2f} s, resumed {second['ttft_s']:.3f} s"
            yield row(f"resume, times faster than reading ({codec})", ratio, ">= 20 (aim 50)", ratio >= 20, detail)
            rate = second["bytes"] / second["restore_s"] / 1e9
            disk = _dd_rate(folder)
            detail = (
                f"{second['bytes'] / 1e6:.0f} MB stored in {second['restore_s']:.3f} s; dd, direct: {disk:.2f} GB/s"
            )
            yield row(f"restore GB/s ({codec})", rate, ">= 1, or dd's rate", rate >= min(1.0, disk), detail)
            if codec == "lossless":
                same = first["after"] == second["after"]
                yield row("resumed equals never interrupted", float(same), "bit for bit", same, "32 steps, all logits")


def _child(folder: Path, codec: str, phase: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.tiers", "--child", str(folder), codec, phase]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def resume_child(name: str, codec: str, phase: str) -> None:
    """In a process of its own: read or resume a text, answer one short question, go on for 32 steps."""
    folder, model = Path(name), load()
    ids: list[int] = json.loads((folder / "ids.json").read_text())
    question = ids[100:120]
    with memory_on(model, folder / "kv", codec, 8192, "bounded") as memory:
        read(memory, ids[:300])  # warms the kernels up in both phases
        memory.clear()
        memory.open("text")
        started = time.perf_counter()
        if phase == "read":
            memory.read(ids)
            took = time.perf_counter() - started
            memory.seal()
            restored = 0.0
        else:
            assert memory.resume([*ids, -1]).reused == len(ids)
            restored = took = time.perf_counter() - started
        started = time.perf_counter()
        logits = memory.read(question)
        token = int(logits.argmax())
        took += time.perf_counter() - started
        trace = [logits, *(memory.step(token) for token in (question * 2)[:32])]
        again = list[float]()
        for _ in range(5 if phase == "resume" else 0):
            memory.clear()
            started = time.perf_counter()
            memory.resume([*ids, -1])
            again.append(time.perf_counter() - started)
    total = sum(path.stat().st_size for path in (folder / "kv" / "text").iterdir())
    sums = [float(one.double().sum()) for one in trace]
    print(
        json.dumps(
            {
                "ttft_s": took,
                "first_s": restored,
                "restore_s": statistics.median(again or [0]),
                "bytes": total,
                "after": [*sums, token],
            }
        )
    )


def _dd_rate(folder: Path) -> float:
    """GB/s at which dd reads the chunk files past the page cache."""
    path = max((folder / "kv").rglob("*.kv"), key=lambda file: file.stat().st_size)
    command = ["dd", f"if={path}", "of=/dev/null", "bs=4M", "iflag=direct"]
    started = time.perf_counter()
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return float("inf")
    return path.stat().st_size / (time.perf_counter() - started) / 1e9


# --- spilling --------------------------------------------------------------------------------------------------------


def spill(options: argparse.Namespace) -> Iterator[Row]:
    """Decoding with and without spilling, in turn in one process."""
    model, ids = load(), text_of(options, 1024)
    rounds, new = (4, 64) if options.quick else (13, 128)
    with (
        tempfile.TemporaryDirectory() as folder,
        memory_on(model, Path(folder), "int8", 8192) as on,
        memory_on(model, None, "int8", 8192) as off,
    ):
        ratios, speeds = list[float](), list[float]()
        for number in range(rounds + 1):
            pair = (on, off) if number % 2 else (off, on)
            seconds = {id(memory): _decode_seconds(memory, ids, new) for memory in pair}
            ratios.append(seconds[id(off)] / seconds[id(on)])
            speeds.append(new / seconds[id(on)])
        written = on.spill.disk.counters["rows_written"] if on.spill else 0
    ratio = statistics.median(ratios[1:])
    detail = f"{statistics.median(speeds[1:]):.2f} tok/s with, {rounds} pairs of {new} tokens, {written} rows written"
    yield row("decode with spilling / without", ratio, ">= 0.95", ratio >= 0.95, detail)


def _decode_seconds(memory: Memory, ids: list[int], new: int) -> float:
    read(memory, ids)
    started = time.perf_counter()
    for token in ids[:new]:
        memory.step(token)
    return time.perf_counter() - started


def stored(options: argparse.Namespace) -> Iterator[Row]:
    """Stored bytes per token against the arithmetic of the codec."""
    model, ids = load(), text_of(options, 1280)
    heads, size, layers = model.config.num_key_value_heads, 64, model.config.num_hidden_layers
    for codec, bits in (("int8", 8), ("int4", 4), ("lossless", 32)):
        numbers = 2 * heads * size * bits / 8
        digest = 3 * heads * size * 2 / 64
        ends = 0 if codec == "lossless" else 2 * 2 * heads
        planned = layers * (numbers + digest + ends)
        with tempfile.TemporaryDirectory() as folder, memory_on(model, Path(folder), codec, 2048) as memory:
            read(memory, ids)
            assert memory.spill is not None
            memory.spill.flush()
            path = next(Path(folder).rglob("*.kv"))
            per_token = path.stat().st_size / len(ids)
        detail = f"{per_token:.0f} bytes, planned {planned:.0f}: codes, digest, value ranges"
        yield row(
            f"stored bytes per token / arithmetic ({codec})",
            per_token / planned,
            "<= 1.03",
            per_token / planned <= 1.03,
            detail,
        )


# --- the curve -------------------------------------------------------------------------------------------------------


def peak(options: argparse.Namespace) -> Iterator[Row]:
    """Peak of all tensors in exact mode from 2K to 64K tokens, random tiny model; on disk nothing is counted."""
    lengths = [2048, 4096, 8192] if options.quick else [2048, 4096, 8192, 16_384, 32_768, 65_536]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=lengths[-1] + 4096,
    )
    model = LlamaForCausalLM(config).eval()
    rows = list[Row]()
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(0, 256, (lengths[-1],), generator=generator).tolist()
    with TensorPeak() as gauge, tempfile.TemporaryDirectory() as folder:
        gauge.ignore([*model.parameters(), *model.buffers()])
        with memory_on(model, Path(folder), "int8", 1024, "exact") as memory:
            memory.resume(ids)
            planned = memory.plan.kv + memory.plan.staging + 32 * MIB
            for length in lengths:
                memory.read(ids[len(memory.tokens) : length])
                full = Geometry.from_config(config.to_dict()).kv_bytes_per_token(4) * length
                rows.append({"tokens": length, "peak_mib": gauge.peak / MIB, "full_kv_mib": full / MIB})
            assert memory.exact
    if not options.quick:
        _plot(rows)
    growth = rows[-1]["peak_mib"] / rows[0]["peak_mib"]
    detail = ", ".join(f"{one['tokens'] // 1024}K {one['peak_mib']:.1f} MiB" for one in rows)
    yield row(
        "peak in exact mode, longest / shortest",
        growth,
        "<= 1.02",
        growth <= 1.02,
        f"{detail}; planned {planned / MIB:.0f}",
    )


def _plot(rows: list[Row]) -> None:
    """CSV and PNG of the curve."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    folder = RESULTS / device_name()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tiers_peak.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    figure, axes = pyplot.subplots(figsize=(6, 3.5))
    tokens = [one["tokens"] for one in rows]
    axes.plot(tokens, [one["peak_mib"] for one in rows], marker="o", label="exact mode, peak of all tensors")
    axes.plot(tokens, [one["full_kv_mib"] for one in rows], linestyle="--", label="full KV alone")
    axes.set(xscale="log", xlabel="tokens", ylabel="MiB", title="Exact attention under a budget (random tiny model)")
    axes.set_xticks(tokens, [f"{one // 1024}K" for one in tokens])
    axes.minorticks_off()
    axes.legend()
    figure.tight_layout()
    figure.savefig(folder / "tiers_peak.png", dpi=120)


MEASURES = {"exact": exact, "answers": answers, "resume": resume, "spill": spill, "stored": stored, "peak": peak}

if __name__ == "__main__":
    main()
