"""Unit vectors into groups: k-means++, and groups that grow one vector at a time and keep their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

EPISODES = 4
"""Groups until growth asks for more."""

MOST = 32
"""Groups at most, however many topics there are."""

PATCH_SEGMENTS = 8
"""Segments of a patch; more groups than `EPISODES` are made only while they can have this many members."""

NEW_SEGMENT = 0.45
"""A segment that is less similar to every centroid begins an episode of its own. Calibrated: docs/episodes.md."""

DRIFT = 0.05
"""Everything is grouped anew when members lie this much farther from their centroids than after the last time."""

FIRST = 8
"""Segments at which everything is grouped for the first time; then whenever their number has doubled."""

SEED, TRIES, STEPS = 42, 10, 100

_FAR = 100.0

Reason = Literal["first", "doubled", "drifted"]


def kmeans(vectors: Tensor, groups: int, seed: int = SEED, tries: int = TRIES) -> Tensor:
    """The group of each vector, the best of `tries` k-means++ starts; at most `groups`, numbered by appearance.

    Euclidean, as published for EpiCache. `vectors` [n, size]; returns [n] int64.
    """
    random = torch.Generator().manual_seed(seed)
    centres = torch.stack([_spread(vectors, min(groups, len(vectors)), random) for _ in range(tries)])
    labels = torch.empty(0)
    for _ in range(STEPS):
        distances = torch.cdist(vectors.expand(tries, -1, -1), centres)
        before, labels = labels, distances.argmin(-1)
        if torch.equal(before, labels):
            break
        members = one_hot(labels, centres.shape[1]).to(vectors.dtype)
        counts = members.sum(1)[..., None]
        means = members.transpose(1, 2) @ vectors / counts.clamp(min=1)
        centres = torch.where(counts > 0, means, _FAR)  # a centre that lost all its members stays away
    best = distances.amin(-1).square().sum(-1).argmin()
    return _by_appearance(labels[best])


def _spread(vectors: Tensor, groups: int, random: torch.Generator) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii, 2007): each next centre is drawn with the square of its distance to the ones
    before."""
    weights = torch.ones(len(vectors))
    chosen = list[Tensor]()
    for _ in range(groups):
        chosen.append(vectors[torch.multinomial(weights + 1e-9, 1, generator=random)[0]])
        distance = (vectors - chosen[-1]).square().sum(-1)
        weights = distance if len(chosen) == 1 else torch.minimum(weights, distance)
    return torch.stack(chosen)


def _by_appearance(labels: Tensor) -> Tensor:
    order = list(dict.fromkeys(labels.tolist()))
    return torch.tensor([order.index(label) for label in labels.tolist()])


@dataclass(frozen=True, slots=True)
class Clustering:
    """When everything was grouped anew: after how many vectors, into how many groups, how close, and why."""

    vectors: int
    groups: int
    cohesion: float
    reason: str


@dataclass(slots=True)
class Grouping:
    """The groups of one conversation. What it holds depends on the vectors and their order alone, not on when they
    came; an id is never given to a second group, so what `next_id` was before a cut is kept (see `regrouped`)."""

    rows: list[Tensor] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    sums: dict[int, Tensor] = field(default_factory=dict)
    next_id: int = 1
    log: list[Clustering] = field(default_factory=list)
    threshold: float = NEW_SEGMENT

    @classmethod
    def of(cls, vectors: Sequence[Tensor], labels: Sequence[int], next_id: int, log: list[Clustering]) -> Grouping:
        """Groups as they were recorded: unit vectors [size], and the group of each."""
        grouping = cls(rows=list(vectors), next_id=next_id, log=log)
        for vector, label in zip(vectors, labels, strict=True):
            grouping._put(vector, label)
        return grouping

    def add(self, vector: Tensor) -> int:
        """Put a unit vector [size] into the nearest group, or a new one; then group anew if it is time. Its group."""
        group = self._nearest(vector)
        self.rows.append(vector)
        self._put(vector, group)
        reason = self._due()
        if reason is not None:
            self._regroup(reason)
        return self.labels[-1]

    @property
    def ids(self) -> list[int]:
        """The groups, the oldest first."""
        return sorted(self.sums)

    def centroids(self) -> Tensor:
        """Unit vectors [groups, size] in the order of `ids`."""
        if not self.sums:
            return torch.empty(0, 0)
        return normalize(torch.stack([self.sums[group] for group in self.ids]), dim=-1)

    def members(self, group: int) -> list[int]:
        """Places of a group's vectors, in order."""
        return [place for place, label in enumerate(self.labels) if label == group]

    def similarities(self, group: int) -> Tensor:
        """Cosines [members] of a group's vectors to its centroid, in the order of `members`."""
        rows = torch.stack([self.rows[place] for place in self.members(group)])
        return rows @ normalize(self.sums[group], dim=-1)

    def cohesion(self) -> float:
        """Mean cosine of all vectors to their centroids (for unit vectors: the lengths of the sums, over the count)."""
        return sum(float(total.norm()) for total in self.sums.values()) / max(1, len(self.rows))

    def most(self) -> int:
        """Groups that this many vectors may have."""
        return min(MOST, max(EPISODES, len(self.rows) // PATCH_SEGMENTS))

    def _nearest(self, vector: Tensor) -> int:
        if not self.sums:
            return self._new()
        similarities = self.centroids() @ vector
        best = int(similarities.argmax())
        stranger = float(similarities[best]) < self.threshold and len(self.sums) < self.most()
        return self._new() if stranger else self.ids[best]

    def _new(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def _put(self, vector: Tensor, group: int) -> None:
        self.labels.append(group)
        self.sums[group] = self.sums[group] + vector if group in self.sums else vector

    def _due(self) -> Reason | None:
        count = len(self.rows)
        if not self.log:
            return "first" if count >= FIRST else None
        last = self.log[-1]
        if count >= 2 * last.vectors:
            return "doubled"
        return "drifted" if count >= last.vectors + FIRST and self.cohesion() < last.cohesion - DRIFT else None

    def _regroup(self, reason: Reason) -> None:
        count = len(self.rows)
        groups = max(min(EPISODES, count // EPISODES), min(len(self.sums), self.most()))
        found = kmeans(torch.stack(self.rows), groups).tolist()
        names = self._names(found)
        self.sums, rows, self.labels = {}, self.rows, []
        for vector, label in zip(rows, found, strict=True):
            self._put(vector, names[label])
        self.log.append(Clustering(count, len(self.sums), self.cohesion(), reason))

    def _names(self, found: Sequence[int]) -> dict[int, int]:
        """New groups keep the id of the old one that they share most members with; others get ids never used."""
        shared = dict[tuple[int, int], int]()
        for new, old in zip(found, self.labels, strict=True):
            shared[new, old] = shared.get((new, old), 0) + 1
        names = dict[int, int]()
        for new, old in sorted(shared, key=lambda pair: (-shared[pair], pair)):
            if new not in names and old not in names.values():
                names[new] = old
        return {new: names[new] if new in names else self._new() for new in dict.fromkeys(found)}


def regrouped(vectors: Sequence[Tensor], next_id: int = 1) -> Grouping:
    """The groups of these unit vectors [size] from scratch; ids below `next_id` that they do not get are not given
    again."""
    grouping = Grouping()
    for vector in vectors:
        grouping.add(vector)
    grouping.next_id = max(grouping.next_id, next_id)
    return grouping
