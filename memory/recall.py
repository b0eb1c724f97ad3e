"""Recall: the stored tokens that the current queries need take the places of those they do not (design 4.7).

Per layer, in two stages: digests of the stored chunks name a shortlist, and the shortlisted keys are scored token by
token where they lie. Only the difference to what is resident moves. What is attended to afterwards is the working set,
so a step costs what a step over the working set costs, and the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from memory.attention import Partial
from memory.block import CHUNK
from memory.cache import WorkingSetLayer
from memory.policy import LayerView, Policy
from memory.spill import Spill, Stored

QUERIES = 8
"""Of a block of tokens, the last so many ask; one token asks by itself."""

GROUP = 32
"""Rows whose keys are decoded at once."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `first` to `last` of the conversation: how many entries of them were chosen, and the attention they got.

    `mass` is the share of all attention, averaged over layers, heads and queries that chose.
    """

    first: int
    last: int
    tokens: int
    mass: float


@dataclass(frozen=True, slots=True)
class Recalled:
    """What recall did since it was last asked: the chunks that got most attention, and what was missed.

    `missed`: estimated share of attention on stored tokens that were not resident, None when nothing was chosen.
    """

    spans: list[Span] = field(default_factory=list)
    missed: float | None = None
    exact_steps: int = 0
    steps: int = 0


class Digests:
    """The mean key of every stored row, per layer [rows, KV heads, size], in the dtype of the codec's digests."""

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self._means: list[Tensor] = []
        self.rows = 0

    def extend(self, stored: Stored, rows: int) -> None:
        """Know the first `rows` rows; those that are new are read from the tiers.

        Raises:
            RowDamaged: a row is not what was written.
        """
        spill = self._spill
        for first in range(self.rows, rows, spill.rows_per_half):
            count = min(spill.rows_per_half, rows - first)
            loaded = spill.call(spill.load_rows, stored, first, count, 0)
            means = [self._mean(layer, loaded) for layer in range(len(spill.codec.sections))]
            self._means = [torch.cat(pair) for pair in zip(self._means, means, strict=True)] if self._means else means
            self.rows = first + count

    def cut(self, rows: int) -> None:
        """Only the first `rows` rows belong to the conversation now."""
        self._means = [means[:rows] for means in self._means] if rows else []
        self.rows = min(self.rows, rows)

    def shortlist(self, layer: int, queries: Tensor, scale: float, rows: int, count: int) -> Tensor:
        """The `count` of the first `rows` rows whose mean keys `queries` [KV heads, n, size] attend to most, sorted."""
        if count >= rows:
            return torch.arange(rows)
        means = self._means[layer][:rows].to(torch.float32).permute(1, 2, 0)
        weights = (queries @ means).mul_(scale).softmax(-1)
        return weights.sum((0, 1)).topk(count, sorted=False).indices.sort().values

    def _mean(self, layer: int, rows: Tensor) -> Tensor:
        start = self._spill.layout.offset(layer)
        sections = rows[:, start : start + self._spill.codec.sections[layer]]
        return self._spill.codec.digest(layer, sections)[2].clone()


class Recaller:
    """Chooses for one conversation: what its digests are, when it chose last, and what it has to tell."""

    def __init__(self, spill: Spill, policy: Policy) -> None:
        self.policy = policy
        self.digests = Digests(spill)
        self.homes = torch.zeros(0, dtype=torch.int64)
        self._spill = spill
        self.restart()

    @property
    def steps(self) -> int:
        """Passes with recall since `restart`."""
        return self._steps

    def cut(self, rows: int) -> None:
        """Only the first `rows` stored rows belong to the conversation now."""
        self.digests.cut(rows)
        self.homes = self.homes[: rows * CHUNK]

    def restart(self) -> None:
        """A turn begins: the next pass chooses, and what was told is forgotten."""
        self._age = 0
        self._mass = torch.zeros(0)
        self._entries = torch.zeros(0)
        self._missed, self._choices, self._steps = 0.0, 0, 0

    def begin(self, stored: Stored, rows: int, first: int, layers: Sequence[WorkingSetLayer], tokens: int) -> Recall:
        """A pass of the model over `tokens` tokens; whatever lies before row `rows` may be recalled."""
        self.digests.extend(stored, rows)
        self._extend_homes(stored, rows)
        due = tokens > 1 or self._age % self.policy.every == 0
        self._age = 0 if tokens > 1 else self._age + 1
        self._steps += 1
        return Recall(self, self._spill, stored, rows, first, layers, due=due)

    def _extend_homes(self, stored: Stored, rows: int) -> None:
        known = self.homes.numel() // CHUNK
        if known < rows:
            assert stored.branch is not None
            more = [place for header in stored.branch.headers[known:rows] for place in header.positions]
            self.homes = torch.cat((self.homes, torch.tensor(more)))

    def note(self, chosen: Tensor, scores: Tensor, missed: float, asking: int) -> None:
        """A layer chose: tokens [KV heads, n] and their scores."""
        rows = chosen.flatten() // CHUNK
        if (short := int(rows.max()) + 1 - self._mass.numel()) > 0:
            self._mass, self._entries = (torch.cat((part, torch.zeros(short))) for part in (self._mass, self._entries))
        self._mass.index_add_(0, rows, scores.flatten() / (asking * chosen.shape[0]))
        self._entries.index_add_(0, rows, torch.ones(rows.numel()))
        self._missed += missed
        self._choices += 1

    def told(self, count: int = 8) -> Recalled:
        """What was recalled since `restart`: the `count` chunks with the most attention."""
        if not self._choices:
            return Recalled(steps=self._steps)
        best = self._mass.topk(min(count, self._mass.numel())).indices.tolist()
        share = (self._mass / self._choices).tolist()
        spans = [
            Span(row * CHUNK, (row + 1) * CHUNK, round(float(self._entries[row]) / self._choices), share[row])
            for row in best
            if share[row] > 0
        ]
        return Recalled(spans, self._missed / self._choices, 0, self._steps)


