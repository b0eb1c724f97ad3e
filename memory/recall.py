"""Recall: the stored tokens that the current queries need take the places of those they do not (design 4.7).

Per layer, in two stages: digests of the stored chunks name a shortlist, and the shortlisted keys are scored token by
token where they lie. Only the difference to what is resident moves. What is attended to afterwards is the working set,
so a step costs what a step over the working set costs, and the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from memory.attention import Partial, merge
from memory.block import CHUNK
from memory.cache import WorkingSetLayer
from memory.exact import Stream, groups_of
from memory.geometry import Geometry
from memory.policy import LayerView, Policy, probabilities
from memory.spill import GROUP as EXACT_GROUP
from memory.spill import Scratch, Spill, Stored

QUERIES = 4
"""Of a block of tokens, the last so many ask; one token asks by itself."""

GROUP = 32
"""Rows whose keys are decoded at once: they stay in the processor's cache until they are scored."""

MOST_ROWS = 256
"""Rows of which every token is scored, at most; digests choose among more."""

DIGESTED = 1024
"""Digests held at most: of a row each, or of twice, four times as many rows, as the conversation grows."""

_REACH = 1 / 8
"""How far, of the range of a chunk's keys, a digest stands off the mean towards the query. Measured: the shortlist
misses a third less attention than by the mean alone, where the whole range (Quest) misses more."""


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

    `missed`: share of the attention of the queries that chose which fell on tokens that were looked at and not taken,
    None when nothing was chosen. `moved`: entries per head that came into the working set, a mean over the layers.
    """

    spans: list[Span] = field(default_factory=list)
    missed: float | None = None
    exact_steps: int = 0
    steps: int = 0
    moved: int = 0


def recall_bytes(geometry: Geometry) -> int:
    """Bytes that recall takes at most beside the working set, where the tiers lie: digests, decoded keys and scores."""
    sizes = [layer.kv_heads * layer.head_dim for layer in geometry.layers if layer.window is None]
    digests = DIGESTED * 2 * 2 * sum(sizes)
    keys = 4 * GROUP * CHUNK * max(sizes, default=0)
    return digests + keys + 3 * 4 * geometry.query_heads * QUERIES * MOST_ROWS * CHUNK


class Digests:
    """What stands for the keys of stored rows: their mean and their range, fp16 [digests, 2, KV heads, size] a layer.

    A digest stands for `per` rows: one, and twice as many whenever there would be more than `DIGESTED`.
    """

    def __init__(self, spill: Spill, layers: Sequence[int]) -> None:
        """Room for the digests of `layers`."""
        self._spill = spill
        shapes = {layer: (DIGESTED, 2, *spill.codec.shapes[layer]) for layer in layers}
        self._parts = {layer: torch.empty(shape, dtype=torch.float16) for layer, shape in shapes.items()}
        self.rows = 0
        self.per = 1

    def extend(self, stored: Stored, rows: int) -> None:
        """Know the first `rows` rows; those that are new are read from the tiers.

        Raises:
            RowDamaged: a row is not what was written.
        """
        spill = self._spill
        while rows > DIGESTED * self.per:
            self._coarsen()
        for first in range(self.rows, rows, spill.rows_per_half):
            count = min(spill.rows_per_half, rows - first)
            self._take(first, spill.call(spill.load_to_keep, stored, first, count))
            self.rows = first + count

    def cut(self, rows: int) -> None:
        """Only the first `rows` rows belong to the conversation now."""
        self.rows = min(self.rows, rows // self.per * self.per)

    def shortlist(self, layer: int, queries: Tensor, scale: float, rows: int, count: int) -> Tensor:
        """Of the first `rows` rows about `count` that `queries` [KV heads, n, size] may attend to most, ascending."""
        if count >= rows:
            return torch.arange(rows)
        used = self._parts[layer][: -(-rows // self.per)].to(torch.float32)
        mean, reach = used.permute(1, 2, 3, 0)
        logits = (queries @ mean + queries.abs() @ reach).mul_(scale)
        weights: Tensor = logits.softmax(-1).sum((0, 1))
        best = weights.topk(max(1, count // self.per), sorted=False).indices.sort().values
        named = (best[:, None] * self.per + torch.arange(self.per)).flatten()
        return named[named < rows]

    def _take(self, first: int, rows: Tensor) -> None:
        """Encoded rows [n, stride] from row `first` on."""
        for layer, part in self._parts.items():
            start = self._spill.layout.offset(layer)
            sections = rows[:, start : start + self._spill.codec.sections[layer]]
            low, high, mean = self._spill.codec.digest(layer, sections)
            fresh = torch.stack((mean, (high - low) * _REACH), dim=1)
            for number in range(first, first + rows.shape[0]):
                _merge(part[number // self.per], fresh[number - first], number % self.per)

    def _coarsen(self) -> None:
        """Two neighbours become one."""
        for part in self._parts.values():
            pairs = part.view(DIGESTED // 2, 2, *part.shape[1:])
            part[: DIGESTED // 2] = torch.stack((pairs[:, :, 0].mean(1), pairs[:, :, 1].amax(1)), dim=1)
        self.per *= 2
        self.rows = self.rows // self.per * self.per


def _merge(digest: Tensor, fresh: Tensor, before: int) -> None:
    """Take one row more into a digest of `before` rows: the mean of means, the widest range."""
    if not before:
        digest.copy_(fresh)
        return
    digest[0] += (fresh[0] - digest[0]) / (before + 1)
    torch.maximum(digest[1], fresh[1], out=digest[1])


@dataclass(slots=True)
class Asked:
    """The last choice of a layer: for which queries [query heads, size], when, and whether it missed too much."""

    queries: Tensor
    step: int
    missed: float


class Recaller:
    """Chooses for one conversation: its digests, what each layer chose for last, and what there is to tell."""

    def __init__(self, spill: Spill, policy: Policy, layers: Sequence[int]) -> None:
        """`layers` attend to everything and are chosen for."""
        self.policy = policy
        self.digests = Digests(spill, layers)
        self.homes = torch.zeros(0, dtype=torch.int64)
        self.keys = torch.empty(GROUP * CHUNK * max(heads * size for heads, size in spill.codec.shapes))
        self.scratch: Scratch | None = None
        self._spill = spill
        self.restart()

    def cut(self, rows: int) -> None:
        """Only the first `rows` stored rows belong to the conversation now."""
        self.digests.cut(rows)
        self.homes = self.homes[: rows * CHUNK]

    def restart(self) -> None:
        """A turn begins: every layer chooses anew, and what was told is forgotten."""
        self.asked: dict[int, Asked] = {}
        self.steps = self.exact_steps = 0
        self.choices, self.missed, self.moved = 0, 0.0, dict[int, float]()
        self._mass = self._entries = torch.zeros(0)

    def begin(self, stored: Stored, rows: int, first: int, layers: Sequence[WorkingSetLayer]) -> Recall:
        """A pass of the model; whatever lies before row `rows` may be recalled, the first `first` tokens stay."""
        self.digests.extend(stored, rows)
        self._extend_homes(stored, rows)
        self.steps += 1
        return Recall(self, self._spill, Reach(stored, rows, first), layers)

    def note(self, chosen: Tensor, shares: Tensor, missed: float) -> None:
        """A layer chose the tokens [KV heads, n], which get `shares` [KV heads, n] of each head's attention."""
        rows = chosen.flatten() // CHUNK
        if (short := int(rows.max()) + 1 - self._mass.numel()) > 0:
            self._mass, self._entries = (torch.cat((part, torch.zeros(short))) for part in (self._mass, self._entries))
        self._mass.index_add_(0, rows, shares.flatten() / chosen.shape[0])
        self._entries.index_add_(0, rows, torch.full((rows.numel(),), 1 / chosen.shape[0]))
        self.missed += missed
        self.choices += 1

    def told(self, count: int = 8) -> Recalled:
        """What was recalled since `restart`: the `count` chunks with the most attention."""
        if not self.choices:
            return Recalled(steps=self.steps)
        mass, entries = self._mass / self.choices, self._entries / self.choices
        best = mass.topk(min(count, mass.numel())).indices.tolist()
        spans = [
            Span(row * CHUNK, (row + 1) * CHUNK, round(float(entries[row])), float(mass[row]))
            for row in best
            if mass[row] > 0
        ]
        moved = round(sum(self.moved.values()) / len(self.moved))
        return Recalled(spans, self.missed / self.choices, self.exact_steps, self.steps, moved)

    def _extend_homes(self, stored: Stored, rows: int) -> None:
        known = self.homes.numel() // CHUNK
        if known < rows:
            assert stored.branch is not None
            more = [place for header in stored.branch.headers[known:rows] for place in header.positions]
            self.homes = torch.cat((self.homes, torch.tensor(more)))


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be recalled: the first `rows` rows of what is stored; the first `first` tokens are always resident."""

    stored: Stored
    rows: int
    first: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """Shortlisted rows of a layer: their numbers, and where their sections lie (`at` names the row of `sections`)."""

    rows: Tensor
    sections: Tensor
    at: Tensor

    @property
    def tokens(self) -> Tensor:
        """Every token of the rows, ascending."""
        return (self.rows[:, None] * CHUNK + torch.arange(CHUNK)).flatten()


class Recall:
    """One pass of the model with recall (`memory.attention.Beyond`)."""

    def __init__(self, owner: Recaller, spill: Spill, reach: Reach, layers: Sequence[WorkingSetLayer]) -> None:
        self._owner, self._spill, self._reach, self._layers = owner, spill, reach, layers
        self._fell_back = False

    def look(self, index: int, query: Tensor, scale: float) -> int | None:
        """Choose for layer `index` unless the last choice stands; `query` [1, query heads, tokens, size].

        The number of entries before the tail, to be attended to where they are stored, when the choice misses too much.
        """
        layer = self._layers[index]
        slots = layer.length - (layer.seen - self._reach.rows * CHUNK)
        if slots <= self._reach.first or layer.complete:
            return None
        asking = query[0, :, -QUERIES:].to("cpu", torch.float32)
        asked = self._owner.asked.get(index)
        if asked is None or self._moved(asked, asking):
            missed = self._choose(index, asking.reshape(layer.shape.kv_heads, -1, asking.shape[-1]), scale, slots)
            asked = self._owner.asked[index] = Asked(asking[:, -1], self._owner.steps, missed)
        if asked.missed <= self._owner.policy.fallback or layer.reindexed:
            return None
        self._fell_back = True
        return slots

    def attend(self, layer: int, query: Tensor, scale: float) -> Partial:
        """Exact attention to every stored row: the choice for this layer missed too much."""
        way = Stream(self._spill, self._reach.stored, self._scratch(query))
        groups = groups_of(range(self._reach.rows))
        way.begin([layer], groups)
        return reduce(merge, [way.attend(layer, group, query, scale) for group in groups])

    def finish(self) -> None:
        """Count the pass."""
        self._owner.exact_steps += self._fell_back

    # --- one choice --------------------------------------------------------------------------------------------------

    def _moved(self, asked: Asked, asking: Tensor) -> bool:
        """Whether the queries have moved since the last choice, or it is too old."""
        policy = self._owner.policy
        if asking.shape[1] > 1 or self._owner.steps - asked.step >= policy.every:
            return True
        return float(cosine_similarity(asking[:, 0], asked.queries, dim=-1).mean()) < policy.still

    def _choose(self, index: int, queries: Tensor, scale: float, slots: int) -> float:
        """Make the best stored tokens for `queries` [KV heads, n, size] resident; the share of attention missed."""
        policy, layer, first = self._owner.policy, self._layers[index], self._reach.first
        found = self._candidates(index, queries, scale, slots - first)
        rest, logits = self._rest(layer, queries, scale, slots), self._logits(index, queries, scale, found)
        tokens = found.tokens
        always = int(torch.searchsorted(tokens, first))  # these are resident whatever is chosen, and in `rest`
        logits[..., :always] = -torch.inf
        origins = tokens.expand(logits.shape[0], -1)
        view = LayerView(layer.stored[0], origins, queries, scale, layer.seen, rest, logits)
        scores = policy.score(view)
        scores[:, :always] = -1.0
        best = scores.topk(min(slots - first, scores.shape[1]), sorted=False).indices
        shares = probabilities(view).mean(1)
        taken = shares.gather(1, best)
        missed = float(shares.sum() - taken.sum()) / shares.shape[0]
        self._owner.note(tokens[best], taken, missed)
        self._exchange(index, slots, tokens[best], found)
        return missed

    def _candidates(self, index: int, queries: Tensor, scale: float, count: int) -> Candidates:
        reach, spill = self._reach, self._spill
        listed = min(
            reach.rows,
            -(-int(self._owner.policy.shortlist * count) // CHUNK),
            spill.most_rows(reach.stored, index, reach.rows),
        )
        rows = self._owner.digests.shortlist(index, queries, scale, reach.rows, listed)
        return Candidates(rows, *spill.sections(reach.stored, index, rows.tolist()))

    def _logits(self, index: int, queries: Tensor, scale: float, found: Candidates) -> Tensor:
        """`queries` [KV heads, n, size] times the candidates' keys, scored as they are decoded."""
        spill = self._spill
        kv_heads, size = spill.codec.shapes[index]
        asking, used = queries * scale, found.sections[:, : spill.codec.key_bytes(index)]
        logits = torch.empty((kv_heads, queries.shape[1], found.rows.numel() * CHUNK))
        for first in range(0, found.rows.numel(), GROUP):
            some = used.index_select(0, found.at[first : first + GROUP])
            keys = self._owner.keys[: kv_heads * some.shape[0] * CHUNK * size].view(
                kv_heads, some.shape[0], CHUNK, size
            )
            spill.codec.keys(index, some, keys)
            out = logits[..., first * CHUNK : (first + some.shape[0]) * CHUNK]
            out.copy_(asking @ keys.flatten(1, 2).transpose(1, 2))
        return logits

    def _rest(self, layer: WorkingSetLayer, queries: Tensor, scale: float, slots: int) -> Tensor:
        """Log-sum-exp of the queries over what is resident whatever is chosen, [KV heads, n]."""
        keys = layer.stored[0]
        parts = [part.to("cpu", torch.float32) for part in (keys[:, : self._reach.first], keys[:, slots:])]
        sums = [(queries @ part.transpose(1, 2)).mul_(scale).logsumexp(-1) for part in parts if part.shape[1]]
        return torch.stack(sums).logsumexp(0)

    def _exchange(self, index: int, slots: int, chosen: Tensor, found: Candidates) -> None:
        """Let the entries leave that were not chosen, and those come that were and are not resident."""
        layer, first = self._layers[index], self._reach.first
        held = layer.origins()[:, first:slots].to("cpu", torch.int64)
        marks = torch.zeros((held.shape[0], self._reach.rows * CHUNK), dtype=torch.int8)
        marks.scatter_(1, chosen, 1)
        leaving = (marks.gather(1, held) == 0).nonzero()
        marks.scatter_(1, held, 2)
        entering = (marks.gather(1, chosen) == 1).nonzero()
        moved = self._owner.moved
        moved[index] = moved.get(index, 0.0) + entering.shape[0] / held.shape[0]
        if not entering.numel():
            return
        leaving = _paired(leaving, entering, held.shape[0])
        heads = entering[:, 0]
        tokens = chosen[heads, entering[:, 1]]
        at = found.at[torch.searchsorted(found.rows, tokens // CHUNK)]
        keys, values = self._spill.codec.tokens(index, found.sections, torch.stack((at, heads, tokens % CHUNK)))
        places = torch.stack((heads, leaving[:, 1] + first))
        layer.exchange(*(part.to(layer.device) for part in (places, tokens, self._owner.homes[tokens], keys, values)))

    def _scratch(self, query: Tensor) -> Scratch:
        """Room for decoded rows where the queries are; made once."""
        if self._owner.scratch is None:
            size = 2 * EXACT_GROUP * CHUNK * max(heads * size for heads, size in self._spill.codec.shapes)
            self._owner.scratch = Scratch(torch.empty(size, dtype=query.dtype, device=query.device))
        return self._owner.scratch


def _paired(leaving: Tensor, entering: Tensor, heads: int) -> Tensor:
    """As many of each head's leaving entries as come to it; both are sorted by head."""
    if leaving.shape[0] == entering.shape[0]:
        return leaving
    needed = torch.bincount(entering[:, 0], minlength=heads)
    return torch.cat([leaving[leaving[:, 0] == head][: int(needed[head])] for head in range(heads)])
