"""What choosing from stored KV costs with the default model over 8K tokens: scoring, switching, growing.

*Build*: scoring everything stored for the patches of four episodes, against reading the text once (full KV, by blocks).
*Turn*: routing and switching to another episode, against a turn of a 32-token question and a 64-token reply.
*Growth*: scoring 256 new tokens for all patches, against the same turn.

    python -m benchmarks.selection --dialogues FILE [--quick] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from transformers import AutoTokenizer

from assistant.dialogue import read_dialogues, said_in
from benchmarks.models import folder_of
from benchmarks.pairs import clock
from benchmarks.report import parser_of, publish
from benchmarks.tiers import DEFAULT, Row, load, memory_on, read, row, transcript
from memory.encoder import Encoder
from memory.episode import Episodes
from memory.segment import EpisodeTurn
from memory.selection import cut
from memory.store import Memory, make_policy

EPISODES, QUESTION, REPLY, GROWN = 4, 32, 64, 256


def measured(options: argparse.Namespace) -> Iterator[Row]:
    """The rows, one after the other."""
    length = 2048 if options.quick else 7424
    model, ids = load(), transcript(json.loads(options.dialogues.read_text().splitlines()[0]))
    episodes, question = _episodes(options.dialogues)
    tokenizer = AutoTokenizer.from_pretrained(folder_of(DEFAULT))
    patches = [
        cut([tokenizer(part)["input_ids"] for part in text.split("\n\n")])
        for text in list(episodes.patches("c").values())[:EPISODES]
    ]
    with memory_on(model, None, "int8", 8192) as whole:
        read(whole, ids[:256])
        whole.clear()
        prefill = clock(lambda: whole.read(ids[:length]))
    with (
        tempfile.TemporaryDirectory() as folder,
        memory_on(model, Path(folder), "int8", length // 8 + 320, "bounded", policy=make_policy("episodic")) as memory,
    ):
        read(memory, ids[:length])
        memory.seal()
        built = clock(lambda: [memory.prepare(patch) for patch in patches])
        detail = f"{len(patches)} patches over {length} tokens {built:.2f} s, prefill {prefill:.2f} s"
        yield row("build / prefill", built / prefill, "<= 0.5", built <= 0.5 * prefill, detail)
        route = statistics.median(clock(lambda: episodes.route("c", 0, question)) for _ in range(9))
        moved, switches = list[int](), list[float]()
        for patch in [*patches, *patches, *patches]:
            switches.append(clock(lambda patch=patch: moved.append(memory.focus(patch))))  # type: ignore[misc]
        switch = statistics.median(switches[1:])
        turn = statistics.median(_turn(memory, ids) for _ in range(3)) + route + switch
        share = (route + switch) / turn
        went = f"switching {switch * 1000:.0f} ms ({statistics.median(moved)} of {memory.resident} entries)"
        detail = f"routing {route * 1000:.1f} ms, {went}, turn {turn:.2f} s"
        yield row("routing and switching / turn", share, "<= 0.1", share <= 0.1, detail)
        read(memory, [*memory.tokens, *ids[length : length + GROWN]])
        memory.seal()
        grown = clock(lambda: [memory.prepare(patch) for patch in patches])
        detail = f"{GROWN} tokens for {len(patches)} patches {grown:.3f} s"
        yield row("growth / turn", grown / turn, "beside the turn", True, detail)
    episodes.close()


def _episodes(path: Path) -> tuple[Episodes, str]:
    """The first conversation, divided; a question about it."""
    turns, date = list[EpisodeTurn](), None
    for number, turn in enumerate(read_dialogues(path, limit=1)[0].turns):
        said = said_in(turn.role, turn.text)
        date = said.date or date
        turns.append(EpisodeTurn(number, said.speaker, said.text, date))
    episodes = Episodes(None, Encoder.load())
    episodes.observe("c", turns).result()
    return episodes, json.loads(path.read_text().splitlines()[0])["questions"][0]["question"]


def _turn(memory: Memory, ids: list[int]) -> float:
    """Seconds of reading a question and writing a reply."""

    def work() -> None:
        memory.read(ids[:QUESTION])
        for token in ids[QUESTION : QUESTION + REPLY]:
            memory.step(token)

    return clock(work)


def main() -> None:
    """Measure and publish."""
    parser = parser_of(__doc__, "2K tokens")
    parser.add_argument("--dialogues", type=Path, required=True)
    options = parser.parse_args()
    publish("selection", list(measured(options)), quick=options.quick, json_path=options.json)


if __name__ == "__main__":
    main()
