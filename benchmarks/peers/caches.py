"""transformers' other caches and kvpress beside our working set: reading a text, writing after it, what memory holds.

    python -m benchmarks.peers.caches [MODEL_FOLDER] [--python PATH] [--quick] [--json OUT]

PATH: the Python of the environment that `benchmarks/peers/kvpress.sh` made; its side reads the text in one pass, as
kvpress has to. `ours_keydiff` and `ours_snapkv` keep as many of the text's entries as kvpress with the policy of that
name does, a quarter, and the rest as int8 chunks on disk (`disk_mib`), from where it can be recalled; what kvpress
drops is gone. Weights in fp32 everywhere, but for `ours_fp16`: as the program has them, everything resident. In turn,
medians; a side that cannot run here says why.

MODEL_FOLDER: default, the pulled smollm2-135m.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.decode import kv_bytes, time_ours
from benchmarks.models import as_used, folder_of, in_full, some_ids
from benchmarks.pairs import medians
from benchmarks.peers.child import Child
from benchmarks.prefill import BLOCK, read_ours
from benchmarks.report import parser_of, publish
from benchmarks.tiers import memory_on
from memory.budget import MIB, PATCH_TOKENS
from memory.store import Memory, make_policy

PYTHON = Path(".peers/kvpress/bin/python")
KEPT = 0.25
THEIRS = ("dynamic", "offloaded", "quantized", "kvpress_keydiff", "kvpress_snapkv")


def main() -> None:
    """Measure and publish."""
    parser = parser_of(__doc__, "shorter texts, fewer rounds")
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--python", type=Path, default=PYTHON)
    options = parser.parse_args()
    if not options.python.exists():
        parser.error(f"there is no {options.python}: run benchmarks/peers/kvpress.sh first, or say --python PATH")
    folder = options.model or folder_of("smollm2-135m")
    lengths, rounds, new = ([512], 1, 8) if options.quick else ([1024, 4096], 3, 32)
    peer = Child(options.python, "caches_child.py", folder, torch.get_num_threads())
    models = in_full(folder), as_used(folder)
    rows = [row | peer.said for length in lengths for row in measure(*models, peer, length, rounds, new)]
    peer.close()
    publish("caches", rows, quick=options.quick, json_path=options.json)


def measure(plain: Any, used: Any, peer: Child, length: int, rounds: int, new: int) -> list[dict[str, Any]]:
    """A row for every side."""
    ids = some_ids(plain, length)
    asked = {side: peer.ask({"side": side, "ids": ids, "kept": KEPT}) for side in THEIRS}
    able = [side for side in THEIRS if "refused" not in asked[side]]
    with ExitStack() as stack:
        disk = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = memories(stack, disk, plain, used, length)
        reading = {name: partial(read_ours, memory, ids[:-1]) for name, memory in ours.items()}
        reading |= {side: partial(seconds, peer, {"side": side, "ids": ids, "kept": KEPT}) for side in able}
        read = medians(reading, rounds)
        for memory in ours.values():
            memory.seal()
        writing = {name: partial(time_ours, memory, ids, new) for name, memory in ours.items()}
        writing |= {side: partial(seconds, peer, {"side": side, "write": new}) for side in able}
        write = medians(writing, rounds)
        held = {name: (kv_bytes(memory), stored(disk / name)) for name, memory in ours.items()}
    held |= {side: (asked[side]["bytes"], 0) for side in able}
    return [
        {
            "length": length,
            "side": side,
            "read_s": round(read[side], 2) if side in read else "",
            "write_tok_s": round(new / write[side], 2) if side in write else "",
            "memory_mib": round(held[side][0] / MIB, 1) if side in held else "",
            "disk_mib": round(held[side][1] / MIB, 1) if side in held else "",
            "refused": asked.get(side, {}).get("refused", ""),
        }
        for side in (*ours, *THEIRS)
    ]


def memories(stack: ExitStack, disk: Path, plain: Any, used: Any, length: int) -> dict[str, Memory]:
    """Our sides, by name; those that keep a part have a folder of that name."""
    few = int(length * KEPT) + BLOCK + PATCH_TOKENS
    whole = {
        name: (model, None, length + BLOCK, "sinks_recent") for name, model in (("ours_fp16", used), ("ours", plain))
    }
    part = {f"ours_{policy}": (plain, disk / f"ours_{policy}", few, policy) for policy in ("keydiff", "snapkv")}
    return {
        name: stack.enter_context(memory_on(model, folder, "int8", entries, policy=make_policy(policy)))
        for name, (model, folder, entries, policy) in (whole | part).items()
    }


def seconds(peer: Child, request: dict[str, Any]) -> float:
    """What it says that it took."""
    return float(peer.ask(request)["seconds"])


def stored(folder: Path) -> int:
    """Bytes of the files in it."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
