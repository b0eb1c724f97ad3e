"""Episodes of conversations: turns into segments, segments into groups about one topic, questions to the nearest group.

All of it happens beside the model: one thread owns the database and embeds finished segments, a second one embeds the
question that is being asked, so that it waits for nothing. What goes wrong with the disk is told, never raised.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from memory.block import common
from memory.encoder import Encoder
from memory.episode_state import Known, bytes_of, read, save, tensor_of
from memory.episode_store import EpisodeStore
from memory.episode_view import NEW_QUESTION, EpisodeView, Route, SegmentView
from memory.segment import TURNS, EpisodeTurn, lines, tidy
from memory.thread import lone_thread

BATCH = 16
"""Segments that are embedded before anything else that waits has its turn."""

KEPT = 4
"""Conversations whose vectors stay in memory."""

T = TypeVar("T")
Following = Callable[[], Any]
"""What a step leaves to be done after whatever waits already."""


@dataclass(frozen=True, slots=True)
class Centroids:
    """What routing needs: unit vectors [episodes, size] of the episodes `ids`."""

    ids: list[int]
    vectors: Tensor


class Episodes:
    """The episodes of all conversations. May be called from any thread."""

    def __init__(self, path: Path | None, encoder: Encoder | None, reason: str | None = None) -> None:
        """Keep them in `path` (None: in memory only); without an encoder turns are noted and nothing is grouped.

        `reason` says why there is none, to those who ask.

        Raises:
            OSError: not even an empty database can be made.
        """
        self.encoder = encoder
        self.reason = reason
        self.failure: str | None = None
        """What went wrong last, until something goes right."""
        self._closing = False
        self._known = dict[str, Known]()
        self._centroids = dict[str, Centroids]()
        self._last = dict[str, int | None]()
        self._work, self._asking = lone_thread("episodes"), lone_thread("route")
        self._store = self._call(EpisodeStore, path)

    # --- what the worker does ----------------------------------------------------------------------------------------

    def observe(self, conversation: str, turns: Sequence[EpisodeTurn]) -> Future[None]:
        """Note turns (all so far, or the new ones) and embed the segments they finish; done when that is.

        A turn that was noted is told by its id; where the text differs from what was noted, it and what follows is
        replaced.
        """
        done: Future[None] = Future()
        self._step(done, self._note, conversation, [tidy(turn) for turn in turns])
        return done

    def route(self, conversation: str, turn: int, text: str) -> Route | None:
        """The episode that a question is nearest to, logged; None when there is none."""
        centroids = self._routable(conversation)
        route, vector = Route(turn, None, asked=datetime.now(UTC).isoformat(timespec="seconds")), None
        if self.encoder is not None and text.strip() and centroids is not None:
            try:
                vector = self._asking.submit(self.encoder.embed, [[text]]).result()[0]
                route = _nearest(route, centroids, vector, self._last[conversation])
            except RuntimeError as error:  # out of memory: the question is answered all the same
                self._failed(error)
            self._last[conversation] = route.episode
        self._step(Future(), self._log, conversation, route, vector)
        return route if route.episode is not None else None

    def note_recalled(self, conversation: str, turn: int, recalled: str) -> None:
        """What the reply to a routed question fetched, as JSON."""
        self._step(Future(), self._store.set_recalled, conversation, turn, recalled)

    def forget(self, conversation: str) -> None:
        """Remove everything of a conversation.

        Raises:
            OSError: it could not be removed.
        """
        self._call(self._forget, conversation)

    def close(self) -> None:
        """Finish the batch at hand and close the file; what is not embedded is when the turns are observed again."""
        if self._closing:
            return
        self._closing = True
        self._work.submit(self._store.close)
        self._work.shutdown()
        self._asking.shutdown()

    # --- what can be seen --------------------------------------------------------------------------------------------

    def patch(self, conversation: str, episode: int) -> str:
        """The text whose queries score the cache on behalf of an episode; empty for one that does not exist."""
        return self._call(self._store.patch, conversation, episode)

    def patches(self, conversation: str) -> dict[int, str]:
        """The patches of all current episodes, the largest one's first."""
        return self._call(self._store.patches, conversation)

    def nearest(self, conversation: str, episode: int, text: str) -> list[SegmentView]:
        """The segments of an episode, the one most similar to `text` first; none without an encoder."""
        if self.encoder is None:
            return []
        vector = self._asking.submit(self.encoder.embed, [[text]]).result()[0]
        return self._call(self._nearest, conversation, episode, vector)

    def map(self, conversation: str) -> list[EpisodeView]:
        """The current episodes with their segments."""
        return self._call(self._store.map, conversation)

    def segments(self, conversation: str) -> list[SegmentView]:
        """Every segment in order, the unfinished one last."""
        return self._call(self._store.segments, conversation)

    def titles(self, conversation: str) -> dict[int, str]:
        """The title of every episode there ever was."""
        return self._call(self._store.titles, conversation)

    def routes(self, conversation: str) -> list[Route]:
        """Where the questions went, the newest last."""
        return self._call(self._store.routes, conversation)

    # --- the thread that owns the database ---------------------------------------------------------------------------

    def _call(self, function: Callable[..., T], *args: object) -> T:
        return self._work.submit(function, *args).result()

    def _step(self, done: Future[None], step: Callable[..., Following | None], *args: object) -> None:
        """Do `step` on the thread; when it returns another one, that one after what waits already."""

        def run() -> None:
            try:
                following = step(*args)
            except Exception as error:
                self._failed(error)
                done.set_exception(error)
                return
            self.failure = None
            if following is None or self._closing:
                done.set_result(None)
            else:
                self._step(done, following)

        if not self._closing:
            self._work.submit(run)
        else:
            done.cancel()

    def _failed(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        self.failure = f"Episodes are not being kept ({reason}). The chat goes on without new ones."

    def _log(self, conversation: str, route: Route, vector: Tensor | None) -> None:
        """Record a route with the segments nearest to its question."""
        near = [] if vector is None else self._load(conversation).nearest_to(vector)
        told = json.dumps([{"segment": segment, "similarity": similarity} for segment, similarity in near])
        self._store.log(conversation, replace(route, nearest=told))

    def _note(self, conversation: str, turns: list[EpisodeTurn]) -> Following | None:
        known = self._store.known(conversation)
        places = {turn: position for position, (turn, *_) in enumerate(known)}
        start = places.get(turns[0].id, len(known)) if turns else len(known)
        same = common([turn[:2] for turn in known[start:]], [(turn.id, turn.digest) for turn in turns])
        if any(old[2:] != (turn.first, turn.last) for old, turn in zip(known[start:], turns[:same], strict=False)):
            self._store.move(conversation, start, [(turn.first, turn.last) for turn in turns[:same]])
        if same < len(turns):
            self._replace(conversation, len(known), start + same, turns[same:])
        return lambda: self._embed(conversation)

    def _replace(self, conversation: str, known: int, position: int, turns: list[EpisodeTurn]) -> None:
        """From `position` on the conversation has these turns now."""
        if position < known:
            self._store.cut(conversation, position)
            self._known.pop(conversation, None)
        texts = lines(turns[: -position % TURNS], self._store.open_date(conversation, position))
        for first in range(-position % TURNS, len(turns), TURNS):
            texts += lines(turns[first : first + TURNS])
        self._store.add(conversation, position, turns, texts)

    def _embed(self, conversation: str) -> Following | None:
        """Embed some of the segments that wait; None when all are, and saved."""
        if self.encoder is None:
            return None
        known = self._load(conversation)
        waiting = self._store.pending(conversation, self.encoder.name, BATCH)
        if waiting:
            vectors = self.encoder.embed(list(self._store.texts(conversation, waiting).values()))
            named = dict(zip(waiting, map(bytes_of, vectors), strict=True))
            self._store.put_vectors(conversation, self.encoder.name, named)
            known.grow(waiting, vectors)
        elif not known.saved:
            save(self._store, conversation, known, self.encoder)
        if known.grouping.ids:
            self._centroids[conversation] = Centroids(known.grouping.ids, known.grouping.centroids())
        return (lambda: self._embed(conversation)) if waiting else None

    def _load(self, conversation: str) -> Known:
        """What is known of a conversation, from the database when it is not in memory."""
        assert self.encoder is not None
        if conversation not in self._known:
            while len(self._known) >= KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[conversation] = read(self._store, conversation, self.encoder.name)
        return self._known[conversation]

    def _routable(self, conversation: str) -> Centroids | None:
        """The centroids of a conversation; None when it has none."""
        if conversation not in self._last:
            try:
                self._call(self._load_routing, conversation)
            except OSError as error:
                self._failed(error)
                self._last[conversation] = None
        return self._centroids.get(conversation)

    def _load_routing(self, conversation: str) -> None:
        stored = self._store.centroids(conversation)
        if stored and conversation not in self._centroids:
            vectors = torch.stack([tensor_of(centroid) for _, centroid in stored])
            self._centroids[conversation] = Centroids([episode for episode, _ in stored], vectors)
        went = [route.episode for route in self._store.routes(conversation) if route.episode is not None]
        self._last[conversation] = went[-1] if went else None

    def _nearest(self, conversation: str, episode: int, vector: Tensor) -> list[SegmentView]:
        known = self._load(conversation)
        views = {view.segment: view for view in self._store.segments(conversation) if view.episode == episode}
        order = known.nearest_to(vector, len(known.segments))
        return [views[segment] for segment, _ in order if segment in views]

    def _forget(self, conversation: str) -> None:
        self._store.forget(conversation)
        for kept in (self._known, self._centroids, self._last):
            kept.pop(conversation, None)


def _nearest(asked: Route, centroids: Centroids, vector: Tensor, last: int | None) -> Route:
    """The route to the episode of the highest cosine."""
    found = (centroids.vectors @ vector).topk(min(2, len(centroids.ids)))
    episodes, cosines = [centroids.ids[place] for place in found.indices.tolist()], found.values.tolist()
    return replace(
        asked,
        episode=episodes[0],
        similarity=cosines[0],
        runner_up=episodes[1] if len(episodes) > 1 else None,
        runner_up_similarity=cosines[1] if len(episodes) > 1 else None,
        switched=last is not None and last != episodes[0],
        new=cosines[0] < NEW_QUESTION,
    )
