"""The fingerprint: equal fields give an equal digest in any order; any other field gives another one and is named."""

from __future__ import annotations

import json
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.fingerprint import Fingerprint

FIELDS = {"weights": "abc", "config": "1", "rope": '{"theta": 10000}', "dtype": "float32", "template": "ä"}
MAPPINGS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=5)


def test_the_digest_is_that_of_the_document() -> None:
    text = json.dumps(FIELDS, sort_keys=True, separators=(",", ":"))
    assert Fingerprint.of(FIELDS).digest == blake2b(text.encode(), digest_size=32).digest()


def test_the_order_of_fields_does_not_matter() -> None:
    backwards = dict(reversed(FIELDS.items()))
    assert Fingerprint.of(backwards) == Fingerprint.of(FIELDS)
    assert Fingerprint.of(FIELDS).to_dict() == FIELDS


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_that_changes_alone_is_named(name: str) -> None:
    before, after = Fingerprint.of(FIELDS), Fingerprint.of(FIELDS | {name: "another"})
    assert before.digest != after.digest
    assert before.differing(after) == after.differing(before) == [name]


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_is_missing_counts(name: str) -> None:
    whole = Fingerprint.of(FIELDS)
    part = Fingerprint.of({key: value for key, value in FIELDS.items() if key != name})
    assert whole.differing(part) == part.differing(whole) == [name]
    assert whole.digest != part.digest


@given(MAPPINGS, MAPPINGS)
def test_equal_digests_mean_equal_fields(one: dict[str, str], two: dict[str, str]) -> None:
    first, second = Fingerprint.of(one), Fingerprint.of(two)
    assert (first.digest == second.digest) == (one == two)
    assert (first.differing(second) == []) == (one == two)
