"""What episodes hold adds up to what their conversation holds, in every tier, to the byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assistant.protocol import Episodes
from assistant.reports import KvStatus, TierUse
from assistant.views.held import divided, held
from tests.assistant.views.made import episodes

KV = KvStatus(
    device=TierUse(conversations={"trip": 1001}), disk=TierUse(conversations={"trip": 5000, "other": 9}), row_bytes=10
)


def test_bytes_go_by_the_tokens_that_are_there() -> None:
    found = episodes(10, residency=[1.0] * 4 + [0.5] * 4 + [0.0] * 2, stored=512)
    parts = held(found, KV, "trip")
    assert [(one.episode, one.title, one.tokens) for one in parts] == [
        (1, "topic 1", 256),
        (2, "topic 2", 256),
        (3, "topic 3", 128),
    ]
    assert [one.device for one in parts] == [668, 333, 0]
    assert [one.disk for one in parts] == [2500, 2500, 0]


def test_a_conversation_that_is_nowhere_holds_nothing() -> None:
    assert {(one.device, one.disk) for one in held(episodes(8), KV, "another")} == {(0, 0)}
    assert held(Episodes(), KV, "trip") == []


@given(st.dictionaries(st.integers(1, 40), st.integers(0, 10**6)), st.integers(0, 10**12))
def test_divided_bytes_are_all_of_them(parts: dict[int | None, int], whole: int) -> None:
    given_ = divided(parts, whole)
    assert sum(given_.values()) == (whole if sum(parts.values()) else 0)
    assert all(count >= 0 for count in given_.values())
