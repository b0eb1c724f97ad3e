"""What is known of one conversation's episodes while they grow: from the database, and back into it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from memory.cluster import PATCH_SEGMENTS, Clustering, Grouping, regrouped
from memory.encoder import Encoder
from memory.episode_store import EpisodeStore
from memory.episode_view import EpisodeRow
from memory.policy.patched_prompt import INSTRUCTION
from memory.titles import candidates

TITLE_WORDS, STEM = 3, 4
"""Words of a title, no two of which begin with the same so many letters."""

RETITLE = 1.5
"""An episode gets a new title when it has grown by this factor, and whenever everything was grouped anew."""

NEAREST = 4
"""Segments that are named as nearest to a question."""


@dataclass(slots=True)
class Known:
    """The segments of a conversation that have vectors, and their groups; `titled`: (size then, title) by episode."""

    segments: list[int]
    grouping: Grouping
    titled: dict[int, tuple[int, str]] = field(default_factory=dict)
    groupings: int = 0
    """How often everything had been grouped when the titles were made."""
    saved: bool = False

    def grow(self, segments: Sequence[int], vectors: Iterable[Tensor]) -> None:
        """Add the next segments, with their unit vectors [size]."""
        for segment, vector in zip(segments, vectors, strict=True):
            self.segments.append(segment)
            self.grouping.add(vector)
            self.saved = False

    def nearest_to(self, vector: Tensor, count: int = NEAREST) -> list[tuple[int, float]]:
        """The `count` segments most similar to a unit vector [size], the most similar first, with cosines."""
        if not self.segments:
            return []
        similar = torch.stack(self.grouping.rows) @ vector
        return [(self.segments[place], float(similar[place])) for place in nearest(similar, count)]


def read(store: EpisodeStore, conversation: str, encoder: str) -> Known:
    """What the database knows; grouped from the vectors where its groups are not those of a beginning of them."""
    rows = store.vectors(conversation, encoder)
    segments, vectors = [segment for segment, _ in rows], [tensor_of(vector) for _, vector in rows]
    members = store.memberships(conversation)
    log = [Clustering(*row) for row in store.clusterings(conversation)]
    next_id, count = store.last_id(conversation) + 1, len(members)
    if list(members) != segments[:count] or (log and log[-1].vectors > len(segments)):
        return Known(segments, regrouped(vectors, next_id))
    grouping = Grouping.of(vectors[:count], list(members.values()), next_id, log)
    named = store.titles(conversation)
    titled = {episode: (grouping.labels.count(episode), named[episode]) for episode in grouping.ids}
    known = Known(segments[:count], grouping, titled, len(log))
    known.grow(segments[count:], vectors[count:])
    return known


def save(store: EpisodeStore, conversation: str, known: Known, encoder: Encoder) -> None:
    """Write groups, titles and patches."""
    _title(store, conversation, known, encoder)
    grouping, rows, members = known.grouping, list[EpisodeRow](), list[tuple[int, int, float]]()
    for episode, centroid in zip(grouping.ids, grouping.centroids(), strict=True):
        inside = [known.segments[place] for place in grouping.members(episode)]
        similar = grouping.similarities(episode)
        row = _row(store, conversation, episode, inside, similar, known.titled[episode][1], bytes_of(centroid))
        rows.append(row)
        members += [(segment, episode, value) for segment, value in zip(inside, similar.tolist(), strict=True)]
    log = [(entry.vectors, entry.groups, entry.cohesion, entry.reason) for entry in grouping.log]
    store.save(conversation, rows, members, log)
    known.saved = True


def patch_text(segments: Iterable[Sequence[str]]) -> str:
    """The patch of an episode: the instruction, then what the turns of its segments say. Cutting it is the caller's."""
    return "\n\n".join([INSTRUCTION.strip(), *("\n".join(filter(None, turns)) for turns in segments)])


def nearest(similar: Tensor, count: int = PATCH_SEGMENTS) -> list[int]:
    """Places of the `count` highest of the similarities [n], the highest first."""
    return similar.topk(min(count, similar.numel())).indices.tolist()


def bytes_of(vector: Tensor) -> bytes:
    """A vector [size] as little-endian float32."""
    return vector.to(torch.float32).numpy().astype("<f4").tobytes()


def tensor_of(stored: bytes) -> Tensor:
    """The inverse of `bytes_of`, [size] fp32."""
    return torch.frombuffer(bytearray(stored), dtype=torch.float32)


def _row(
    store: EpisodeStore,
    conversation: str,
    episode: int,
    inside: list[int],
    similar: Tensor,
    title: str,
    centroid: bytes,
) -> EpisodeRow:
    order = nearest(similar)
    shown = sorted(inside[place] for place in order)
    patch = patch_text(store.texts(conversation, shown).values())
    medoid, cohesion = inside[order[0]], float(similar.mean())
    return EpisodeRow(episode, title, len(inside), medoid, cohesion, centroid, patch, tuple(shown))


def _title(store: EpisodeStore, conversation: str, known: Known, encoder: Encoder) -> None:
    """Name the episodes that are new or have changed much; all of them, when everything was grouped anew."""
    sizes = {episode: len(known.grouping.members(episode)) for episode in known.grouping.ids}
    old = {} if len(known.grouping.log) != known.groupings else known.titled
    stale = {episode for episode, size in sizes.items() if episode not in old or size >= RETITLE * old[episode][0]}
    known.titled, known.groupings = (
        {episode: old[episode] for episode in sizes if episode in old},
        len(known.grouping.log),
    )
    if stale:
        texts = {segment: "\n".join(said) for segment, said in store.texts(conversation, known.segments).items()}
        members = dict(zip(known.segments, known.grouping.labels, strict=True))
        words = candidates(texts, members, store.speakers(conversation))
        centroids = dict(zip(known.grouping.ids, known.grouping.centroids(), strict=True))
        known.titled |= {
            episode: (sizes[episode], _nearest_words(words[episode], centroids[episode], encoder)) for episode in stale
        }


def _nearest_words(words: Sequence[str], centroid: Tensor, encoder: Encoder) -> str:
    """Of the words that tell an episode from others, those that mean most nearly what it is about."""
    if not words:
        return ""
    order = nearest(encoder.embed([[word] for word in words]) @ centroid, len(words))
    stems = dict[str, str]()
    for place in order:
        stems.setdefault(words[place][:STEM], words[place])
    return ", ".join(list(stems.values())[:TITLE_WORDS])
