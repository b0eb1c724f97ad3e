"""A real worker whose model runs on a server: what is sent, what is remembered, what comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assistant.orders import Explain, Forget, KvSpec, Plan, ServerSpec, Status, WorkerTurn
from assistant.protocol import Calling, Failed, Sampling, ToolSpec
from tests.memory.talk import turns as talk
from tests.served.server import DONE, Body, Server, chunk, saying
from tests.worker.process import WorkerProcess
from tests.worker.tiny import make_model_folder

ADD = ToolSpec(
    name="add",
    description="Add.",
    parameters={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
)


def worker_for(server: Server, kv: KvSpec | None = None, **spec: Any) -> WorkerProcess:
    process = WorkerProcess(Path(), budget=None, kv=kv)
    process.spec.path, process.spec.server = "", ServerSpec(**{"url": server.url, "model": "big"} | spec)
    return process


def test_a_conversation_that_fits_goes_there_whole() -> None:
    with Server(saying("Hel", "lo", prompt=20, cached=12)) as server, worker_for(server) as worker:
        first, second = worker.ask("Hi", max_tokens=30), worker.ask("Bye", temperature=0.5, top_k=7)
        status = worker.aside(Status(id="s"))
        planned = worker.aside(Plan(id="p", budget="1GiB"))
    assert (first.text, first.finish, worker.text) == ("Hello", "stop", "Hello")
    usage = second.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.computed_tokens, usage.completion_tokens) == (20, 12, 8, 2)
    assert (usage.mode, usage.peak_bytes) == ("exact", 0)
    assert (usage.resident_tokens, usage.stored_tokens) == (20, 20)
    assert first.token_ids == {}
    asked = server.asked[1]
    assert [(one["role"], one["content"]) for one in asked["messages"]] == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Bye"),
    ]
    assert (asked["model"], asked["stream"], asked["temperature"], asked["top_k"]) == ("big", True, 0.5, 7)
    assert server.asked[0]["max_tokens"] == 30
    assert "top_k" not in server.asked[0], "what nobody chose is the server's to know"
    assert (status.model, status.memory.where) == ("tiny", "on a server")
    assert "a budget here is not for it" in planned.message


def test_calls_are_checked_and_their_results_are_sent_as_such() -> None:
    def script(body: Body) -> Iterator[str]:
        if len(body["messages"]) > 1:
            yield chunk("stop", content="5")
        else:
            yield chunk(tool_calls=[{"index": 0, "function": {"name": "add", "arguments": '{"a": 5}'}}])
            yield chunk(tool_calls=[{"index": 1, "function": {"name": "add", "arguments": '{"a": "x"'}}])
        yield DONE

    with Server(script) as server, worker_for(server) as worker:
        worker.calling = Calling(tools=[ADD], one=True)
        asked = worker.ask("Go")
        assert asked.written.calls[0].arguments == {"a": 5}
        assert len(asked.written.problems) == 1, "half a call is told to the model"
        worker.turns.append(WorkerTurn(id=2, role="tool", text="5"))
        worker.turns.append(WorkerTurn(id=3, role="tool", text=asked.written.problems[0]))
        done = worker.run(4, Sampling(temperature=0, max_tokens=9))
    body = server.asked[0]
    assert body["tools"][0]["function"]["name"] == "add"
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("auto", False)
    assert [one["role"] for one in server.asked[1]["messages"]] == ["user", "assistant", "tool", "user"]
    assert (done.text, done.written.text, done.written.calls) == ("5", "5", [])


def test_what_does_not_fit_is_recalled_with_its_date(tmp_path: Path) -> None:
    kv = KvSpec(folder=str(tmp_path / "kv"), disk=2**30, reserve=0)
    with Server(saying("In the park.")) as server, worker_for(server, kv, context=700) as worker:
        worker.read([f"[3 May 2023]\n{turn.speaker}: {turn.text}" for turn in talk(["dogs", "money"] * 6)])
        done = worker.ask("Where did my dog chase the ball?")
        switched = worker.ask("When is my mortgage payment to the bank due?")
    question = server.asked[0]["messages"][-1]["content"]
    earlier, _, asked = question.partition("End of what was said earlier.")
    assert "[3 May 2023]" in earlier
    assert "dog" in earlier
    assert "Where did my dog chase the ball?" in asked
    assert sum(len(one["content"]) for one in server.asked[0]["messages"]) < 700 * 3
    assert done.usage.mode == "recall"
    assert done.usage.recalled_tokens > 0
    assert done.usage.stored_tokens > done.usage.resident_tokens
    assert done.usage.episode is not None
    assert switched.usage.episode != done.usage.episode


def test_an_agent_step_keeps_what_was_recalled_for_its_question(tmp_path: Path) -> None:
    def script(body: Body) -> Iterator[str]:
        name = "Done." if body["messages"][-1]["role"] == "tool" else None
        call = {"index": 0, "function": {"name": "add", "arguments": '{"a": 5}'}}
        yield chunk("stop", content=name) if name else chunk(tool_calls=[call])
        yield DONE

    kv = KvSpec(folder=str(tmp_path / "kv"), disk=2**30, reserve=0)
    with Server(script) as server, worker_for(server, kv, context=700) as worker:
        worker.read([f"[3 May 2023]\n{turn.speaker}: {turn.text}" for turn in talk(["dogs", "money"] * 6)])
        worker.calling = Calling(tools=[ADD])
        worker.ask("Where did my dog chase the ball?", max_tokens=100)
        worker.turns.append(WorkerTurn(id=len(worker.turns), role="tool", text="5"))
        done = worker.run(len(worker.turns), Sampling(temperature=0, max_tokens=100))
    first, second = ([one["content"] for one in body["messages"] if one["role"] == "user"] for body in server.asked)
    assert (done.text, done.usage.mode) == ("Done.", "recall")
    assert "[3 May 2023]" in first[-1]
    assert "[3 May 2023]" in second[-1]


def test_thoughts_call_nothing_and_are_no_part_of_an_answer() -> None:
    marked = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'

    def script(body: Body) -> Iterator[str]:
        yield chunk(reasoning_content=f"Perhaps {marked}?")
        yield chunk("stop", content='{"a": 1}' if "response_format" in body else "No.")
        yield DONE

    with Server(script) as server, worker_for(server) as worker:
        worker.calling = Calling(tools=[ADD])
        done = worker.ask("Go")
        assert (done.written.calls, done.written.problems) == ([], [])
        assert done.written.text == done.text == f"<think>Perhaps {marked}?</think>\n\nNo."
        worker.calling = Calling(answer=ADD.parameters)
        answer = worker.ask("Go")
        assert (answer.text, answer.written.problems) == ('{"a": 1}', [])


def test_a_reply_takes_half_of_the_context_at_most() -> None:
    with Server(saying("x")) as server, worker_for(server, context=1000) as worker:
        worker.ask("Hi", max_tokens=3000)
        worker.ask("Hi", max_tokens=300)
    assert [body["max_tokens"] for body in server.asked] == [500, 300]


def test_a_short_prompt_says_nothing_about_how_long_a_text_may_be() -> None:
    """Its count is mostly what the template adds; a text that fits is sent after it all the same."""
    with Server(saying("x", prompt=60)) as server, worker_for(server) as worker:
        worker.ask("Hi")
        assert worker.ask("word " * 1500).text == "x"
        server.script = saying("x", prompt=10)
        worker.ask("So?")
        assert worker.ask("word " * 8000).exit_code == 5, "nor does a count that cannot be, of a long one"


def test_a_server_that_counts_more_is_sent_less_and_that_is_said() -> None:
    def script(body: Body) -> Any:
        size = sum(len(one["content"]) for one in body["messages"])
        if size > 1500:
            return 400, {"error": {"message": "too long", "code": "context_length_exceeded"}}
        return saying("Fine.")(body)

    with Server(script) as server, worker_for(server, context=2000) as worker:
        worker.turns = [WorkerTurn(id=at, role=("user", "assistant")[at % 2], text="x" * 200) for at in range(20)]  # type: ignore[arg-type]
        done = worker.ask("So?")
        notices = [event.text for event in worker.events if event.event == "notice"]
    assert done.text == "Fine."
    assert done.usage.mode == "bounded"
    assert len(server.asked) == len(notices) + 1 >= 2
    assert all("half of the history" in text for text in notices)


def test_a_question_that_is_too_long_is_refused_with_the_numbers() -> None:
    with Server(saying("x")) as server, worker_for(server, context=100) as worker:
        failed = worker.ask("word " * 500)
    assert isinstance(failed, Failed)
    assert failed.exit_code == 5
    assert failed.too_long is not None
    assert failed.too_long.needed > failed.too_long.limit
    assert server.asked == []


def test_a_server_that_says_little_is_asked_for_its_model_once() -> None:
    with Server(saying("x", prompt=None), {"id": "only"}) as server, worker_for(server, model="") as worker:
        done = worker.ask("Hi")
        told = [event.text for event in worker.events if event.event == "notice"]
        worker.ask("Again")
        again = [event.text for event in worker.events if event.event == "notice"]
    assert [body["model"] for body in server.asked] == ["only", "only"]
    assert ["8,192 tokens are assumed" in text for text in told] == [True]
    assert again == []
    assert done.usage.prompt_tokens > 0, "estimated"


def test_cancelled_the_server_is_left_at_once_and_the_text_stays() -> None:
    going = threading.Event()

    def script(body: Body) -> Iterator[str]:
        yield chunk(content="one ")
        while not going.wait(0.01):
            yield chunk(content="more ")

    with Server(script) as server, worker_for(server) as worker:
        done = worker.ask("Hi", watch=lambda event: worker.cancel() if event.event == "piece" else None)
        assert done.finish == "cancelled"
        assert done.text.startswith("one ")
        assert server.left.wait(10), "the connection is closed"
        going.set()
        server.script = saying("still here")
        assert worker.ask("And now?").text == "still here"


def test_from_a_server_to_a_model_here_and_back(tmp_path: Path) -> None:
    """One conversation on two engines; forgetting it removes its episodes whoever noted them."""
    kv = KvSpec(folder=str(tmp_path / "kv"), disk=2**30, reserve=0)
    with Server(saying("From there.")) as server, worker_for(server, kv) as worker:
        there = worker.spec
        worker.ask("Hi")
        here = there.model_copy(update={"path": str(make_model_folder(tmp_path / "tiny")), "server": None})
        worker.spec = here.model_copy(update={"budget": "64MiB"})
        local = worker.ask("And you?", max_tokens=4)
        assert local.usage.budget_bytes == 64 * 2**20
        worker.spec = there
        assert worker.ask("Back?").text == "From there."
        assert worker.aside(Status(id="s")).memory.weights == 0, "the model was let go of"
        forgotten = worker.aside(Forget(id="f", folder=kv.folder, conversation="c"))
        assert forgotten.event == "forgotten"
        left = worker.aside(Explain(id="e", folder=kv.folder, conversation="c")).episodes
        assert (left.segments, left.routes) == ([], [])
    assert [one["content"] for one in server.asked[1]["messages"]] == [
        "Hi",
        "From there.",
        "And you?",
        local.text,
        "Back?",
    ]


def test_an_answer_that_must_follow_a_schema() -> None:
    answer = ADD.parameters
    with Server(saying('{"a": 1}')) as server, worker_for(server) as worker:
        worker.calling = Calling(answer=answer)
        assert worker.ask("Go").written.problems == []
        server.script = saying('{"b": 1}')
        assert worker.ask("Go").written.problems != []
    assert server.asked[0]["response_format"]["json_schema"]["schema"] == answer
    assert "tools" not in server.asked[0]
