"""The tail file: everything comes back as it was written, other formats are refused."""

from __future__ import annotations

import struct

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from memory.errors import DamagedFile, ForeignVersion
from memory.tailfile import MAGIC, Tail, pack, unpack


@st.composite
def tails(draw: st.DrawFn) -> Tail:
    count = draw(st.integers(0, 63))
    return Tail(
        fingerprint=draw(st.binary(min_size=32, max_size=32)),
        branch=draw(st.text("0123456789abcdef", min_size=16, max_size=16)),
        rows=draw(st.integers(0, 2**63)),
        ids=tuple(draw(st.lists(st.integers(0, 2**32 - 1), min_size=count, max_size=count))),
        positions=tuple(draw(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=count, max_size=count))),
        exact=draw(st.booleans()),
        state=draw(st.binary(max_size=50)),
        payload=draw(st.binary(max_size=50)),
    )


def example() -> bytes:
    return b"".join(pack(Tail(bytes(32), "0123456789abcdef", 3, (7, 8), (5, 6), True, b"state", b"payload")))


def resealed(data: bytes) -> bytes:
    """With the checksum that such bytes would have."""
    return data[:-16] + xxhash.xxh3_128_digest(data[:-16])


@given(tails())
def test_a_tail_comes_back_as_it_was(tail: Tail) -> None:
    assert unpack(b"".join(pack(tail))) == tail


@pytest.mark.parametrize(("offset", "value"), [(0, b"GGUF"), (8, struct.pack("<I", 2))])
def test_another_format_is_refused_even_with_a_right_checksum(offset: int, value: bytes) -> None:
    data = bytearray(example())
    data[offset : offset + len(value)] = value
    with pytest.raises(ForeignVersion, match="another format"):
        unpack(resealed(bytes(data)))


def test_every_cut_and_every_byte_more_is_noticed() -> None:
    data = example()
    for size in range(len(data)):
        with pytest.raises(DamagedFile):
            unpack(data[:size])
    with pytest.raises(DamagedFile):
        unpack(data + b"\0")


@pytest.mark.parametrize(("offset", "value"), [(12, 64), (72, 64), (72, 3), (80, 6), (88, 2**32 - 1)])
def test_lengths_that_do_not_add_up_are_noticed(offset: int, value: int) -> None:
    data = bytearray(example())
    struct.pack_into("<I", data, offset, value)
    with pytest.raises(DamagedFile, match="add up"):
        unpack(resealed(bytes(data)))


def test_the_magic_is_broken_by_line_ending_conversion() -> None:
    assert MAGIC.replace(b"\r\n", b"\n") != MAGIC
    with pytest.raises(DamagedFile):
        unpack(example().replace(b"\r\n", b"\n"))
