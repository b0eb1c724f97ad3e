"""The tool-calling benchmark: what counts as right, and a run that goes on where it stopped."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from assistant.catalog import Catalog
from assistant.protocol import Call
from benchmarks import bfcl
from tests.worker.tiny import TOOLS_CHATML, make_model_folder

TRUTH = [{"geo.area": {"base": [10, 10.0], "unit": ["m", "meters", ""], "at": [[1, 2]], "who": [{"name": ["Ada"]}]}}]


def call(**arguments: Any) -> Call:
    return Call(name="geo.area", arguments={"base": 10, "at": [1, 2], "who": {"name": "ada"}} | arguments)


@pytest.mark.parametrize(
    ("calls", "right"),
    [
        ([call()], True),
        ([call(unit="Meters")], True),
        ([call(unit="feet")], False),
        ([call(base="10")], False),
        ([call(base=True)], False),
        ([call(at=[2, 1])], False),
        ([call(who={"name": "Ada", "age": 3})], False),
        ([call(height=1)], False),
        ([call(), call()], False),
        ([], False),
        ([Call(name="geo", arguments=call().arguments)], False),
    ],
)
def test_a_call_is_right_when_each_value_is_accepted(calls: list[Call], right: bool) -> None:
    assert bfcl.matches(calls, TRUTH) is right


def test_calls_match_in_any_order_and_each_only_once() -> None:
    truth = [{"f": {"a": [1, 2]}}, {"f": {"a": [1]}}]
    one, two = Call(name="f", arguments={"a": 1}), Call(name="f", arguments={"a": 2})
    assert bfcl.matches([one, two], truth)
    assert bfcl.matches([two, one], truth)
    assert not bfcl.matches([two, two], truth)
    assert bfcl.matches([], [])


def test_types_are_named_as_json_schema_names_them_and_parameters_keep_their_names() -> None:
    parameters = {
        "type": "dict",
        "properties": {"type": {"type": "tuple", "items": {"type": "float"}}, "x": {"type": "any"}},
    }
    (tool,) = bfcl.tools_of({"function": [{"name": "a.b", "description": "", "parameters": parameters}]})
    assert tool.parameters == {
        "type": "object",
        "properties": {"type": {"type": "array", "items": {"type": "number"}}, "x": {}},
    }


def test_a_run_goes_on_where_it_stopped_and_constrained_replies_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, work, told = (
        make_model_folder(tmp_path / "model", template=TOOLS_CHATML),
        tmp_path / "w",
        tmp_path / "t.json",
    )
    function = {
        "name": "a.b",
        "description": "d",
        "parameters": {"type": "dict", "properties": {"n": {"type": "float"}}},
    }
    rows = [
        {
            "id": f"r{n}",
            "question": [[{"role": "user", "content": "Go"}]],
            "function": [function],
            "ground_truth": [{"a.b": {"n": [1]}}],
        }
        for n in range(2)
    ]
    (tmp_path / "simple_python_dev.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr(Catalog, "require", lambda *_: folder)
    arguments = ["bfcl", "--data", str(tmp_path), "--model", "smollm2-135m", "--categories", "simple_python"]
    arguments += ["--tokens", "8", "--work", str(work), "--json", str(told), "--budget", "64MiB"]

    for limit in (1, 2):
        monkeypatch.setattr(sys, "argv", [*arguments, "--limit", str(limit)])
        bfcl.main()
        table = json.loads(told.read_text())["rows"]
        assert [(row["decoding"], row["rows"], row["right"]) for row in table] == [
            ("free", limit, 0),
            ("constrained", limit, 0),
        ]
        assert table[1]["written_twice"] >= 1, "the first row is always written both ways"
        assert len(work.read_text().splitlines()) == 2 * limit
    assert {(one["id"], one["constrained"]) for one in map(json.loads, work.read_text().splitlines())} == {
        (f"r{n}", way) for n in range(2) for way in (True, False)
    }
    assert "saved" not in capsys.readouterr().out
