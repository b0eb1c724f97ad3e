"""Episodes as others see them: what a question was routed to, which segments belong together. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass

NEW_QUESTION = 0.25
"""A question that is less similar to every centroid is about something new. Calibrated: docs/episodes.md."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a question went. `episode` is None when there was none to go to; similarities are cosines.

    `switched`: the question before went elsewhere. `new`: no episode is near, so this may begin a new one.
    `number` counts the questions of a conversation; `asked` is the wall time, for people. `nearest` are the segments
    most similar to the question, whatever their episode, as a JSON list of `segment` and `similarity`; `recalled` is
    what the reply fetched, as `memory.recall.Recalled` writes it.
    """

    turn: int
    episode: int | None
    similarity: float | None = None
    runner_up: int | None = None
    runner_up_similarity: float | None = None
    switched: bool = False
    new: bool = False
    number: int = 0
    asked: str = ""
    nearest: str | None = None
    recalled: str | None = None


@dataclass(frozen=True, slots=True)
class TurnView:
    """One turn: its tokens are `first_token` to `last_token` (exclusive); `text` may be shortened."""

    turn: int
    speaker: str
    date: str | None
    text: str
    first_token: int
    last_token: int


@dataclass(frozen=True, slots=True)
class SegmentView:
    """Consecutive turns; `episode` is None while it is not finished, not embedded yet, or says nothing."""

    segment: int
    turns: tuple[TurnView, ...]
    episode: int | None = None
    similarity: float | None = None

    @property
    def first_token(self) -> int:
        """The first token of its first turn."""
        return self.turns[0].first_token

    @property
    def last_token(self) -> int:
        """The token after its last turn's."""
        return self.turns[-1].last_token

    @property
    def dates(self) -> list[str]:
        """Every date once, in order."""
        return list(dict.fromkeys(turn.date for turn in self.turns if turn.date))

    @property
    def speakers(self) -> list[str]:
        """Every speaker once, in order."""
        return list(dict.fromkeys(turn.speaker for turn in self.turns))


@dataclass(frozen=True, slots=True)
class EpisodeView:
    """An episode and its segments in order; `medoid` is the number of the one nearest to its centroid."""

    episode: int
    title: str
    medoid: int
    cohesion: float
    segments: tuple[SegmentView, ...]


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """What is kept of an episode: its unit centroid as float32 bytes, its patch and the segments the patch shows."""

    episode: int
    title: str
    segments: int
    medoid: int
    cohesion: float
    centroid: bytes
    patch: str
    patch_segments: tuple[int, ...]
