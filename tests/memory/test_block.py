"""Chained ids: an id names a chunk, everything before it and the fingerprint; it is computed as the document says."""

from __future__ import annotations

import struct
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.block import CHUNK, chain, extend, pack_ids

ROOT = bytes(range(32))
IDS = st.lists(st.integers(0, 2**32 - 1), max_size=4 * CHUNK)


def test_ids_are_packed_as_unsigned_little_endian_integers() -> None:
    assert pack_ids([1, 256, 2**32 - 1]) == struct.pack("<3I", 1, 256, 2**32 - 1)
    assert pack_ids([]) == b""


@pytest.mark.parametrize("wrong", [-1, 2**32])
def test_an_id_that_does_not_fit_is_refused(wrong: int) -> None:
    with pytest.raises(OverflowError):
        pack_ids([wrong])


def test_an_id_is_the_hash_of_what_came_before_and_of_the_tokens() -> None:
    ids = list(range(CHUNK))
    assert extend(ROOT, ids) == blake2b(ROOT + struct.pack("<64I", *ids), digest_size=32).digest()
    assert chain(ROOT, ids) == [extend(ROOT, ids)]


@given(IDS)
def test_only_whole_chunks_have_an_id(ids: list[int]) -> None:
    links = chain(ROOT, ids)
    assert len(links) == len(ids) // CHUNK
    assert links == chain(ROOT, ids[: len(links) * CHUNK])


@given(IDS, st.integers(0, 3))
def test_a_longer_text_begins_with_the_ids_of_a_shorter_one(ids: list[int], chunks: int) -> None:
    assert chain(ROOT, ids)[:chunks] == chain(ROOT, ids[: chunks * CHUNK])


@given(st.lists(st.integers(0, 1000), min_size=4 * CHUNK, max_size=4 * CHUNK), st.integers(0, 4 * CHUNK - 1))
def test_one_other_token_changes_its_chunk_and_all_after_it(ids: list[int], at: int) -> None:
    other = [*ids[:at], ids[at] + 1, *ids[at + 1 :]]
    same = [old == new for old, new in zip(chain(ROOT, ids), chain(ROOT, other), strict=True)]
    assert same == [number < at // CHUNK for number in range(4)]


def test_another_fingerprint_changes_every_id() -> None:
    ids = list(range(2 * CHUNK))
    assert not set(chain(ROOT, ids)) & set(chain(bytes(32), ids))
