"""Recall: the stored tokens that the current queries need take the places of those they do not (docs/memory.md).

Per layer, in two stages: digests of the stored chunks name a shortlist, and the shortlisted keys are scored token by
token where they lie. Only the difference to what is resident moves. What is attended to afterwards is the working set,
so a step costs what a step over the working set costs, and the choice. docs/decisions/0006-when-recall-chooses.md says
when that is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from memory.aside import MOST_ROWS, QUERIES, ROW_GROUP, SCORED_ROWS
from memory.attention import Partial, merge
from memory.block import CHUNK
from memory.budget import MIB
from memory.cache import WorkingSetLayer
from memory.codec import split
from memory.digest import Digests
from memory.exact import Stream, groups_of
from memory.exchange import Candidates, Slots, exchange
from memory.policy import LayerView, Policy
from memory.rest import Rest
from memory.scoring import Scoring
from memory.spill import Scratch, Spill, Stored

NOTED = 5
"""Of so many choices one is noted, to be told."""

SLOWEST = 12
"""Tokens after which a layer may choose anew, however much longer that takes than `pace` allows."""

NEARLY_ALL = 0.7
"""Where digests would name more of the rows than this, all are scored: it costs less than to ask the digests."""

SENTENCE = 16
"""Tokens of a sentence where nobody says which tokens end one."""

CHOICE, RESCORE = 46 * MIB, 5.0
"""A layer's choice takes as long as so many bytes of weights and resident KV take to be read, and for every byte of
keys that it scores as so many bytes more. Measured on a CPU (benchmarks.recall); it sets the pace by sizes alone, so
that replies do not depend on what else the machine does."""

FIRST_RATE, RATE_STEP = 0.5, 0.01
"""Share of the turns in which a layer's queries have moved, as a reply begins, and how fast that is learnt."""


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
    None when nothing was chosen; `bound`: the most it can be with the rows that digests left out and nobody looked at.
    `moved`: entries per head that came into the working set, a mean over the layers.
    """

    spans: list[Span] = field(default_factory=list)
    missed: float | None = None
    bound: float | None = None
    exact_steps: int = 0
    steps: int = 0
    moved: int = 0


@dataclass(slots=True)
class Asked:
    """The last choice of a layer: for which queries [query heads, size], when, whether it missed too much, and what
    stands in for the rest, for the positions told by `stood` (see `_stood`)."""

    queries: Tensor
    step: int
    missed: float
    rest: Rest
    stood: int


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be recalled: the first `rows` rows of what is stored; the first `first` tokens are always resident."""

    stored: Stored
    rows: int
    first: int


