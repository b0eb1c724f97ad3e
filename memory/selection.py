"""Scores of stored tokens: how much a patch attends to each, kept beside them (docs/memory.md; EpiCache, section 1).

The score of a token in a KV head is the most attention that any query of the patch pays to it, in proportion to what
the query pays to the rows there were when the patch was first read. That sum is kept with the queries, so a score never
changes: when the conversation grows just the new rows are scored, and what comes out is what scoring all of them gives.
No pass of the model over the history is needed, only one over the patch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from memory.aside import PATCH, ROW_GROUP
from memory.attention import Tap
from memory.block import CHUNK, pack_ids
from memory.geometry import Geometry
from memory.score_store import ScoreStore
from memory.segment import share_out
from memory.spill import Spill, Stored, pieces_of

Ask = Callable[[Sequence[int], Tap], None]
"""Passes a few tokens over the working set as if they came next: `memory.prefill.Reader.ask`."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asking:
    """What a patch asks: its queries times their scale, fp16, and the log-sum-exp of each query, fp32; one buffer each.

    Per layer the parts are [KV heads, group x tokens, size] and [KV heads, group x tokens].
    """

    queries: Tensor
    norms: Tensor


def cut(parts: Sequence[Sequence[int]]) -> list[int]:
    """A patch of the beginnings of its parts, so that each has its say: short ones whole, of long ones equal shares."""
    given = share_out([len(part) for part in parts], PATCH)
    return [token for part, count in zip(parts, given, strict=True) for token in part[:count]]


