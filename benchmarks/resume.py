"""A conversation that was read before gets a turn of 100 tokens: time to the first token of the answer.

    python -m benchmarks.resume [MODEL_FOLDER] [--quick] [--json OUT]

`disk`: its KV is on disk alone (int8, in the page cache), as after a restart; `resident`: in the working set;
`reread`: transformers reads everything again, in fp32, as a program without stored KV does. One process, in turn,
medians. `benchmarks.tiers` does the first in a process of its own.

MODEL_FOLDER: default, the pulled smollm2-135m.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.models import as_used, in_full, options_of, some_ids
from benchmarks.pairs import clock, medians, speedups
from benchmarks.prefill import read_theirs
from benchmarks.report import publish, show
from benchmarks.tiers import memory_on
from memory.store import Memory

TURN = 100


def main() -> None:
    """Measure and publish."""
    options = options_of(__doc__)
    lengths, rounds = ([1024], 2) if options.quick else ([1024, 3584, 7168], 3)
    ours, theirs = as_used(options.model), in_full(options.model)
    rows = list[dict[str, Any]]()
    for length in lengths:
        ids = some_ids(theirs, length + TURN)
        with tempfile.TemporaryDirectory() as folder, memory_on(ours, Path(folder), "int8", 8192) as memory:
            memory.read(ids[:length])
            memory.seal()
            work = {
                "disk": partial(answer, memory, ids, cleared=True),
                "resident": partial(answer, memory, ids, cleared=False),
                "reread": partial(read_theirs, theirs, ids),
            }
            seconds = medians(work, rounds)
        rows.append({"length": length} | speedups(seconds, "reread"))
        show(rows[-1:])
    publish("resume", rows, quick=options.quick, json_path=options.json)


def answer(memory: Memory, ids: list[int], *, cleared: bool) -> float:
    """Seconds from the question to the first token; what was read of `ids` before the last turn is known."""
    if cleared:
        memory.clear()
    else:
        known(memory, ids)
    return clock(lambda: int(memory.read(ids[known(memory, ids) :]).argmax()))


def known(memory: Memory, ids: list[int]) -> int:
    """Make all but the last turn of `ids` resident, none of which is read again; so many tokens."""
    before = ids[:-TURN]
    assert memory.resume([*before, -1]).reused == len(before)
    return len(before)


if __name__ == "__main__":
    main()
