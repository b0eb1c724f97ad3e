"""Chunks of tokens and their chained ids: an id is a hint where to look, the token ids are the truth."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from sys import byteorder

CHUNK = 64
"""Tokens of a sealed chunk."""


def pack_ids(ids: Sequence[int]) -> bytes:
    """Token ids as unsigned 32-bit little-endian integers."""
    numbers = array("I", ids)
    if byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def extend(parent: bytes, ids: Sequence[int]) -> bytes:
    """The id of the chunk that holds `ids` after the chunk `parent`: blake2b-256 over both."""
    return blake2b(parent + pack_ids(ids), digest_size=32).digest()


def common(one: Sequence[object], other: Sequence[object]) -> int:
    """How many tokens (or whatever they hold) both begin with."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(one), len(other)))


def chain(root: bytes, ids: Sequence[int]) -> list[bytes]:
    """One id for every whole chunk of `ids`; `root` is the fingerprint's digest."""
    links = [root]
    for first in range(0, len(ids) - CHUNK + 1, CHUNK):
        links.append(extend(links[-1], ids[first : first + CHUNK]))
    return links[1:]
