"""Forecast, ledger and plan: what they say of usage records, and that an estimate is called one."""

from __future__ import annotations

from assistant.protocol import Receipt, Turn
from assistant.reports import MemorySplit
from assistant.views.forecast import forecast
from assistant.views.ledger import counted, hit_rate, ledger
from assistant.views.plan import compare, consequence
from tests.assistant.views.made import turn, usage

PLAN = MemorySplit(budget=1000, weights=400, kv=300, capacity_tokens=1200, working_set_tokens=1000, quant="none")


def replies(*sizes: tuple[int, int]) -> list[Turn]:
    """(tokens read and written, resident afterwards), one reply each."""
    found, stored = list[Turn](), 0
    for number, (size, resident) in enumerate(sizes, 1):
        stored += size
        record = usage(computed_tokens=size - 20, stored_tokens=stored, resident_tokens=resident)
        found.append(turn(2 * number, number, usage=record))
    return found


def test_turns_until_older_ones_leave() -> None:
    told = forecast(replies((100, 100), (200, 300), (150, 450)), PLAN)
    assert (told.turns, told.per_turn, told.sample, told.expected, told.last) == (3, 150.0, 3, 150.0, 150)
    assert told.sentence() == (
        "About 3 turns until older turns leave the working set (an estimate, from 3 turns of 150 tokens; "
        "the last took 150 where 150 were expected)."
    )


def test_one_reply_is_enough_and_says_so() -> None:
    told = forecast(replies((300, 300)), PLAN)
    assert told.sentence() == (
        "About 2 turns until older turns leave the working set (an estimate, from 1 turn of 300 tokens)."
    )
    assert forecast(replies((900, 900)), PLAN).sentence().startswith("Less than a turn until")


def test_once_older_turns_have_left_it_says_where_they_are() -> None:
    told = forecast(replies((900, 900), (600, 1000)), PLAN)
    assert (told.turns, told.resident, told.stored) == (0, 1000, 1500)
    assert told.sentence().startswith("Older turns have left the working set: 1,000 of 1,500 tokens are resident.")


def test_an_import_and_what_was_read_again_are_no_turns_that_took_tokens() -> None:
    first = turn(1, usage=usage(computed_tokens=5000, completion_tokens=0, stored_tokens=500, resident_tokens=500))
    record = usage(computed_tokens=580, recomputed_tokens=500, stored_tokens=600, resident_tokens=600)
    assert forecast([first, turn(2, usage=record)], PLAN).per_turn == 100


def test_what_nobody_can_say_is_said_to_be_so() -> None:
    for told in (forecast([], PLAN), forecast([turn(1)], PLAN), forecast(replies((10, 10)), MemorySplit())):
        assert told.turns is None
        assert told.sentence().startswith("No forecast yet")


def test_the_ledger_says_what_left_came_back_and_was_read_again() -> None:
    receipt = Receipt(
        seconds=0.31, reused=1200, recomputed=90, source="disk", reason="another template", recompute_s=4.25
    )
    records = [
        usage(stored_tokens=900, resident_tokens=900),
        usage(stored_tokens=1500, resident_tokens=1000, recalled_tokens=64),
        usage(
            stored_tokens=1600,
            resident_tokens=1200,
            recomputed_tokens=90,
            recompute_reason="another template",
            receipt=receipt,
        ),
    ]
    entries = ledger([turn(1), *(turn(2 * at, at, usage=one) for at, one in enumerate(records, 1))])
    assert [(one.turn, one.kind, one.tokens) for one in entries] == [
        (4, "recalled", 64),
        (4, "left", 500),
        (6, "resumed", 1200),
        (6, "recomputed", 90),
        (6, "back", 100),
    ]
    assert entries[1].text == "500 tokens left the working set (1,000 of 1,500 resident)"
    assert entries[2].text == "1,200 tokens came from disk in 0.31 s"
    assert entries[3].text == "90 tokens were read again in 4.2 s: another template"


def test_counters_in_words_known_ones_first() -> None:
    counters = {"zebra_count": 1, "rows_written": 2, "rows_found": 3}
    assert counted(counters) == [("stored rows found again", 3), ("rows written to disk", 2), ("zebra count", 1)]
    assert hit_rate({"ram_rows_out": 3, "rows_read": 1}) == 0.75
    assert hit_rate(counters) is None


def test_a_plan_against_the_one_in_force() -> None:
    then = PLAN.model_copy(update={"budget": 800, "kv": 100, "working_set_tokens": 250, "capacity_tokens": 450})
    lines = {one.what: (one.now, one.then) for one in compare(PLAN, then, stored=500)}
    assert lines["KV"] == (300, 100)
    assert lines["free"] == (300, 300)
    assert lines["tokens kept verbatim"] == (1000, 250)
    assert lines["of the 500 stored here"] == (1.0, 0.5)
    assert consequence(PLAN, then) == "The next message loads the model again; stored KV stays."
    other = consequence(PLAN, then.model_copy(update={"quant": "int8"}))
    assert "weights held as int8" in other
    assert other.endswith("conversations are read again.")
    assert consequence(PLAN, PLAN) == "This is the budget in force."
    alone = compare(MemorySplit(), then)
    assert all(one.now is None for one in alone)
    assert not any("stored here" in one.what for one in alone)
