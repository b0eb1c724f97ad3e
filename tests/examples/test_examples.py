"""The examples as a reader runs them: each a process of its own (tools.py: `tests.agent.test_toolbox` and others)."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from assistant.client import Client
from memory.block import CHUNK
from memory.budget import parse_size
from tests.assistant.knocking import Door
from tests.assistant.talk import with_client
from tests.conftest import RunningDaemon
from tests.worker.tiny import WINDOW, make_model_folder

EXAMPLES = Path(__file__).parents[2] / "examples"
MOST_LINES = {"memory_alone.py": 40, "openai_client.py": 30}
TOLD = re.compile(r"(\d+) tokens read, (\d+) resident, (\d+) stored; weights .* = ([\d.]+ MiB)")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, one token a byte."""
    return make_model_folder(tmp_path_factory.mktemp("model"))


def example(name: str, *args: str, text: str = "", **environment: str) -> str:
    """What an example prints."""
    clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    command = [sys.executable, "-P", str(EXAMPLES / name), *args]
    done = subprocess.run(command, env=clean | environment, input=text.encode(), capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def ask(model: Path, budget: str, file: str, question: str, text: str = "") -> tuple[str, tuple[str, ...]]:
    """The answer of memory_alone.py, and the figures of its last line."""
    answer, _, told = example("memory_alone.py", str(model), budget, file, question, text=text)[:-1].rpartition("\n")
    figures = TOLD.fullmatch(told)
    assert figures is not None, told
    return answer, figures.groups()


def test_memory_alone_answers_about_a_text_longer_than_the_window(model: Path, tmp_path: Path) -> None:
    talk = "Anna: we met in Lisbon. Ben: it rained. " * 160
    (tmp_path / "talk.txt").write_text(talk)
    answer, figures = ask(model, "44MiB", str(tmp_path / "talk.txt"), "Where?")
    read, resident, stored = (int(figure) for figure in figures[:3])
    assert answer
    assert read > len(talk) > 3 * WINDOW
    assert resident < WINDOW // 2, "44 MiB are not enough for the whole window"
    assert read - CHUNK < stored <= read + 128
    assert parse_size(figures[3]) <= parse_size("44MiB")


def test_memory_alone_says_what_the_model_says(model: Path) -> None:
    answer, figures = ask(model, "1GiB", "/dev/stdin", "Where?", text="Anna: we met in Lisbon.")
    told = expected(model, "Anna: we met in Lisbon.\n\nWhere?")
    assert answer == told
    assert int(figures[0]) < WINDOW


def expected(model: Path, text: str) -> str:
    """transformers' own greedy answer, attending to everything."""
    tokenizer, own = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    said = [{"role": "user", "content": text}]
    ids = torch.tensor([tokenizer.apply_chat_template(said, add_generation_prompt=True)["input_ids"]])
    whole = own.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=128, do_sample=False)
    found: str = tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
    return found


def test_openai_client_streams_and_has_long_memory(start_daemon: Callable[..., RunningDaemon]) -> None:
    door = Door.of(start_daemon(ASSISTANT_LISTEN="127.0.0.1:0"))
    shown = example("openai_client.py", "fake", OPENAI_BASE_URL=f"{door.url}/v1", OPENAI_API_KEY=door.token)
    assert shown.startswith("You said:\n\n> Say hello in one sentence. ")
    assert "> Where do we fly, and when? " in shown

    async def said(client: Client) -> list[str]:
        return [turn.text for turn in await client.turns("flight") if turn.role == "user"]

    assert with_client(said) == ["We fly to Lisbon on Friday.", "Where do we fly, and when?"]
    first, second = (int(count) for count in re.findall(r"(\d+) of \d+ tokens were reused", shown))
    assert first == 0 < second


@pytest.mark.parametrize("name", MOST_LINES)
def test_an_example_is_short_and_needs_no_more_than_it_says(name: str) -> None:
    text = (EXAMPLES / name).read_text()
    nodes = list(ast.walk(ast.parse(text)))
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    assert len(text.splitlines()) <= MOST_LINES[name]
    assert not {"assistant", "tui"} & {module.partition(".")[0] for module in modules}


def test_every_example_is_run_by_a_test() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*MOST_LINES, "tools.py"}
