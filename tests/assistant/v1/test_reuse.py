"""Clients without a memory of their own: what they send again is not read again, through daemon, worker and model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from assistant.places import find_places
from tests.assistant.talk import with_client
from tests.assistant.v1.real import Real, cached, text_of
from tests.conftest import enter_home
from tests.home import make_home
from tests.worker.tiny import TOOLS_CHATML, make_model_folder

DOCUMENT = "Rivers begin in hills and end in the sea, and on their way they pass by towns. " * 6
NOW: Any = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
OPENING = len("<|im_start|>assistant\n")


@pytest.fixture(scope="module")
def home_of_tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An ASSISTANT_HOME with a tiny random model `tiny`, whose tokens are bytes."""
    home, folder = make_home(), make_model_folder(tmp_path_factory.mktemp("tiny"), template=TOOLS_CHATML)
    with (home / "config" / "models.toml").open("a") as catalog:
        catalog.write(f'\n[tiny]\nsource = "file:{folder}"\n')
    settings = 'model = "tiny"\nbudget = "64MiB"\nkv_codec = "lossless"\nthreads = 1\n'
    (home / "config" / "config.toml").write_text(settings)
    yield home
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def running(home_of_tiny: Path) -> Iterator[Real]:
    with Real(find_places({"ASSISTANT_HOME": str(home_of_tiny)}), "tiny", ASSISTANT_HOME=str(home_of_tiny)) as daemon:
        yield daemon


@pytest.fixture
def tiny(running: Real, home_of_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Real:
    """A daemon with the tiny model, for what goes by its own words."""
    enter_home(home_of_tiny, monkeypatch)
    return running


def test_what_was_sent_before_is_not_read_again(tiny: Real) -> None:
    first = tiny.ask(DOCUMENT)
    second = tiny.ask(DOCUMENT, text_of(first), "And hills?")
    assert cached(second) >= first.usage.total_tokens
    assert second.assistant["recomputed_tokens"] == 0
    other = tiny.ask(DOCUMENT, text_of(first), "And seas?")
    assert cached(other) >= first.usage.total_tokens
    assert other.assistant["conversation"] != second.assistant["conversation"]
    again = tiny.ask(DOCUMENT, text_of(first), "And hills?")
    assert text_of(again) == text_of(second)
    assert again.usage.prompt_tokens - cached(again) <= OPENING
    third = tiny.ask(DOCUMENT + "What is a town?")
    assert cached(third) >= len(DOCUMENT), "the same document, another question behind it"


def test_requests_at_once_on_the_same_reply_do_not_meet(tiny: Real) -> None:
    questions = [f"Question number {number}?" for number in range(4)]
    first = tiny.ask("Hello")
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda text: tiny.ask("Hello", text_of(first), text), questions))
    names = [reply.assistant["conversation"] for reply in replies]
    assert len(set(names)) == 4
    for name, question, reply in zip(names, questions, replies, strict=True):
        said = with_client(lambda client, name=name: client.turns(name))
        assert [turn.text for turn in said] == ["Hello", text_of(first), question, text_of(reply)]


def test_a_model_that_knows_nothing_calls_what_it_must_and_answers_as_it_must(tiny: Real) -> None:
    fields: Any = {"max_tokens": 200, "temperature": 1, "extra_body": {"repetition_penalty": 1}}
    called = tiny.ask("Time?", tools=[NOW], tool_choice="required", parallel_tool_calls=False, **fields)
    (call,) = called.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("now", "{}")
    assert called.choices[0].finish_reason == "tool_calls"
    result = {"role": "tool", "tool_call_id": call.id, "content": "noon"}
    told = tiny.ask("Time?", called.choices[0].message.model_dump(), result, tools=[NOW])
    assert cached(told) >= called.usage.total_tokens
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    schema |= {"additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    answer = json.loads(text_of(tiny.ask("Yes?", response_format=form, **fields)))
    assert answer in ({"yes": True}, {"yes": False})


def test_a_restart_costs_nothing_but_what_lies_on_disk(home_of_tiny: Path, tmp_path: Path) -> None:
    home = make_home()
    shutil.copytree(home_of_tiny / "config", home / "config", dirs_exist_ok=True)
    places = find_places({"ASSISTANT_HOME": str(home)})
    with Real(places, "tiny", ASSISTANT_HOME=str(home)) as daemon:
        first = daemon.ask(DOCUMENT)
    with Real(places, "tiny", ASSISTANT_HOME=str(home)) as daemon:
        later = daemon.ask(DOCUMENT, text_of(first), "And hills?")
    assert cached(later) >= first.usage.total_tokens
    assert later.assistant["receipt"]["source"] == "disk"
    shutil.rmtree(home)
