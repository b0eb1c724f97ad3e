"""What a receipt says to people, and what the wire makes of numbers and unknown fields."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from assistant.orders import REQUEST, Check, KvSpec
from assistant.protocol import EVENT, Receipt, Resumed, dump
from assistant.reports import TierUse


def test_all_reused_is_one_short_sentence() -> None:
    receipt = Receipt(seconds=0.314, reused=11_842, recomputed=0, source="disk")
    assert receipt.sentence() == "resumed in 0.31 s: 11,842 tokens reused, 0 recomputed"


def test_reading_again_has_a_reason_and_a_cost_once_it_is_measured() -> None:
    receipt = Receipt(seconds=0.002, reused=0, recomputed=1_200, source="none", reason="another codec")
    assert receipt.sentence() == "resumed in 0.00 s: 0 tokens reused, 1,200 recomputed: another codec"
    receipt.recompute_s = 4.25
    assert receipt.sentence() == "resumed in 0.00 s: 0 tokens reused, 1,200 recomputed (4.2 s): another codec"


def test_the_messages_survive_the_wire() -> None:
    resumed = Resumed(receipt=Receipt(seconds=1.0, reused=1, recomputed=2, source="disk", reason="why"))
    assert EVENT.validate_json(dump(resumed)) == resumed
    check = Check(id="1", folder="/kv", repair=True)
    assert REQUEST.validate_json(dump(check)) == check
    with pytest.raises(ValidationError):
        REQUEST.validate_json('{"op": "forget", "id": "1"}')
    with pytest.raises(ValidationError):
        KvSpec(folder="/kv", disk=-1)


def test_the_gap_is_what_the_parts_leave_open() -> None:
    assert TierUse(parts={"a": 3, "b": 4}, total=10).gap == 3
    assert TierUse(parts={"a": 3, "b": 4}, total=5).gap == -2
