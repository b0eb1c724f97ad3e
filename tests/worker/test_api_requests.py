"""What the API asks of the worker: logprobs, rows of other conversations, embeddings, how much too long a text is."""

from __future__ import annotations

import math
from pathlib import Path

from assistant.orders import Embed, Embedded, KvSpec, Run, WorkerDone, WorkerTurn
from assistant.protocol import Failed, Sampling
from tests.worker.process import WorkerProcess

DOCUMENT = "Rivers begin in hills and end in the sea, and on their way they pass by towns. " * 8


def run(worker: WorkerProcess, conversation: str, text: str, **fields: object) -> WorkerDone:
    """Ask in a conversation of its own."""
    request = Run(
        id="1",
        spec=worker.spec,
        conversation=conversation,
        turns=[WorkerTurn(id=1, role="user", text=text)],
        reply_id=2,
        sampling=Sampling(temperature=0, max_tokens=12),
        **fields,  # type: ignore[arg-type]
    )
    worker.send(request.model_dump_json())
    worker.events = []
    while not isinstance(event := worker.receive(), WorkerDone | Failed):
        worker.events.append(event)
    assert isinstance(event, WorkerDone), event
    return event


def test_every_token_has_its_logprob_and_the_likeliest_ones(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        plain = run(worker, "a", "Hello")
        assert {event.logprobs for event in worker.events if event.event == "piece"} == {None}
        done = run(worker, "b", "Hello", logprobs=3)
        told = [one for event in worker.events if event.event == "piece" for one in event.logprobs]
        none = run(worker, "c", "Hello", logprobs=0)
        assert all(not one.top for event in worker.events if event.event == "piece" for one in event.logprobs)
    assert done.text == plain.text == none.text
    assert "".join(one.token for one in told) == done.text
    for one in told:
        assert [top.logprob for top in one.top] == sorted((top.logprob for top in one.top), reverse=True)
        assert len(one.top) == 3
        assert one.logprob <= one.top[0].logprob < 0
        assert sum(math.exp(top.logprob) for top in one.top) <= 1.0001


def test_a_document_of_another_conversation_is_not_read_again(folder: Path, tmp_path: Path) -> None:
    kv = KvSpec(folder=str(tmp_path / "kv"), codec="lossless", disk=2**30, reserve=0)
    with WorkerProcess(folder, kv=kv) as worker:
        run(worker, "one", DOCUMENT + "What is a river?", share=True)
        shared = run(worker, "two", DOCUMENT + "Where does it end?", share=True)
        alone = run(worker, "three", DOCUMENT + "Where does it end?")
        later = run(worker, "four", DOCUMENT + "And a hill?", share=True)
    for usage in (shared.usage, later.usage):
        assert len(DOCUMENT) <= usage.cached_tokens <= len(DOCUMENT) + len("<|im_start|>user\n")
    assert shared.usage.receipt is None, "the conversation itself was never read before"
    assert alone.usage.cached_tokens == 0
    assert alone.text == shared.text


def test_texts_are_embedded_with_and_without_a_model(folder: Path) -> None:
    texts = ["A river in the hills", "A stream among mountains", "The price of copper"]
    with WorkerProcess(folder, budget="400MiB") as worker:
        before = worker.aside(Embed(id="e", texts=texts))
        run(worker, "c", "Hello")
        after = worker.aside(Embed(id="f", texts=texts))
        long = worker.aside(Embed(id="g", texts=["fine", "word " * 300]))
    assert isinstance(before, Embedded)
    assert isinstance(after, Embedded)
    river, stream, copper = before.vectors
    assert [len(vector) for vector in after.vectors] == [384] * 3
    assert math.isclose(sum(map(math.prod, zip(river, after.vectors[0], strict=True))), 1, abs_tol=1e-4)
    near, far = (sum(map(math.prod, zip(river, other, strict=True))) for other in (stream, copper))
    assert near > far + 0.3
    assert before.tokens == after.tokens > 12
    assert isinstance(long, Failed)
    assert long.too_long is not None
    assert (long.too_long.needed, long.too_long.limit) == (300, 254)
    assert "46 too many" in long.message


def test_a_budget_without_room_for_embeddings_says_so(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        run(worker, "c", "Hello")
        failed = worker.aside(Embed(id="e", texts=["hello"]))
    assert isinstance(failed, Failed)
    assert failed.exit_code == 5
    assert "too much of this budget" in failed.message


def test_a_system_prompt_that_does_not_fit_says_its_numbers(folder: Path) -> None:
    with WorkerProcess(folder, budget="47MiB") as worker:
        worker.turns = [WorkerTurn(id=0, role="system", text="Be kind. " * 400)]
        failed = worker.ask("Hello")
        assert worker.prefills == [], "nothing was read for nothing"
    assert isinstance(failed, Failed)
    assert failed.exit_code == 5
    assert failed.too_long is not None
    needed, limit = failed.too_long.needed, failed.too_long.limit
    assert needed > limit > 0
    assert f"{needed - limit} too many" in failed.message
