"""Simon Willison's `llm` with an OpenAI-compatible entry: prompts, conversations and tools, unmodified."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assistant.places import find_places
from tests.assistant.v1.forward import forwarded
from tests.conftest import RunningDaemon

ENTRIES = """
- model_id: ours
  model_name: fake
  api_base: http://127.0.0.1:{port}/v1
  supports_tools: true
  supports_schema: true
- model_id: ours-responses
  model_name: fake
  api_base: http://127.0.0.1:{port}/v1
  responses: true
"""
WEATHER = "def weather(town: str) -> str:\n    'The weather of a town.'\n    return f'wet in {town}'"
Llm = Callable[..., str]


@pytest.fixture
def llm(shared_daemon: RunningDaemon, tmp_path: Path) -> Iterator[Llm]:
    """Run `llm` with these arguments; what it prints."""
    with forwarded(find_places().socket) as port:
        (tmp_path / "extra-openai-models.yaml").write_text(ENTRIES.format(port=port))
        program = (str(Path(sys.executable).with_name("llm")),)
        environment = os.environ | {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"}

        def run(*arguments: str) -> str:
            done = subprocess.run(
                program + arguments, env=environment, capture_output=True, text=True, check=False, timeout=60
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        yield run


@pytest.mark.parametrize("model", ["ours", "ours-responses"])
def test_a_conversation(llm: Llm, model: str) -> None:
    assert "> hello" in llm("-m", model, "hello from llm")
    told = json.loads(llm("-c", "turns"))
    assert [turn[0] for turn in told] == ["user", "assistant", "user"]
    assert told[0][1:] == ["hello from llm", True]
    assert "> still" in llm("-c", "--no-stream", "still there?")


def test_a_tool_is_run_by_it(llm: Llm) -> None:
    script = 'Rain?\nmark Let me see. | weather {"town": "Oslo"}\nturns'
    said, _, told = llm("-m", "ours", "--functions", WEATHER, script).partition("[")
    assert said.strip() == "Let me see."
    turns = json.loads(f"[{told}")
    assert [turn[0] for turn in turns] == ["user", "assistant", "tool"]
    assert [turn[2] for turn in turns] == [True, True, False], "its own words are recognised"
    assert turns[2][1] == "wet in Oslo"


def test_a_schema(llm: Llm) -> None:
    told = json.loads(llm("-m", "ours", "--schema", "yes bool", "x\ncalling"))
    assert told["answer"]["properties"] == {"yes": {"type": "boolean"}}