class StoredScores:
    """Scores of the rows of any conversation, by layer and KV head of the `layers` that attend to everything."""

    def __init__(self, spill: Spill, geometry: Geometry, device: torch.device) -> None:
        self.layers = [at for at, layer in enumerate(geometry.layers) if layer.window is None]
        self.passes = 0
        """Passes of the model so far."""
        self._spill, self._device = spill, device
        self._query_heads = geometry.query_heads
        self._shapes = [spill.codec.shapes[layer] for layer in self.layers]

    def of(self, stored: Stored, rows: int, patch: Sequence[int], ask: Ask, most: int) -> list[Tensor]:
        """Logarithms of the scores of the first `rows` rows for `patch`, per layer [KV heads, rows x 64] fp16.

        What is not known is scored and kept. A patch is read in pieces of at most `most` tokens.

        Raises:
            RowDamaged: a row is not what was written.
        """
        parts = list(self.update(stored, rows, patch, ask, most))
        self._on_disk(lambda store: store.touch(self._name(stored.conversation, patch[:PATCH])), None)
        return [part.transpose(0, 1).flatten(1) for part in self._by_layer(parts[-1])]

    def update(self, stored: Stored, rows: int, patch: Sequence[int], ask: Ask, most: int) -> Iterator[Tensor]:
        """Score what is not known, a layer at a time, and keep it at the end; the caller may stop in between.

        Gives what there is so far after each layer, [rows, KV heads of all layers, 64] fp16.

        Raises:
            RowDamaged: a row is not what was written; as the next layer is asked for.
        """
        assert stored.branch is not None
        patch = patch[:PATCH]
        name = self._name(stored.conversation, patch)
        chains = [header.chain.hex() for header in stored.branch.headers[:rows]]
        found, missing = self._known(name, chains)
        yield found
        if not missing:
            return
        asking = self._remembered(name, len(patch))
        if asking is None:
            missing, norms = list(range(rows)), list[Tensor]()
            queries = self._asked(patch, ask, most)
            for at in range(len(self.layers)):
                norms.append(self._norm(stored, at, self._queries(queries, at, len(patch)), rows))
                yield found
            asking = Asking(queries, torch.cat([norm.flatten() for norm in norms]).cpu())
            self._remember(name, stored.conversation, len(patch), asking)
        for at, part in enumerate(self._by_layer(found)):
            part[missing] = self._best(stored, at, asking, len(patch), missing)
            yield found
        packed = [(chains[row], _bytes(found[row])) for row in missing]
        self._on_disk(lambda store: store.add(name, packed), None)

    def knows(self, conversation: str, patch: Sequence[int]) -> bool:
        """Whether the patch was read before, so that the model has nothing to do."""
        patch = patch[:PATCH]
        return self._remembered(self._name(conversation, patch), len(patch)) is not None

    # --- what is kept ------------------------------------------------------------------------------------------------

    def _name(self, conversation: str, patch: Sequence[int]) -> str:
        """What a patch is known by: the same tokens of another conversation or fingerprint ask other things."""
        fingerprint = self._spill.disk.fingerprint.digest
        return blake2b(fingerprint + conversation.encode() + b"\0" + pack_ids(patch), digest_size=20).hexdigest()

    def _known(self, name: str, chains: list[str]) -> tuple[Tensor, list[int]]:
        """Scores [rows, KV heads of all layers, 64], and the rows that have none yet."""
        heads = sum(kv_heads for kv_heads, _ in self._shapes)
        found = torch.zeros((len(chains), heads, CHUNK), dtype=torch.float16)
        nothing: list[bytes | None] = [None] * len(chains)
        blobs = self._on_disk(lambda store: store.scores(name, chains), nothing)
        missing = list[int]()
        for row, blob in enumerate(blobs):
            if blob is not None and len(blob) == 2 * heads * CHUNK:
                found[row] = torch.frombuffer(bytearray(blob), dtype=torch.float16).view(heads, CHUNK)
            else:
                missing.append(row)
        return found, missing

    def _remembered(self, name: str, tokens: int) -> Asking | None:
        blobs = self._on_disk(lambda store: store.patch(name), None)
        sizes = [2 * tokens * self._query_heads * sum(size for _, size in self._shapes)]
        sizes.append(4 * tokens * self._query_heads * len(self._shapes))
        if blobs is None or [len(blob) for blob in blobs] != sizes:
            return None
        queries, norms = (bytearray(blob) for blob in blobs)
        return Asking(torch.frombuffer(queries, dtype=torch.float16), torch.frombuffer(norms, dtype=torch.float32))

    def _remember(self, name: str, conversation: str, tokens: int, asking: Asking) -> None:
        queries, norms = _bytes(asking.queries), _bytes(asking.norms)
        folder = self._spill.disk.folder

        def keep(store: ScoreStore) -> None:
            if folder.index.branches(conversation):  # it was not forgotten meanwhile
                store.put_patch(name, conversation, tokens, queries, norms)

        self._on_disk(keep, None)

    def _on_disk(self, action: Callable[[ScoreStore], T], otherwise: T) -> T:
        """`action` on the I/O thread; a disk that fails costs scoring again, nothing else."""
        try:
            return self._spill.call(lambda: action(self._spill.disk.folder.scores))
        except OSError:
            self._spill.counters["score_errors"] += 1
            return otherwise

    # --- asking and scoring ------------------------------------------------------------------------------------------

    def _asked(self, patch: Sequence[int], ask: Ask, most: int) -> Tensor:
        """Pass the patch over the working set in pieces, each as if it came next; the queries of every layer."""
        total = len(patch) * self._query_heads * sum(size for _, size in self._shapes)
        flat, places = torch.empty(total, dtype=torch.float16), {layer: at for at, layer in enumerate(self.layers)}
        for start in range(0, len(patch), most):

            def tap(index: int, queries: Tensor, scale: float, start: int = start) -> None:
                if index in places:
                    part = self._part(flat, places[index], len(patch)).view(
                        self._query_heads, len(patch), queries.shape[-1]
                    )
                    part[:, start : start + queries.shape[2]] = queries[0].to(torch.float32) * scale

            ask(patch[start : start + most], tap)
            self.passes += 1
        return flat

    def _norm(self, stored: Stored, at: int, queries: Tensor, rows: int) -> Tensor:
        """Log-sum-exp of `queries` [KV heads, n, size] over the first rows, [KV heads, n]."""
        total = torch.full(queries.shape[:2], -torch.inf, device=queries.device)
        for keys in self._keys(stored, at, list(range(rows))):
            total = torch.logaddexp(total, (queries @ keys).logsumexp(-1))
        return total

    def _best(self, stored: Stored, at: int, asking: Asking, tokens: int, rows: list[int]) -> Tensor:
        """Logarithm of the most attention any query pays to each token of `rows`, [rows, KV heads, 64]."""
        queries = self._queries(asking.queries, at, tokens)
        heads = self._query_heads * tokens
        norms = asking.norms[at * heads : (at + 1) * heads].to(self._device).view(*queries.shape[:2], 1)
        best = [(queries @ keys).sub_(norms).amax(1) for keys in self._keys(stored, at, rows)]
        return torch.stack(best).to("cpu", torch.float16)

    def _keys(self, stored: Stored, at: int, rows: list[int]) -> Iterator[Tensor]:
        """Keys of `rows` (ascending) one by one, fp32 [KV heads, size, 64]; the next ones are read meanwhile.

        One shape whatever is asked for: a product then has the same bits for a row alone and for all of them.
        """
        layer, (kv_heads, size) = self.layers[at], self._shapes[at]
        spill, room = self._spill, torch.empty(kv_heads * ROW_GROUP * CHUNK * size, device=self._device)
        pieces = list(pieces_of(rows, ROW_GROUP))
        for piece, sections in spill.ahead(pieces, partial(spill.load_sections, stored, layer)):
            keys = room[: kv_heads * len(piece) * CHUNK * size].view(kv_heads, len(piece), CHUNK, size)
            spill.codec.keys(layer, sections.to(self._device), keys)
            yield from keys.transpose(2, 3).unbind(1)

    def _queries(self, flat: Tensor, at: int, tokens: int) -> Tensor:
        """One layer's queries in fp32 where scores are computed, [KV heads, group x tokens, size]."""
        kv_heads, size = self._shapes[at]
        return self._part(flat, at, tokens).to(self._device, torch.float32).view(kv_heads, -1, size)

    def _part(self, flat: Tensor, at: int, tokens: int) -> Tensor:
        """One layer's part of the queries of all layers."""
        ends = [0]
        for _, size in self._shapes[: at + 1]:
            ends.append(ends[-1] + tokens * self._query_heads * size)
        return flat[ends[-2] : ends[-1]]

    def _by_layer(self, scores: Tensor) -> list[Tensor]:
        """Views [rows, KV heads, 64] of scores of all layers."""
        ends = [0]
        for kv_heads, _ in self._shapes:
            ends.append(ends[-1] + kv_heads)
        return [scores[:, first:stop] for first, stop in pairwise(ends)]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()