class Recall:
    """One pass of the model with recall (`memory.attention.Beyond`)."""

    def __init__(
        self,
        owner: Recaller,
        spill: Spill,
        stored: Stored,
        rows: int,
        first: int,
        layers: Sequence[WorkingSetLayer],
        *,
        due: bool,
    ) -> None:
        self._owner, self._spill, self._stored = owner, spill, stored
        self._rows, self._first, self._layers = rows, first, layers
        self._due = due

    def look(self, index: int, query: Tensor, scale: float) -> int | None:
        """Choose for layer `index`, when that is due; `query` [1, query heads, tokens, size]."""
        layer = self._layers[index]
        slots = layer.length - (layer.seen - self._rows * CHUNK)
        if self._due and slots > self._first:
            kv_heads, size = layer.shape.kv_heads, layer.shape.head_dim
            asking = query[0, :, -QUERIES:].to("cpu", torch.float32)
            self._choose(index, layer, asking.reshape(kv_heads, -1, size), scale, slots)
        return None

    def attend(self, layer: int, query: Tensor, scale: float) -> Partial:
        """Never asked: what was chosen is resident."""
        raise NotImplementedError

    def finish(self) -> None:
        """Nothing to note."""

    # --- one choice --------------------------------------------------------------------------------------------------

    def _choose(self, index: int, layer: WorkingSetLayer, queries: Tensor, scale: float, slots: int) -> None:
        policy, count = self._owner.policy, slots - self._first
        listed = min(self._rows, -(-int(policy.shortlist * count) // CHUNK))
        rows = self._owner.digests.shortlist(index, queries, scale, self._rows, listed)
        sections, at = self._spill.sections(self._stored, index, rows.tolist())
        keys = self._keys(index, sections, at)
        tokens = (rows[:, None] * CHUNK + torch.arange(CHUNK)).flatten()
        rest = self._rest(layer, queries, scale, slots)
        origins = tokens.expand(keys.shape[0], -1)
        scores = policy.score(LayerView(keys, origins, queries, scale, layer.seen, rest))
        scores[:, tokens < self._first] = 0.0  # resident for good
        best = scores.topk(min(count, scores.shape[1]), sorted=False)
        chosen = tokens[best.indices]
        missed = 1 - float(best.values.sum() / scores.sum().clamp_min(1e-30))
        self._owner.note(
            chosen, best.values, missed * float(scores.sum()) / queries.shape[1] / keys.shape[0], queries.shape[1]
        )
        self._exchange(index, layer, slots, chosen, (sections, at, rows))

    def _keys(self, index: int, sections: Tensor, at: Tensor) -> Tensor:
        """The keys [KV heads, tokens, size] of the sections `at`, fp32."""
        kv_heads, size = self._spill.codec.shapes[index]
        out = torch.empty((kv_heads, at.numel(), CHUNK, size))
        used = sections[:, : self._spill.codec.key_bytes(index)]
        for first in range(0, at.numel(), GROUP):
            some = used.index_select(0, at[first : first + GROUP])
            self._spill.codec.keys(index, some, out[:, first : first + GROUP])
        return out.flatten(1, 2)

    def _rest(self, layer: WorkingSetLayer, queries: Tensor, scale: float, slots: int) -> Tensor:
        """Log-sum-exp of the queries over what is resident whatever is chosen, [KV heads, n]."""
        keys = layer.stored[0]
        parts = [part.to("cpu", torch.float32) for part in (keys[:, : self._first], keys[:, slots:])]
        sums = [(queries @ part.transpose(1, 2)).mul_(scale).logsumexp(-1) for part in parts if part.shape[1]]
        return torch.stack(sums).logsumexp(0)

    def _exchange(
        self, index: int, layer: WorkingSetLayer, slots: int, chosen: Tensor, source: tuple[Tensor, Tensor, Tensor]
    ) -> None:
        """Let the entries leave that were not chosen, and those come that were and are not resident."""
        sections, at, rows = source
        held = layer.origins()[:, self._first : slots].to("cpu", torch.int64)
        marks = torch.zeros((held.shape[0], self._rows * CHUNK), dtype=torch.int8)
        marks.scatter_(1, chosen, 1)
        leaving = (marks.gather(1, held) == 0).nonzero()
        marks.scatter_(1, held, 2)
        entering = (marks.gather(1, chosen) == 1).nonzero()
        leaving = _paired(leaving, entering, held.shape[0])
        if not entering.numel():
            return
        heads = entering[:, 0]
        tokens = chosen[heads, entering[:, 1]]
        where = torch.searchsorted(rows, tokens // CHUNK)
        keys, values = self._spill.codec.tokens(index, sections, torch.stack((at[where], heads, tokens % CHUNK)))
        places = torch.stack((heads, leaving[:, 1] + self._first))
        moved = (part.to(layer.device) for part in (places, tokens, self._owner.homes[tokens], keys, values))
        layer.exchange(*moved)


def _paired(leaving: Tensor, entering: Tensor, heads: int) -> Tensor:
    """As many of each head's leaving entries as come to it; both are sorted by head."""
    if leaving.shape[0] == entering.shape[0]:
        return leaving
    needed = torch.bincount(entering[:, 0], minlength=heads)
    return torch.cat([leaving[leaving[:, 0] == head][: int(needed[head])] for head in range(heads)])
