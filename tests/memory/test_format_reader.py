"""A stranger's reader: written from docs/format.md alone, with numpy, sharing no code with the writer."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xxhash

from tests.memory.models import tokens
from tests.memory.tiers import read_all, stored_memory

TEXT = tokens(200, 11)


def parse_chunks(data: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The JSON of a chunk file's header, and its rows with decoded keys and values."""
    magic, version, size, checksum = struct.unpack_from("<8sII16s", data)
    assert magic == b"KVCHUNK\n"
    assert version == 1
    assert size % 4096 == 0
    assert xxhash.xxh3_128(data[32:size]).digest() == checksum
    head = json.loads(data[32:size].rstrip(b"\0"))
    body = data[size:]
    assert len(body) % head["stride"] == 0
    rows = [parse_row(body[at : at + head["stride"]], head) for at in range(0, len(body), head["stride"])]
    return head, rows


def parse_row(row: bytes, head: dict[str, Any]) -> dict[str, Any]:
    layers = len(head["sections"])
    magic, count, number, flags, zero = struct.unpack_from("<4sIQII", row)
    assert (magic, count, zero) == (b"ROW\n", 64, 0)
    covered = 600 + 16 * layers
    assert row[covered : covered + 16] == xxhash.xxh3_128(row[:covered]).digest()
    assert head["row_header"] == covered + 16
    parsed: dict[str, Any] = {"number": number, "exact": bool(flags & 1), "chain": row[24:56], "parent": row[56:88]}
    parsed["ids"] = np.frombuffer(row, "<u4", 64, 88)
    parsed["positions"] = np.frombuffer(row, "<i4", 64, 344)
    parsed["layers"], at = [], covered + 16
    for layer, length in enumerate(head["sections"]):
        at = -(-at // 64) * 64
        section = row[at : at + length]
        assert xxhash.xxh3_128(section).digest() == row[600 + 16 * layer : 616 + 16 * layer]
        parsed["layers"].append(parse_section(section, head["codec"][layer], *head["layers"][layer]))
        at += length
    assert -(-at // 4096) * 4096 == head["stride"]
    return parsed


def parse_section(data: bytes, codec: str, heads: int, size: int) -> dict[str, np.ndarray]:
    """Digest, keys and values of one section, decoded in fp32."""
    at = 0

    def take(dtype: str, *shape: int) -> np.ndarray:
        nonlocal at
        array = np.frombuffer(data, dtype, int(np.prod(shape)), at).reshape(shape)
        at += array.nbytes
        return array

    low, high, mean = (take("<f2", heads, size).astype("f4") for _ in range(3))
    if codec == "fp32":
        keys, values = take("<f4", heads, 64, size), take("<f4", heads, 64, size)
    else:
        bits = {"int8": 8, "int4": 4}[codec]
        groups = -(-size // 64) if bits == 4 else 1
        codes = unpacked(take("u1", heads, 64, size * bits // 8), bits)
        keys = low[:, None] + codes * ((high - low)[:, None] / (2**bits - 1))
        bottom, top = (take("<f2", heads, 64, groups).astype("f4") for _ in range(2))
        codes = unpacked(take("u1", heads, 64, size * bits // 8), bits).reshape(heads, 64, groups, -1)
        values = (bottom[..., None] + codes * ((top - bottom)[..., None] / (2**bits - 1))).reshape(heads, 64, size)
    assert at == len(data)
    return {"low": low, "high": high, "mean": mean, "keys": keys, "values": values}


def unpacked(codes: np.ndarray, bits: int) -> np.ndarray:
    if bits == 8:
        return codes.astype("f4")
    return np.stack((codes & 15, codes >> 4), axis=-1).reshape(*codes.shape[:-1], -1).astype("f4")


def parse_tail(data: bytes) -> dict[str, Any]:
    magic, version, size, digest, branch, rows, count, exact, state, payload = struct.unpack_from(
        "<8sII32s16sQIIQQ", data
    )
    assert (magic, version, size) == (b"KVTAIL\r\n", 1, 96)
    assert xxhash.xxh3_128(data[:-16]).digest() == data[-16:]
    start = 96 + 8 * count
    line, _ = data[start : start + state].split(b"\n", 1)
    return {
        "digest": digest,
        "branch": branch.rstrip(b"\0").decode(),
        "rows": rows,
        "ids": np.frombuffer(data, "<u4", count, 96).tolist(),
        "exact": bool(exact),
        "state": json.loads(line),
        "payload": data[start + state : start + state + payload],
    }


@pytest.mark.parametrize(("codec", "tolerance"), [("lossless", 0.0), ("int8", 0.05), ("int4", 0.8)])
def test_a_stranger_reads_what_the_model_computed(codec: str, tolerance: float, tmp_path: Path) -> None:
    with stored_memory("qwen2", tmp_path, codec=codec) as memory:
        read_all(memory, TEXT)
        memory.seal()
        computed = [[part.numpy().copy() for part in layer.as_computed] for layer in memory.working_set.layers]
    path = next(tmp_path.rglob("*.kv"))
    head, rows = parse_chunks(path.read_bytes())
    tail = parse_tail(path.with_suffix(".tail").read_bytes())

    assert (head["conversation"], head["branch"], head["parent"], head["first_row"]) == ("chat", path.stem, None, 0)
    assert [row["number"] for row in rows] == [0, 1, 2]
    fields = json.dumps(head["fingerprint"], sort_keys=True, separators=(",", ":")).encode()
    link = hashlib.blake2b(fields, digest_size=32).digest()
    for number, row in enumerate(rows):
        assert row["parent"] == link
        link = hashlib.blake2b(link + row["ids"].tobytes(), digest_size=32).digest()
        assert row["chain"] == link
        assert row["ids"].tolist() == TEXT[number * 64 : number * 64 + 64]
        assert row["positions"].tolist() == list(range(number * 64, number * 64 + 64))
        assert row["exact"]
        for layer, section in enumerate(row["layers"]):
            keys, values = (part[:, number * 64 : number * 64 + 64] for part in computed[layer])
            assert np.abs(section["keys"] - keys).max() <= tolerance * np.ptp(keys)
            assert np.abs(section["values"] - values).max() <= tolerance * np.ptp(values)
            assert (section["low"][:, None] <= keys).all()
            assert (section["high"][:, None] >= keys).all()
            assert np.allclose(section["mean"], keys.mean(1), atol=0.02)
    assert tail["digest"] == link
    assert (tail["branch"], tail["rows"], tail["ids"], tail["exact"]) == (path.stem, 3, TEXT[192:], True)
    assert tail["state"] == {"seen": 200, "next_position": 200, "reindexed": False, "layers": ["all"] * 3}
    half = len(tail["payload"]) // 3
    section = parse_section(tail["payload"][:half], "fp32", *head["layers"][0])
    assert np.array_equal(section["keys"][:, :8], computed[0][0][:, 192:])


def test_the_masks_in_the_state_say_what_was_resident(tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path, capacity=200, mode="bounded") as memory:
        read_all(memory, tokens(450, 1))
        memory.seal()
        resident = [layer.origins().numpy().copy() for layer in memory.working_set.layers]
    data = next(tmp_path.rglob("*.tail")).read_bytes()
    count, state = struct.unpack_from("<I", data, 72)[0], struct.unpack_from("<Q", data, 80)[0]
    line, masks = data[96 + 8 * count : 96 + 8 * count + state].split(b"\n", 1)
    head = json.loads(line)
    size, at = -(-head["seen"] // 8), 0
    for layer, kind in enumerate(head["layers"]):
        if kind == "mask":
            bits = np.unpackbits(np.frombuffer(masks, "u1", 2 * size, at).reshape(2, size), axis=1, bitorder="little")
            at += 2 * size
        assert kind in ("mask", "same")
        assert all(np.array_equal(bits[head_].nonzero()[0], resident[layer][head_]) for head_ in range(2))
    assert torch.is_tensor(memory.working_set.layers[0].origins())