class Recaller:
    """Chooses for one conversation: its digests, what each layer chose for last, and what there is to tell."""

    def __init__(
        self, spill: Spill, policy: Policy, layers: Sequence[int], step_bytes: int, ends: frozenset[int]
    ) -> None:
        """`layers` attend to everything and are chosen for; a token reads `step_bytes` without recall; the tokens
        `ends` end a sentence."""
        self.policy = policy
        self._step_bytes = step_bytes
        self._layers = len(layers)
        self._key_bytes = sum(spill.codec.key_bytes(layer) for layer in layers)
        self.digests = Digests(spill, layers)
        self.homes = torch.zeros(0, dtype=torch.int64)
        self.sentences = torch.zeros(0, dtype=torch.int64)
        self.ended = True
        self._ends = ends
        self.looked_at: dict[int, list[int]] = {}
        """Rows whose tokens a layer scored last."""
        self.following = dict(pairwise(layers))
        self.keys = torch.empty(SCORED_ROWS * CHUNK * max(heads * size for heads, size in spill.codec.shapes))
        self.scratch: Scratch | None = None
        self.kept: Mapping[int, Tensor] = {}
        """Tokens [KV heads, n] of a layer that stay where they are resident."""
        self._spill = spill
        self.restart()

    def cut(self, rows: int) -> None:
        """Only the first `rows` stored rows belong to the conversation now."""
        self.digests.cut(rows)
        self.homes, self.sentences = self.homes[: rows * CHUNK], self.sentences[: rows * CHUNK]

    def restart(self) -> None:
        """A turn begins: every layer chooses anew, and what was told is forgotten."""
        self.asked: dict[int, Asked] = {}
        self.steps = self.exact_steps = 0
        self.choices, self.noted, self.moved = 0, 0, dict[int, float]()
        self._rate = FIRST_RATE
        self.missed = self.bound = 0.0
        self._mass = self._entries = torch.zeros(0)

    def begin(self, reach: Reach, read: Sequence[int], layers: Sequence[WorkingSetLayer]) -> RecallPass:
        """A pass of the model after the tokens `read`; what lies in `reach` may be recalled.

        Raises:
            RowDamaged: a row that has no digest yet is not what was written.
        """
        self.digests.extend(reach.stored, reach.rows)
        self._extend_homes(reach.stored, reach.rows)
        if self.policy.unit == "sentence":
            self._extend_sentences(read, reach.rows)
            self.ended = self._ends_sentence(read, len(read) - 1)
        self.steps += 1
        return RecallPass(self, self._spill, reach, layers)

    def stands(self, rows: int) -> int:
        """Of so many tokens a layer may choose for one; the layers take turns. It counts on as many choices of those
        that may as there were lately."""
        choosing = self._layers * CHOICE + RESCORE * self._key_bytes * rows
        share = self._rate * choosing / max(1, self._step_bytes)
        return max(1, min(SLOWEST, round(share / self.policy.pace)))

    def had_a_turn(self, *, chose: bool) -> None:
        """A layer might choose for a single token, and did or did not."""
        self._rate += (chose - self._rate) * RATE_STEP

    def looks_closely(self) -> bool:
        """Whether what a layer chose shall be noted: always when the step may fall back, else now and then."""
        self.choices += 1
        return self.policy.fallback < 1 or self.choices % NOTED == 1

    def note(self, weights: Tensor, best: Tensor, chosen: Tensor, unseen: float) -> float:
        """A layer chose the tokens `chosen` [KV heads, n], `best` of those that get `weights` [KV heads, m, tokens].

        `unseen`: the most that rows nobody looked at can have. Returns the share of the attention that fell on others.
        """
        shares = weights.mean(1)
        taken = shares.gather(1, best)
        missed = float(shares.sum() - taken.sum()) / shares.shape[0]
        rows = chosen.flatten() // CHUNK
        if (short := int(rows.max()) + 1 - self._mass.numel()) > 0:
            self._mass, self._entries = (torch.cat((part, torch.zeros(short))) for part in (self._mass, self._entries))
        self._mass.index_add_(0, rows, taken.flatten() / chosen.shape[0])
        self._entries.index_add_(0, rows, torch.full((rows.numel(),), 1 / chosen.shape[0]))
        self.missed += missed
        self.bound += unseen + (1 - unseen) * missed
        self.noted += 1
        return missed

    def told(self, count: int = 8) -> Recalled:
        """What was recalled since `restart`: the `count` chunks with the most attention."""
        if not self.choices:
            return Recalled(steps=self.steps)
        mass, entries = self._mass / self.noted, self._entries / self.noted
        best = mass.topk(min(count, mass.numel())).indices.tolist()
        spans = [
            Span(row * CHUNK, (row + 1) * CHUNK, round(float(entries[row])), float(mass[row]))
            for row in best
            if mass[row] > 0
        ]
        moved = round(sum(self.moved.values()) / len(self.moved))
        return Recalled(spans, self.missed / self.noted, self.bound / self.noted, self.exact_steps, self.steps, moved)

    def _extend_sentences(self, read: Sequence[int], rows: int) -> None:
        known, last = self.sentences.numel(), int(self.sentences[-1]) if self.sentences.numel() else 0
        if known < rows * CHUNK:
            begins = [self._ends_sentence(read, at - 1) for at in range(known, rows * CHUNK)]
            self.sentences = torch.cat((self.sentences, last + torch.tensor(begins).cumsum(0)))

    def _ends_sentence(self, read: Sequence[int], at: int) -> bool:
        return read[at] in self._ends if self._ends else not (at + 1) % SENTENCE

    def _extend_homes(self, stored: Stored, rows: int) -> None:
        known = self.homes.numel() // CHUNK
        if known < rows:
            assert stored.branch is not None
            more = [place for header in stored.branch.headers[known:rows] for place in header.positions]
            self.homes = torch.cat((self.homes, torch.tensor(more)))


