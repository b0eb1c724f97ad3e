"""Where the two thresholds of episodes come from, and what routing a question costs.

The first half of each conversation is divided into episodes as the program does. A segment of its second half is *own*,
one of any other conversation *foreign*; what counts is the cosine to the nearest centroid. The threshold for segments
is the highest step at which at most 1 % of the own ones would begin an episode; that for questions, over the episodes
of the whole conversation, the highest at which at most 5 % would be called new. Seconds are of one CPU thread.

*Evidence* is the turns that answer a question: the share of them in the episode that the question goes to, in that or
the runner-up, and what a random choice among the segments would give.

    python -m benchmarks.episodes FILE... [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assistant.dialogue import read_dialogues, said_in
from memory.cluster import regrouped
from memory.encoder import Encoder
from memory.segment import TURNS, EpisodeTurn, lines
from memory.thread import lone_thread

STEPS = [step / 100 for step in range(15, 65, 5)]
SEGMENTS_LOST, QUESTIONS_LOST = 0.01, 0.05


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation: vectors of its segments and questions, segments that answer each, seconds a question took."""

    segments: Tensor
    questions: Tensor
    answers: list[list[int]]
    seconds: list[float]


def read(path: Path, encoder: Encoder) -> Iterator[Talk]:
    """The conversations of a dialogue file, embedded."""
    items = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    for item, dialogue in zip(items, read_dialogues(path), strict=True):
        turns, date = list[EpisodeTurn](), None
        for number, turn in enumerate(dialogue.turns):
            said = said_in(turn.role, turn.text)
            date = said.date or date
            turns.append(EpisodeTurn(number, said.speaker, said.text, date))
        whole = range(0, len(turns) - TURNS + 1, TURNS)
        segments = encoder.embed([lines(turns[first : first + TURNS]) for first in whole])
        questions, seconds = list[Tensor](), list[float]()
        for question in item.get("questions", []):
            started = time.perf_counter()
            questions.append(encoder.embed([[question["question"]]])[0])
            seconds.append(time.perf_counter() - started)
        yield Talk(segments, torch.stack(questions), _answers(item, len(segments)), seconds)


def _answers(item: dict[str, Any], segments: int) -> list[list[int]]:
    """The segments with evidence for each question; none for what cannot be answered."""
    turns = [turn for session in item["sessions"] for turn in session["turns"]]
    said = [turn.get("dia_id") for turn in turns if turn.get("text", "").strip() or turn.get("image_caption")]
    place = {name: number // TURNS for number, name in enumerate(said)}
    evidence = [[] if one.get("unanswerable") else one.get("evidence", []) for one in item.get("questions", [])]
    return [[place[name] for name in names if place.get(name, segments) < segments] for names in evidence]


def evidence(talks: Sequence[Talk]) -> dict[str, float]:
    """Means over the questions with evidence: share of it in the routed episode, in the first two, by chance."""
    first, second, chance = list[float](), list[float](), list[float]()
    for talk in talks:
        grouping = regrouped(list(talk.segments))
        for question, places in zip(talk.questions, talk.answers, strict=True):
            if places:
                order = (grouping.centroids() @ question).argsort(descending=True).tolist()
                ids = [grouping.ids[at] for at in order]
                first.append(sum(grouping.labels[place] == ids[0] for place in places) / len(places))
                second.append(sum(grouping.labels[place] in ids[:2] for place in places) / len(places))
                chance.append(grouping.labels.count(ids[0]) / len(grouping.labels))
    shares = {"first": first, "first or second": second, "chance": chance}
    return {"questions": len(first)} | {name: statistics.mean(share) for name, share in shares.items()}


def _talks(path: Path, encoder: Encoder) -> list[Talk]:
    return list(read(path, encoder))


def compare(talks: Sequence[Talk]) -> dict[str, tuple[Tensor, Tensor]]:
    """Cosines to the nearest centroid, (own, foreign), of segments and questions."""
    found: dict[str, tuple[list[Tensor], list[Tensor]]] = {"segments": ([], []), "questions": ([], [])}
    for talk in talks:
        half = len(talk.segments) // 2
        early = regrouped(list(talk.segments[:half])).centroids()
        every = regrouped(list(talk.segments)).centroids()
        for other in talks:
            own = other is talk
            found["segments"][not own].append(_nearest(early, other.segments[half:] if own else other.segments))
            found["questions"][not own].append(_nearest(every, other.questions))
    return {kind: (torch.cat(own), torch.cat(foreign)) for kind, (own, foreign) in found.items()}


def table(own: Tensor, foreign: Tensor) -> list[dict[str, float]]:
    """Shares below each step."""
    return [
        {
            "threshold": step,
            "own": float((own < step).float().mean()),
            "foreign": float((foreign < step).float().mean()),
        }
        for step in STEPS
    ]


def chosen(rows: Sequence[dict[str, float]], lost: float) -> float:
    """The highest step at which at most `lost` of the own ones lie below."""
    return max(row["threshold"] for row in rows if row["own"] <= lost)


def _nearest(centroids: Tensor, vectors: Tensor) -> Tensor:
    return (vectors @ centroids.T).amax(1)


def main() -> None:
    """Print the tables and what follows from them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    encoder, thread = Encoder.load(), lone_thread("encoder")
    talks = [talk for path in options.files for talk in thread.submit(_talks, path, encoder).result()]
    thread.shutdown()
    report: dict[str, Any] = {"question_s": statistics.median(second for talk in talks for second in talk.seconds)}
    for kind, (own, foreign) in compare(talks).items():
        rows = table(own, foreign)
        lost = SEGMENTS_LOST if kind == "segments" else QUESTIONS_LOST
        report[kind] = {"own": len(own), "foreign": len(foreign), "rows": rows, "chosen": chosen(rows, lost)}
        print(f"{kind}: {len(own)} own, {len(foreign)} foreign; threshold {report[kind]['chosen']:.2f}")
        for row in rows:
            print(f"  below {row['threshold']:.2f}: own {row['own']:6.1%}  foreign {row['foreign']:6.1%}")
    if any(places for talk in talks for places in talk.answers):
        report["evidence"] = evidence(talks)
        print("evidence: " + ", ".join(f"{name} {share:.3g}" for name, share in report["evidence"].items()))
    print(f"a question is embedded in {report['question_s'] * 1000:.1f} ms")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
