"""What is set aside beside the working set for stored rows, from a model's shape alone: arithmetic, without torch.

Rows on their way to and from the tiers take room, and so does choosing among those that are stored. Where the tiers lie
in the same memory as everything else (no GPU) both come out of the budget.
"""

from __future__ import annotations

from memory.block import CHUNK
from memory.budget import MIB
from memory.geometry import Geometry

HALF = 8 * MIB
"""Least bytes of one half of the staging area: reads of this size keep up with any disk."""

PENDING = 2
"""Raw rows that may wait for the I/O thread before sealing waits for it."""

ROW_GROUP = 8
"""Rows of one layer that are decoded at once: 512 tokens."""

DIGESTED = 1024
"""Digests held at most: of a row each, or of twice, four times as many rows, as the conversation grows."""

PARTS = 3
"""Vectors of a digest: mean key, range, mean value."""

QUERIES = 4
"""Of a block of tokens, the last so many ask; one token asks by itself."""

SCORED_ROWS = 64
"""Rows whose keys are decoded at once: they stay in the processor's cache until they are scored."""

MOST_ROWS = 512
"""Rows of which every token is scored, at most; digests choose among more."""

PATCH = 256
"""Tokens of a patch that ask, at most; the rest is cut. Four patches of so many tokens cost a third of reading 8K."""


def staging_bytes(geometry: Geometry, itemsize: int, half: int = HALF) -> int:
    """Bytes that rows on their way take: both halves, raw rows that wait, and one group decoded."""
    raw = CHUNK * geometry.kv_bytes_per_token(itemsize)
    widest = max(layer.kv_heads * layer.head_dim for layer in geometry.layers)
    return 2 * half + (PENDING + 2) * raw + 2 * ROW_GROUP * CHUNK * widest * itemsize


def choosing_bytes(geometry: Geometry, queries: str, base: str) -> int:
    """Bytes that a policy with these traits (`memory.policy.base.Policy`) takes to choose among stored tokens."""
    recall = recall_bytes(geometry) if queries == "current" else 0
    return recall + (selection_bytes(geometry) if base != "latest" else 0)


def recall_bytes(geometry: Geometry) -> int:
    """Bytes that recall takes at most: digests, decoded keys and scores."""
    sizes = [layer.kv_heads * layer.head_dim for layer in geometry.layers if layer.window is None]
    digests = DIGESTED * PARTS * 2 * sum(sizes)
    keys = 4 * SCORED_ROWS * CHUNK * max(sizes, default=0)
    return digests + keys + 3 * 4 * geometry.query_heads * QUERIES * MOST_ROWS * CHUNK


def selection_bytes(geometry: Geometry) -> int:
    """Bytes that scoring takes at most while it works: a patch's queries twice, one row's logits, the scores."""
    layers = [layer for layer in geometry.layers if layer.window is None]
    size = max((layer.head_dim for layer in layers), default=0)
    heads, widest = geometry.query_heads, max((layer.kv_heads * layer.head_dim for layer in layers), default=0)
    queries = PATCH * heads * sum(2 * 2 * layer.head_dim + 4 for layer in layers)
    row = PATCH * heads * 4 * (2 * CHUNK + size) + 4 * ROW_GROUP * CHUNK * widest
    scores = geometry.window * (4 * sum(layer.kv_heads for layer in layers) + 64)
    return queries + row + scores
