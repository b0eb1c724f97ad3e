"""The benchmarks of speed run from end to end on a tiny model: what they print is what the README's commands need."""

from __future__ import annotations

import csv
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pairs import medians
from tests.worker.tiny import make_model_folder

ROOT = Path(__file__).parents[2]
FIGURES = {
    "decode": {
        "length",
        "tok_s",
        "ratio_vs_dynamic_cache",
        "fp32_tok_s",
        "static_cache_tok_s",
        "roofline",
        "kl",
        "top1",
    },
    "prefill": {"length", "bounded_tok_s", "dynamic_tok_s", "bounded_time_ratio", "whole_time_ratio"},
    "resume": {"length", "disk_s", "reread_s", "disk_speedup", "resident_speedup"},
    "switch": {"length", "together_speedup", "apart_speedup"},
    "frontier": {"length", "ttft_s", "tok_s", "answer_mib", "dynamic_cache_tok_s"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("name", FIGURES)
def test_the_figures_of_a_benchmark(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", [name, str(folder), "--quick", "--json", str(out)])
    importlib.import_module(f"benchmarks.{name}").main()
    rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"]
    assert rows
    assert all(FIGURES[name] <= set(row) for row in rows)
    assert all(float(row[figure]) >= 0 for row in rows for figure in FIGURES[name])
    assert "ratio_vs_dynamic_cache" in capsys.readouterr().out or name != "decode"


def test_the_sides_take_turns_and_the_first_round_warms_up() -> None:
    order = list[str]()

    def side(name: str, figures: list[float]) -> float:
        order.append(name)
        return figures.pop(0)

    ours, theirs = [9.0, 3.0, 1.0, 2.0], [9.0, 30.0, 10.0, 20.0]
    found = medians({"ours": lambda: side("ours", ours), "theirs": lambda: side("theirs", theirs)}, 3)
    assert found == {"ours": 2.0, "theirs": 20.0}
    assert order == ["theirs", "ours", "ours", "theirs"] * 2


def test_the_gpu_suite_runs_without_a_gpu_and_without_the_rest_of_the_project(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    command = [sys.executable, "-P", "-c", BARE, "--device", "cpu", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["ok"] for row in rows} == {"True"}
    assert any("largest difference of a logit" in row["what"] and row["bar"] for row in rows)
    assert any("share of the roofline" in row["what"] for row in rows)
    assert done.stdout.count(rows[-1]["what"]) == 2  # as it was measured, and in the table at the end


BARE = f"""
import runpy, sys
for name in ("assistant", "tui", "pydantic", "textual"):
    sys.modules[name] = None
sys.argv[0] = "gpu_suite.py"
runpy.run_path({str(ROOT / "benchmarks" / "gpu_suite.py")!r}, run_name="__main__")
"""
"""The script where nothing of the project but `memory` can be imported."""
