"""A step of a program, as the worker takes it: tools in the prompt, a reply that can only be read, taken apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from assistant.orders import WorkerDone, WorkerTurn
from assistant.protocol import Calling, Failed, Sampling, ToolSpec, Written
from assistant.template import prepare_tokenizer
from assistant.worker.calling import CUT_OFF, Caller
from assistant.worker.device import Gauge
from tests.models import DEFAULT, real_model_store
from tests.worker.process import WorkerProcess
from tests.worker.tiny import TOOLS_CHATML, make_model_folder, make_tokenizer

MIB = 1024**2
WEATHER = ToolSpec(
    name="get_weather",
    description="Get the weather of a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
NOW = ToolSpec(name="now", description="Tell the time.", parameters={"type": "object", "properties": {}})
ANSWER = {
    "type": "object",
    "properties": {"yes": {"type": "boolean"}},
    "required": ["yes"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("model"), template=TOOLS_CHATML)


TOKENIZER = make_tokenizer(TOOLS_CHATML)
prepare_tokenizer(TOKENIZER)


def written(text: str, finish: str) -> Written:
    """What a reply of this text is taken apart into; the control tokens in it were not shown."""
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    shown = TOKENIZER.decode(ids, skip_special_tokens=True)
    taken = Caller(TOKENIZER, frozenset([2])).written(Calling(tools=[NOW]), ids, shown, finish)
    assert taken is not None
    return taken


def tool_results(worker: WorkerProcess, *texts: str) -> WorkerDone:
    """The next step of a program: what its calls came to, and the reply to it."""
    worker.turns += [WorkerTurn(id=len(worker.turns) + at, role="tool", text=text) for at, text in enumerate(texts)]
    answer = worker.run(len(worker.turns), Sampling(temperature=0, max_tokens=12))
    assert isinstance(answer, WorkerDone)
    worker.turns.append(WorkerTurn(id=len(worker.turns), role="assistant", text=answer.text))
    worker._record(answer)
    return answer


def test_a_reply_says_what_it_calls_only_when_it_was_asked(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        assert worker.ask("Hello").written is None
        worker.conversation, worker.turns, worker.calling = "d", [], Calling(tools=[WEATHER, NOW])
        done = worker.ask("Hello")
    assert done.written is not None
    assert done.usage.prompt_tokens > 200


def test_a_model_that_knows_nothing_gives_the_answer_that_was_asked_for(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        for seed in range(12):
            worker.calling = Calling(answer=ANSWER)
            done = worker.ask("Yes?", temperature=1.0, top_p=1.0, seed=seed, max_tokens=60, repetition_penalty=1.0)
            assert done.text.replace(" ", "").replace("\n", "") in ('{"yes":true}', '{"yes":false}')
            assert done.written.problems == []
            assert done.finish == "stop"


def test_a_step_after_a_tool_reads_only_the_result(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        worker.calling = Calling(tools=[WEATHER, NOW])
        first = worker.ask("Weather?")
        second = tool_results(worker, "sunny", "12")
        third = tool_results(worker, "rain")
    assert second.usage.cached_tokens == first.usage.stored_tokens
    assert third.usage.cached_tokens == second.usage.stored_tokens
    assert second.usage.recomputed_tokens == third.usage.recomputed_tokens == 0


def test_a_schema_that_cannot_be_followed_ends_the_request_before_anything_is_read(folder: Path) -> None:
    odd = ToolSpec(name="odd_one", description="", parameters={"type": "object", "properties": {"a": {"not": {}}}})
    with WorkerProcess(folder) as worker:
        worker.calling = Calling(tools=[NOW, odd])
        failed = worker.ask("Hello")
        assert isinstance(failed, Failed)
        assert "odd_one" in failed.message
        assert failed.exit_code == 2
        assert worker.prefills == []
        worker.calling = Calling(tools=[NOW, odd], constrained=False)
        assert isinstance(worker.run(5, Sampling(max_tokens=4)), WorkerDone)


def test_a_call_that_the_limit_cut_off_says_so() -> None:
    cut = written('<tool_call>\n{"name": "now", "argu', "length")
    assert cut.calls == []
    assert cut.problems[-1] == CUT_OFF
    assert written("It is", "length").problems == []


def test_control_tokens_around_a_call_are_read_although_they_are_not_shown() -> None:
    taken = written('<|im_start|><tool_call>{"name": "now", "arguments": {}}</tool_call>', "stop")
    assert [call.name for call in taken.calls] == ["now"]
    assert taken.text == "<|im_start|>"


def test_what_a_grammar_takes_counts_as_a_library_and_the_peak_before_it_is_remembered() -> None:
    gauge = Gauge(torch.device("cpu"))
    gauge.loaded(0)
    early = bytearray(MIB * 96)
    del early
    with gauge.libraries():
        grammar = bytearray(b"x" * (64 * MIB))
    assert gauge.current() < 48 * MIB
    assert 80 * MIB < gauge.peak() < 150 * MIB
    later = bytearray(b"x" * (160 * MIB))
    assert gauge.current() > 112 * MIB
    assert gauge.peak() > 150 * MIB
    assert len(grammar) < len(later)


def test_the_real_model_calls_a_tool_and_uses_its_result() -> None:
    with WorkerProcess(real_model_store() / DEFAULT, budget="900MiB", quant="none") as worker:
        worker.calling = Calling(tools=[WEATHER, NOW])
        done = worker.ask("Call get_weather for Lisbon.", max_tokens=80, repetition_penalty=1.0)
        assert done.written.problems == []
        assert [call.name for call in done.written.calls] == ["get_weather"]
        told = tool_results(worker, "Sunny, 23 degrees")
    assert done.written.calls[0].arguments["city"] == "Lisbon"
    assert told.usage.cached_tokens >= done.usage.prompt_tokens
