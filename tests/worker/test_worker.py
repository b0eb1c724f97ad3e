"""The worker as the daemon sees it: a real process with a tiny model in a real folder."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest

from assistant.orders import (
    Cancel,
    Check,
    Explain,
    Forget,
    KvSpec,
    ModelSpec,
    Plan,
    Run,
    Status,
    WorkerDone,
    WorkerTurn,
)
from assistant.protocol import Failed, Layers, Piece, Sampling, Usage
from memory.episode_view import NEW_QUESTION
from memory.layers import ALLOCATORS
from memory.policy import POLICIES
from memory.stored import stored_tokens
from tests.worker.process import WorkerProcess
from tests.worker.tiny import WINDOW

FEW_ENTRIES = "41MiB"
"""A budget in which the tiny model's layers hold less than its window."""


def status_at_rest(worker: WorkerProcess, kv: Path) -> tuple[Any, int]:
    """The worker's status and the bytes under `kv`, from a moment when nothing was written between the two: after a
    turn the worker goes on embedding and preparing what the next ones may need."""
    while True:
        with suppress(FileNotFoundError):
            before, held, after = on_disk(kv), worker.aside(Status(id="s")), on_disk(kv)
            if before == after:
                return held, after


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_cancel_that_comes_while_its_request_still_waits_counts(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        sampling = Sampling(temperature=0.0, max_tokens=60)
        for request in ("first", "second"):
            turns = [WorkerTurn(id=0, role="user", text=f"Hello {request}")]
            run = Run(id=request, spec=worker.spec, conversation=request, turns=turns, reply_id=1, sampling=sampling)
            worker.send(run.model_dump_json())
        worker.send(Cancel(id="second").model_dump_json())
        ends = list[str]()
        while len(ends) < 2:
            if isinstance(event := worker.receive(), WorkerDone):
                ends.append(event.finish)
        assert ends[0] in ("length", "stop")
        assert ends[1] == "cancelled"


def test_pieces_add_up_to_the_reply_and_the_usage_record_is_whole(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        done = worker.ask("Hello", max_tokens=20)

        assert isinstance(done, WorkerDone)
        assert worker.text == done.text
        usage = done.usage
        assert set(usage.model_dump()) == set(Usage.model_fields)
        recorded = sum(len(ids) for ids in done.token_ids.values())
        assert usage.computed_tokens == usage.prompt_tokens == recorded - usage.completion_tokens
        assert usage.cached_tokens == usage.recomputed_tokens == 0
        assert usage.stored_tokens == usage.prompt_tokens + usage.completion_tokens
        assert 0 < usage.peak_bytes <= usage.budget_bytes == 64 * 1024**2
        assert usage.mode == "exact"
        assert usage.ttft_s > 0


def test_the_next_turn_reads_only_what_is_new(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        first = worker.ask("Hello")
        second = worker.ask("Again")

    assert second.usage.cached_tokens == first.usage.stored_tokens
    assert second.usage.recomputed_tokens == 0
    assert second.usage.recompute_reason is None


def test_a_new_worker_reads_nothing_twice(folder: Path, tmp_path: Path) -> None:
    hello = "Hello, my name is Ada and I like rivers, maps and old radios."
    other, kv = (KvSpec(folder=str(tmp_path / name), codec="lossless", disk=2**30, reserve=0) for name in ("o", "kv"))
    with WorkerProcess(folder, kv=other) as worker:
        worker.ask(hello)
        uninterrupted = worker.ask("Again", max_tokens=20)
    with WorkerProcess(folder, kv=kv) as worker:
        first = worker.ask(hello)
        turns = worker.turns
    with WorkerProcess(folder, kv=kv) as worker:
        worker.turns = turns
        done = worker.ask("Again", max_tokens=20)
        held, bytes_there = status_at_rest(worker, tmp_path / "kv")

    assert done.text == uninterrupted.text
    assert done.usage.cached_tokens == first.usage.stored_tokens
    assert done.usage.computed_tokens == done.usage.prompt_tokens - first.usage.stored_tokens
    assert done.usage.receipt.source == "disk"
    assert done.usage.receipt.sentence().endswith(f": {first.usage.stored_tokens} tokens reused, 0 recomputed")
    assert [event.receipt.reused for event in worker.events if event.event == "resumed"] == [first.usage.stored_tokens]
    assert held.kv.disk.total == bytes_there
    assert held.kv.disk.gap == 0
    assert held.kv.sets[0].tokens == done.usage.stored_tokens


def test_another_codec_is_another_fingerprint_and_the_field_is_named(folder: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "kv")
    with WorkerProcess(folder, kv=KvSpec(folder=path, codec="lossless", disk=2**30, reserve=0)) as worker:
        worker.ask("Hello")
        turns = worker.turns
    with WorkerProcess(folder, kv=KvSpec(folder=path, codec="int8", disk=2**30, reserve=0)) as worker:
        worker.turns = turns
        done = worker.ask("Again")

    assert done.usage.cached_tokens == 0
    assert done.usage.recompute_reason == "what is stored was made with another codec"
    assert done.usage.receipt.recompute_s > 0


def test_forgetting_removes_the_files_while_the_worker_lives(folder: Path, tmp_path: Path) -> None:
    kv = KvSpec(folder=str(tmp_path / "kv"), disk=2**30, reserve=0)
    with WorkerProcess(folder, kv=kv) as worker:
        worker.ask("Hello, my name is Ada and I like rivers, maps and old radios.")
        assert list((tmp_path / "kv").rglob("*.kv"))
        assert worker.aside(Forget(id="f", folder=kv.folder, conversation="c")).event == "forgotten"
        assert not (tmp_path / "kv" / "c").exists()
        checked = worker.aside(Check(id="k", folder=kv.folder)).report
        assert (checked.rows_ok, checked.rows_bad, checked.problems) == (0, 0, [])


def test_a_full_disk_is_said_once_and_the_chat_goes_on(folder: Path, tmp_path: Path) -> None:
    kv = KvSpec(folder=str(tmp_path / "kv"), disk=1000, reserve=0)
    with WorkerProcess(folder, kv=kv) as worker:
        said = list[str]()
        for _ in range(3):
            done = worker.ask("Hello, my name is Ada and I like rivers, maps and old radios." * 3)
            assert done.event == "worker_done"
            said += [event.text for event in worker.events if event.event == "notice"]
        assert worker.aside(Status(id="s")).kv.spilling is False
    assert len(said) == 1
    assert "not being written to disk" in said[0]


def test_without_tiers_a_new_worker_reads_again_and_says_so(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        worker.ask("Hello")
        turns = worker.turns
    with WorkerProcess(folder) as worker:
        worker.turns = turns
        done = worker.ask("Again")

    assert done.usage.cached_tokens == 0
    assert done.usage.recomputed_tokens > 10
    assert "nothing is kept on disk" in done.usage.recompute_reason


def test_a_conversation_after_another_is_not_answered_from_its_memory(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        alone = worker.ask("What is my name?").text
    with WorkerProcess(folder) as worker:
        worker.ask("My name is Ada. " * 20)
        worker.turns = []
        assert worker.ask("What is my name?").text == alone


def test_greedy_replies_do_not_depend_on_how_the_conversation_was_read(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        worker.ask("Hello")
        going_on = worker.ask("Again").text
        turns = worker.turns[:3]
    with WorkerProcess(folder, block=16) as worker:
        worker.turns = turns[:2]
        assert worker.ask("Again").text == going_on


def test_stopping_keeps_what_was_written(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        done = worker.ask("Hello", lambda event: worker.cancel() if isinstance(event, Piece) else None, max_tokens=1500)
        assert done.finish == "cancelled"
        assert 0 < done.usage.completion_tokens < 1500
        assert worker.text == done.text
        assert worker.ask("Go on").usage.cached_tokens > 0


def test_stopping_while_reading_keeps_what_was_read(folder: Path) -> None:
    def stop(event: Any) -> None:
        if event.event == "prefill":
            worker.cancel()

    with WorkerProcess(folder, block=16) as worker:
        done = worker.ask("x" * 1200, stop)
        assert done.finish == "cancelled"
        assert done.text == ""
        read = worker.prefills[-1].done
        worker.turns.pop()
        worker.turns[-1].token_ids = None
        assert worker.run(5, None).usage.cached_tokens == read


def test_progress_of_reading_counts_every_token_once(folder: Path) -> None:
    with WorkerProcess(folder, block=64) as worker:
        usage = worker.ask("y" * 500).usage
        counts = [event.done for event in worker.prefills]
        assert counts == sorted(set(counts))
        assert counts[-1] == worker.prefills[-1].total == usage.computed_tokens


def test_a_conversation_far_past_the_window_goes_on(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        lines = [f"Ann: line {number} of a long talk about nothing in particular" for number in range(150)]
        imported = worker.read(lines)
        asked = worker.ask("What was it about?", max_tokens=300)

    assert imported.finish == "read"
    assert imported.usage.stored_tokens == imported.usage.prompt_tokens > 3 * WINDOW
    assert imported.usage.resident_tokens < WINDOW
    assert imported.usage.mode == "bounded"
    assert asked.usage.cached_tokens == imported.usage.stored_tokens
    assert asked.usage.peak_bytes <= asked.usage.budget_bytes


def test_all_turns_of_an_import_get_their_ids(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        done = worker.read(["Ann: hi", "Bob: hello", "Ann: bye"])
    assert sorted(done.token_ids) == [0, 1, 2]
    assert sum(map(len, done.token_ids.values())) == done.usage.stored_tokens


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_can_be_chosen(folder: Path, policy: str) -> None:
    with WorkerProcess(folder, policy=policy) as worker:
        assert isinstance(worker.ask("z" * 3000), WorkerDone)


def test_another_budget_is_obeyed_from_the_next_turn_on(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        worker.ask("Hello")
        worker.spec = worker.spec.model_copy(update={"budget": "32MiB"})
        usage = worker.ask("Again").usage
    assert usage.budget_bytes == 32 * 1024**2
    assert usage.recomputed_tokens > 0


@pytest.mark.parametrize("spill", [False, True])
def test_a_budget_too_small_shows_the_sum_and_one_that_works(folder: Path, spill: bool, tmp_path: Path) -> None:
    kv = KvSpec(folder=str(tmp_path / "kv"), disk=2**30, reserve=0) if spill else None
    with WorkerProcess(folder, budget="200KiB", quant="none", kv=kv) as worker:
        failed = worker.ask("Hello")
        assert isinstance(failed, Failed)
        assert failed.exit_code == 5
        assert "weights" in failed.message
        smallest = failed.message.split("smallest budget that works is ")[1].split(".")[0].replace(" ", "")
        worker.spec = worker.spec.model_copy(update={"budget": smallest})
        worker.turns = []
        assert isinstance(worker.ask("Hello"), WorkerDone)


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        ({"budget": "plenty"}, 2, "900MiB"),
        ({"policy": "forget_all"}, 2, "sinks_recent"),
        ({"path": "/nowhere"}, 6, "assistant models pull tiny"),
    ],
)
def test_what_cannot_be_loaded_says_why(folder: Path, change: dict[str, str], code: int, word: str) -> None:
    with WorkerProcess(folder) as worker:
        worker.spec = ModelSpec.model_validate(worker.spec.model_dump() | change)
        failed = worker.ask("Hello")
        assert (failed.event, failed.exit_code) == ("error", code)
        assert word in failed.message


def test_damaged_weights_are_a_sentence_and_the_worker_lives_on(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with WorkerProcess(broken) as worker:
        failed = worker.ask("Hello")
        assert failed.exit_code == 6
        assert "assistant models rm tiny" in failed.message
        worker.spec = worker.spec.model_copy(update={"path": str(folder)})
        worker.turns = []
        assert isinstance(worker.ask("Hello"), WorkerDone)


def test_lines_that_are_no_request_are_ignored(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        worker.send("not json")
        worker.send(json.dumps({"op": "run", "id": "1", "temperature": 1e999}))
        assert isinstance(worker.ask("Hello"), WorkerDone)


def test_the_worker_ends_with_its_input_even_while_it_writes(folder: Path) -> None:
    with WorkerProcess(folder) as worker:
        worker.ask("Hello")
        request = {"temperature": 0.0, "max_tokens": 1500}
        worker.send(
            json.dumps(
                {
                    "op": "run",
                    "id": "2",
                    "spec": worker.spec.model_dump(),
                    "conversation": "c",
                    "turns": [turn.model_dump() for turn in worker.turns[:1]],
                    "reply_id": 9,
                    "sampling": request,
                }
            )
        )
        worker.receive()
        worker.process.stdin.close()
        assert worker.process.wait(timeout=20) == 0


@pytest.mark.parametrize("name", ALLOCATORS)
def test_layers_get_what_the_allocation_says_and_a_model_is_measured_once(
    name: str, folder: Path, tmp_path: Path
) -> None:
    kv = KvSpec(folder=str(tmp_path / "kv"), disk=2**30, reserve=0)
    kept = list[dict[Path, int]]()
    for _ in range(2):
        with WorkerProcess(folder, kv=kv, layers=name, alpha=1.0, budget=FEW_ENTRIES, block=32) as worker:
            done = worker.ask("Hello")
            held = worker.aside(Status(id="1")).kv.layers
        assert (len(set(held)) > 1) == (name in ("pyramid", "sensitivity")), "a quarter of two layers is none"
        assert sum(held) in (0, 2 * done.memory.capacity_tokens)
        assert done.usage.peak_bytes <= done.usage.budget_bytes
        kept.append({path: path.stat().st_mtime_ns for path in (tmp_path / "kv").glob("layers-*")})
    assert len(kept[0]) == ALLOCATORS[name].profiled
    assert kept[0] == kept[1]


def test_a_budget_without_room_for_measuring_is_refused_with_the_sum(folder: Path) -> None:
    with WorkerProcess(folder, layers="sensitivity", budget="18MiB") as worker:
        failed = worker.ask("Hello")
    assert isinstance(failed, Failed)
    assert failed.exit_code == 5
    assert "Measuring the layers of tiny" in failed.message
    assert "layers = uniform" in failed.message


def test_the_words_of_the_setting_are_the_allocators() -> None:
    assert get_args(Layers) == tuple(ALLOCATORS)


def test_a_plan_is_the_one_that_loading_then_makes(folder: Path, tmp_path: Path) -> None:
    kv = KvSpec(folder=str(tmp_path), disk=2**30)
    with WorkerProcess(folder, kv=kv, quant="none") as worker:
        assert worker.aside(Plan(id="p", budget="48MiB")).memory.budget == 0, "nothing is known before one is loaded"
        worker.ask("Hello")
        planned = worker.aside(Plan(id="p", budget=FEW_ENTRIES)).memory
        before = worker.aside(Status(id="s")).memory
        assert before.budget == 64 * 1024**2
        refused = worker.aside(Plan(id="p", budget="1MiB"))
        assert refused.exit_code == 5
        assert "The smallest budget that works is" in refused.message
        worker.spec = worker.spec.model_copy(update={"budget": FEW_ENTRIES})
        worker.ask("And now?")
        after = worker.aside(Status(id="s")).memory
    measured = {"peak", "resident_tokens", "stored_tokens"}
    assert planned.model_dump(exclude=measured) == after.model_dump(exclude=measured)
    assert 0 < after.working_set_tokens < after.capacity_tokens < before.capacity_tokens


def test_what_is_outside_of_the_budget_makes_up_the_process(folder: Path, tmp_path: Path) -> None:
    kv = KvSpec(folder=str(tmp_path), disk=2**30)
    with WorkerProcess(folder, kv=kv) as worker:
        worker.ask("Hello there, and a little more than that so that some rows are sealed." * 3)
        status = worker.aside(Status(id="s")).kv
        resident = worker.status_bytes("VmRSS")
        outside = status.outside
        assert abs(outside.seen - resident) < 8 * 1024**2
        assert abs(outside.seen - status.device.total - sum(outside.parts.values())) < 8 * 1024**2
        assert outside.capacity > outside.seen
        assert status.device.conversations == {"c": status.sets[0].bytes}
        assert set(status.disk.conversations) == {"c"}
        assert 0 < status.disk.conversations["c"] <= status.disk.total
        assert status.row_bytes > 0


def test_explain_says_how_much_is_stored(folder: Path, tmp_path: Path) -> None:
    kv = KvSpec(folder=str(tmp_path), disk=2**30)
    with WorkerProcess(folder, kv=kv) as worker:
        done = worker.ask("Hello there, and a little more than that so that some rows are sealed." * 3)
        worker.conversation, worker.turns = "d", []
        worker.ask("Hello")  # its beginning is looked for once all of the other is written
        told = worker.aside(Explain(id="e", folder=str(tmp_path), conversation="c")).episodes
        nobody = worker.aside(Explain(id="e", folder=str(tmp_path), conversation="other")).episodes
    assert told.stored == done.usage.stored_tokens
    assert nobody.stored == 0
    assert told.threshold == NEW_QUESTION
    assert stored_tokens(tmp_path, "c") == told.stored
    assert stored_tokens(tmp_path, "c", bytes(32)) == 0, "of another model nothing is stored"
