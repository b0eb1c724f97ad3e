"""The quality benchmark: the full KV differs from itself by nothing, a run goes on where it stopped, figures repeat."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from assistant.template import prepare_tokenizer
from benchmarks.quality import __main__ as quality
from benchmarks.quality.score import f1, paired
from memory.policy import POLICIES
from tests.worker.tiny import make_model_folder

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "red",
    "mat",
    "while",
    "two",
    "dogs",
    "ran",
    "home",
    "past",
    "some",
    "old",
    "green",
    "trees",
    "near",
    "our",
    "house",
]


def dialogue() -> dict[str, Any]:
    """A talk of 24 turns, with a question that has an answer, one that is doubted and one that has none."""
    turns = [
        {"speaker": "Ann" if at % 2 else "Bob", "text": " ".join(WORDS[at % 9 : at % 9 + 7]), "dia_id": f"D1:{at}"}
        for at in range(24)
    ]
    questions = [
        {"qid": "a", "question": "Who sat?", "answer": "the cat", "category": "single_hop", "evidence": ["D1:9"]},
        {"qid": "b", "question": "Who ran?", "answer": "x", "category": "single_hop", "audit": {"type": "WRONG"}},
        {"qid": "c", "question": "Who flew?", "category": "adversarial", "unanswerable": True},
    ]
    return {"id": "t/1", "sessions": [{"session": 1, "date": "2024-01-02", "turns": turns}], "questions": questions}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = make_model_folder(tmp_path / "model")
    data = tmp_path / "talk.jsonl"
    data.write_text(json.dumps(dialogue()) + "\n")

    def load(_: str) -> tuple[Any, Any]:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        prepare_tokenizer(tokenizer)
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), tokenizer

    def start(policies: str, work: str = "work") -> dict[str, Any]:
        out = tmp_path / "out.json"
        monkeypatch.setattr(quality, "load_model", load)
        monkeypatch.setattr(sys, "argv", ["quality", "--model", "tiny", "--data", str(data), "--policies", policies])
        sys.argv += ["--budgets", "1/4", "--work", str(tmp_path / work), "--json", str(out)]
        quality.main()
        return {row["policy"]: row for row in json.loads(out.read_text())["rows"]}

    return start


def test_every_policy_is_held_against_the_full_kv(run: Any) -> None:
    rows = run("default,best,episodic@pyramid,default+bounded,recall:pace=9:still=2,all")
    assert rows["full"]["kl32"] == pytest.approx(0, abs=1e-6)
    assert rows["full"]["top1"] == 1
    assert {row["questions"] for row in rows.values()} == {1}
    assert {"rag", "oracle", *POLICIES} <= set(rows)
    assert rows["best"]["kl32"] < rows["sinks_recent"]["kl32"]
    assert rows["default"]["entries"] < rows["sinks_recent"]["entries"]
    assert all(0 <= row["f1"] <= 1 and row["nll"] > 0 and row["kl32_adversarial"] >= 0 for row in rows.values())


def test_a_run_goes_on_where_it_stopped_and_its_figures_repeat(run: Any, tmp_path: Path) -> None:
    first = run("best")
    (book,) = (tmp_path / "work").rglob("records.jsonl")
    lines = book.read_text().splitlines()
    book.write_text("\n".join(lines[:4]) + "\n" + lines[4][:20])  # stopped while a record was written
    again, fresh = run("best"), run("best", work="other")
    for rows in (again, fresh):
        assert all(rows[name]["kl32"] == first[name]["kl32"] for name in first)


def test_f1_counts_shared_words() -> None:
    assert f1("The cat, of course.", ["a cat"]) == pytest.approx(0.5)
    assert f1("no idea", ["the cat", "an idea"]) == pytest.approx(2 / 3)
    assert f1("", ["cat"]) == 0


def test_pairs_are_made_over_the_questions_that_both_policies_have() -> None:
    def record(policy: str, qid: str, kl32: float, category: str = "one") -> dict[str, Any]:
        return {"policy": policy, "budget": "1/8", "qid": qid, "kl32": kl32, "category": category}

    records = [record("a", "q1", 0.1), record("a", "q2", 0.3), record("a", "q3", 9.0)]
    records += [record("b", "q1", 0.4), record("b", "q2", 0.4), record("b", "q4", 7.0, "adversarial")]
    row = next(row for row in paired(records) if (row["policy"], row["against"]) == ("a", "b"))
    assert (row["questions"], row["difference"], row["ratio"]) == (2, -0.2, 0.5)
    assert row["difference_se"] == 0.1
