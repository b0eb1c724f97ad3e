"""The program's engine beside llama.cpp with the same GGUF: writing, answering a turn, reading again.

    python -m benchmarks.peers.compare GGUF [MODEL_FOLDER] [--python PATH] [--quick] [--json OUT]

GGUF: the file that the model folder was converted from. PATH: the Python of the environment that
`benchmarks/peers/llama_cpp.sh` made. `write`: tokens a second after a cache of so many tokens; `resumed`: seconds to
the first token of a turn of 100 tokens when the rest is known (ours from disk, as after a restart; llama.cpp's prompt
cache in memory); `reread`: when it is not. In turn, medians; both with as many threads as torch has.

MODEL_FOLDER: default, the pulled smollm2-135m.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.decode import time_ours
from benchmarks.models import as_used, folder_of, some_ids
from benchmarks.pairs import medians
from benchmarks.peers.child import Child
from benchmarks.prefill import read_ours
from benchmarks.report import parser_of, publish, show
from benchmarks.resume import TURN, answer
from benchmarks.tiers import memory_on

PYTHON = Path(".peers/llama_cpp/bin/python")


class LlamaCpp(Child):
    """The child process."""

    def __init__(self, python: Path, gguf: Path, tokens: int) -> None:
        super().__init__(python, "llama_child.py", gguf, torch.get_num_threads(), tokens)

    def read(self, ids: list[int], known: int) -> float:
        """Seconds to the first token after `ids`, of which the first `known` were read before."""
        return float(self.ask({"ids": ids, "known": known})["seconds"])

    def write(self, count: int) -> float:
        """Seconds to write so many tokens."""
        return float(self.ask({"write": count})["seconds"])


def main() -> None:
    """Measure and publish."""
    parser = parser_of(__doc__, "shorter texts, fewer rounds")
    parser.add_argument("gguf", type=Path)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--python", type=Path, default=PYTHON)
    options = parser.parse_args()
    if not options.python.exists():
        parser.error(f"there is no {options.python}: run benchmarks/peers/llama_cpp.sh first, or say --python PATH")
    if not options.gguf.exists():
        parser.error(f"there is no {options.gguf}")
    lengths, rounds, new = ([256, 1024], 2, 16) if options.quick else ([256, 1024, 4096, 7168], 3, 32)
    ours = as_used(options.model or folder_of("smollm2-135m"))
    peer = LlamaCpp(options.python, options.gguf, lengths[-1] + TURN + new + 8)
    rows = list[dict[str, Any]]()
    for length in lengths:
        rows.append(
            {"length": length} | measure(ours, peer, length, rounds, new) | {"llama_cpp_python": peer.said["version"]}
        )
        show(rows[-1:])
    peer.close()
    publish("peers", rows, quick=options.quick, json_path=options.json)


def measure(model: Any, peer: LlamaCpp, length: int, rounds: int, new: int) -> dict[str, Any]:
    """One row."""
    ids = some_ids(model, length + TURN)
    with (
        tempfile.TemporaryDirectory() as folder,
        memory_on(model, Path(folder), "int8", 8192) as stored,
        memory_on(model, None, "int8", 8192) as fresh,
    ):
        stored.read(ids[:length])
        stored.seal()
        again = medians(
            {"ours": partial(read_ours, fresh, ids), "theirs": partial(peer.read, ids, 0)},
            1 if length > 2048 else rounds,
        )
        resumed = medians(
            {"ours": partial(answer, stored, ids, cleared=True), "theirs": partial(peer.read, ids, length)}, rounds
        )
        fresh.clear()
        fresh.read(ids[: length - 1])
        peer.read(ids[:length], 0)
        wrote = medians(
            {"ours": partial(time_ours, fresh, ids[:length], new), "theirs": partial(peer.write, new)}, rounds
        )
    return {
        "write_tok_s": round(new / wrote["ours"], 2),
        "llama_write_tok_s": round(new / wrote["theirs"], 2),
        "write_ratio": round(wrote["theirs"] / wrote["ours"], 3),
        "resumed_s": round(resumed["ours"], 3),
        "llama_cached_s": round(resumed["theirs"], 3),
        "reread_s": round(again["ours"], 3),
        "llama_reread_s": round(again["theirs"], 3),
        "resumed_vs_llama_reread": round(again["theirs"] / resumed["ours"], 2),
    }


if __name__ == "__main__":
    main()
