"""Two conversations in turn, each with a new turn of 32 tokens: time to the first token after the switch.

    python -m benchmarks.switch [MODEL_FOLDER] [--quick] [--json OUT]

`together`: the pool holds both; `apart`: it holds one, the other comes from disk (int8, in the page cache); `reread`:
transformers reads the other one again, in fp32, as a program with one slot does. One process, in turn, medians.

MODEL_FOLDER: default, the pulled smollm2-135m.
"""

from __future__ import annotations

import tempfile
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.models import as_used, in_full, options_of, some_ids
from benchmarks.pairs import clock, medians, speedups
from benchmarks.prefill import BLOCK, read_theirs
from benchmarks.report import publish, show
from benchmarks.tiers import memory_on
from memory.store import Memory

TURN = 32


def main() -> None:
    """Measure and publish."""
    options = options_of(__doc__)
    lengths, rounds = ([512], 2) if options.quick else ([1024, 3072], 6)
    ours, theirs = as_used(options.model), in_full(options.model)
    rows = list[dict[str, Any]]()
    for length in lengths:
        talks = {name: some_ids(theirs, length + TURN + place) for place, name in enumerate(("one", "two"))}
        with (
            tempfile.TemporaryDirectory() as here,
            tempfile.TemporaryDirectory() as there,
            memory_on(ours, Path(here), "int8", 2 * length + 4 * BLOCK) as together,
            memory_on(ours, Path(there), "int8", length + 2 * BLOCK) as apart,
        ):
            for memory in (together, apart):
                for name, ids in talks.items():
                    ask(memory, name, ids)
                    memory.seal()
            work = {
                "together": partial(turn, together, cycle(talks.items())),
                "apart": partial(turn, apart, cycle(talks.items())),
                "reread": partial(read_theirs, theirs, talks["one"]),
            }
            seconds = medians(work, rounds)
        rows.append({"length": length} | speedups(seconds, "reread"))
        show(rows[-1:])
    publish("switch", rows, quick=options.quick, json_path=options.json)


def turn(memory: Memory, talks: Any) -> float:
    """Seconds to the first token of the conversation whose turn it is."""
    name, ids = next(talks)
    taken = clock(lambda: ask(memory, name, ids))
    memory.seal()
    return taken


def ask(memory: Memory, name: str, ids: list[int]) -> int:
    """Open the conversation and read its last turn anew."""
    memory.open(name, tokens=len(ids))
    memory.resume([*ids[:-TURN], -1])
    return int(memory.read(ids[len(memory.tokens) :]).argmax())


if __name__ == "__main__":
    main()