class RecallPass:
    """One pass of the model with recall (`memory.attention.Beyond`)."""

    def __init__(self, owner: Recaller, spill: Spill, reach: Reach, layers: Sequence[WorkingSetLayer]) -> None:
        self._owner, self._spill, self._reach, self._layers = owner, spill, reach, layers
        self._fell_back = False
        self._rest: Rest | None = None
        self._stands = owner.stands(min(reach.rows, MOST_ROWS))

    def look(self, index: int, query: Tensor, scale: float) -> int | None:
        """Choose for layer `index` unless the last choice stands; `query` [1, query heads, tokens, size].

        The number of entries before the tail, to be attended to where they are stored, when the choice misses too much.

        Raises:
            RowDamaged: a row on disk is not what was written.
        """
        layer, asked = self._layers[index], self._owner.asked.get(index)
        slots = layer.length - (layer.seen - self._reach.rows * CHUNK)
        self._rest = None
        if slots <= self._reach.first or layer.complete:
            return None
        if (following := self._owner.following.get(index)) is not None:
            self._expect(following, alone=query.shape[2] == 1)
        if asked is None or query.shape[2] > 1 or self._may_choose(index, asked):
            asking = query[0, :, -QUERIES:].to("cpu", torch.float32)
            if asked is None or self._moved(asked, asking):
                missed, rest = self._choose(index, asking, scale, slots)
                rest = rest.to(query)
                asked = self._owner.asked[index] = Asked(asking[:, -1], self._owner.steps, missed, rest, _stood(layer))
        self._rest = asked.rest if asked.stood == _stood(layer) else None
        if asked.missed <= self._owner.policy.fallback or layer.reindexed:
            return None
        self._fell_back = True
        return slots

    def attend(self, layer: int, query: Tensor, scale: float) -> Partial:
        """Exact attention of `query` [1, KV heads, rows, size] to every stored row, fp32: the choice for this layer
        missed too much.

        Raises:
            RowDamaged: a row on disk is not what was written.
        """
        way = Stream(self._spill, self._reach.stored, self._scratch(query))
        groups = groups_of(range(self._reach.rows))
        way.begin([layer], groups)
        return reduce(merge, [way.attend(layer, group, query, scale) for group in groups])

    def rest(self, layer: int, query: Tensor, scale: float) -> Partial | None:  # noqa: ARG002 - the layer looked at last
        """What stands in for the stored tokens that were not chosen (`memory.rest`); `query` [1, KV heads, group,
        size]."""
        return None if self._rest is None else self._rest.attend(query, scale)

    def finish(self) -> None:
        """Count the pass."""
        self._owner.exact_steps += self._fell_back

    @cached_property
    def _everywhere(self) -> Tensor | None:
        """Where all rows lie in RAM: the same for every layer."""
        return self._spill.slots(self._reach.stored, range(self._reach.rows))

    def _expect(self, index: int, *, alone: bool) -> None:
        """While another layer is busy, what layer `index` may look at comes from disk: what it looked at last."""
        rows, asked = self._owner.looked_at.get(index), self._owner.asked.get(index)
        if rows and (asked is None or not alone or self._may_choose(index, asked)):
            self._spill.expect(self._reach.stored, index, rows)

    # --- one choice --------------------------------------------------------------------------------------------------

    def _may_choose(self, index: int, asked: Asked) -> bool:
        """Whether it is the layer's turn, or its last choice is too old."""
        owner, policy = self._owner, self._owner.policy
        turn = owner.ended if policy.unit == "sentence" else not (owner.steps + index) % self._stands
        return turn or owner.steps - asked.step >= policy.every

    def _moved(self, asked: Asked, asking: Tensor) -> bool:
        """Whether the queries have moved since the last choice, or that is too old."""
        if asking.shape[1] > 1:
            return True
        policy = self._owner.policy
        similar = float(cosine_similarity(asking[:, 0], asked.queries, dim=-1).mean())
        moved = similar < policy.still or self._owner.steps - asked.step >= policy.every
        self._owner.had_a_turn(chose=moved)
        return moved

    def _choose(self, index: int, asking: Tensor, scale: float, slots: int) -> tuple[float, Rest]:
        """Make the best stored tokens for `asking` [query heads, n, size] resident; the share of attention missed, and
        what stands in for what it fell on."""
        policy, layer, first = self._owner.policy, self._layers[index], self._reach.first
        queries = asking.reshape(layer.shape.kv_heads, -1, asking.shape[-1])
        scoring = Scoring(self._spill.codec, layer, index, self._owner.homes, self._owner.keys)
        found = self._candidates(scoring, queries, scale, slots - first)
        tokens = found.tokens
        always = int(torch.searchsorted(tokens, first))  # these are resident whatever is chosen, and in the rest
        logits = self._logits(scoring, queries * scale, found, always, slots)
        shares = logits.softmax(-1)
        weights = shares[..., : tokens.numel()]
        origins = tokens.expand(weights.shape[0], -1)
        sentences = self._owner.sentences[tokens] if policy.unit == "sentence" else None
        scores = policy.score(LayerView(layer.stored[0], origins, queries, scale, layer.seen, weights, sentences))
        scores[:, :always] = -1.0
        kept, room = self._kept(index, scores, tokens, slots)
        best = scores.topk(min(room, scores.shape[1]), sorted=False).indices
        chosen = tokens[best]
        last = slice(asking.shape[1] - 1, None, asking.shape[1])
        means = self._owner.digests.means(scoring, found.rows)
        rest = Rest.of(queries[:, last] * scale, logits[:, last], shares[:, last], best, *means)
        places = Slots(layer, index, first, slots, self._reach.rows)
        came = exchange(places, torch.cat((chosen, kept), dim=1), found, self._owner.homes, self._spill.codec)
        self._owner.moved[index] = self._owner.moved.get(index, 0.0) + came
        if not self._owner.looks_closely():
            return 0.0, rest
        unseen = self._unseen(scoring, queries * scale, found, logits.logsumexp(-1))
        return self._owner.note(weights, best, chosen, unseen), rest

    def _kept(self, index: int, scores: Tensor, tokens: Tensor, slots: int) -> tuple[Tensor, int]:
        """Tokens [KV heads, n] that are resident and stay, and how many to choose; those of them that have `scores`
        are made to be chosen."""
        first, span, kept = self._reach.first, self._reach.rows * CHUNK, self._owner.kept.get(index)
        if kept is None or not kept.numel():
            return torch.zeros((scores.shape[0], 0), dtype=torch.int64), slots - first
        held = torch.zeros((kept.shape[0], span), dtype=torch.bool)
        held.scatter_(1, self._layers[index].origins()[:, first:slots].to("cpu", torch.int64), value=True)
        there = (kept < span) & held.gather(1, kept.clamp(max=span - 1))
        count = int(there.sum(1).min())
        kept = kept.gather(1, there.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count])
        stays = torch.zeros_like(held).scatter_(1, kept, value=True)[:, tokens]
        scores.masked_fill_(stays, torch.inf)
        return kept, slots - first - count + int(stays.sum(1).min())

    def _candidates(self, scoring: Scoring, queries: Tensor, scale: float, count: int) -> Candidates:
        reach, spill, index = self._reach, self._spill, scoring.index
        wanted = -(-int(self._owner.policy.shortlist * count) // CHUNK)
        if wanted >= NEARLY_ALL * reach.rows:
            wanted = reach.rows
        listed = min(wanted, MOST_ROWS, spill.most_rows(reach.stored, index, reach.rows))
        rows = self._owner.digests.shortlist(scoring, queries, scale, reach.rows, listed)
        slots = self._everywhere if rows.numel() == reach.rows else None
        numbers = self._owner.looked_at[index] = rows.tolist()
        return Candidates(rows, *spill.sections(reach.stored, index, numbers, slots))

    def _logits(self, scoring: Scoring, queries: Tensor, found: Candidates, always: int, slots: int) -> Tensor:
        """`queries` [KV heads, n, size], scaled, times the keys of the candidates and then of what is resident whatever
        is chosen, [KV heads, n, tokens + those]; the `always` first candidates are among the latter and count there."""
        used, rows = self._spill.codec.key_bytes(scoring.index), found.rows
        parts = [
            scoring.dots(queries, found.part(first, SCORED_ROWS, used), rows[first : first + SCORED_ROWS]).flatten(2)
            for first in range(0, rows.numel(), SCORED_ROWS)
        ]
        parts[0][..., :always] = -torch.inf
        keys = scoring.layer.stored[0]
        rest = [part.to("cpu", torch.float32) for part in (keys[:, : self._reach.first], keys[:, slots:])]
        return torch.cat([*parts, *(queries @ part.transpose(1, 2) for part in rest)], dim=2)

    def _unseen(self, scoring: Scoring, queries: Tensor, found: Candidates, total: Tensor) -> float:
        """The most attention that can fall on rows that nobody looked at, as a share of all; `total` [KV heads, n] is
        the log-sum-exp of what was."""
        digests, rows = self._owner.digests, self._reach.rows
        if found.rows.numel() == rows:
            return 0.0
        if scoring.layer.reindexed:  # digests bound keys as they were rotated
            return 1.0
        ceiling = digests.ceiling(scoring.index, queries, rows)
        listed = torch.zeros(ceiling.shape[-1] * digests.per, dtype=torch.bool).index_fill_(0, found.rows, True)
        listed[rows:] = True
        unlisted = split(listed.logical_not(), 0, (-1, digests.per)).sum(1) * CHUNK
        most = (ceiling + unlisted.log()).logsumexp(-1)
        return float(torch.sigmoid(most - total).mean())

    def _scratch(self, query: Tensor) -> Scratch:
        """Room for decoded rows where the queries are; made once."""
        if self._owner.scratch is None:
            size = 2 * ROW_GROUP * CHUNK * max(heads * size for heads, size in self._spill.codec.shapes)
            self._owner.scratch = Scratch(torch.empty(size, dtype=query.dtype, device=query.device))
        return self._owner.scratch


def _stood(layer: WorkingSetLayer) -> int:
    """Changes when positions do: in a re-indexed layer they are places among the entries, elsewhere tokens'."""
    return layer.seen - layer.length if layer.reindexed else -1
