"""The scripted worker's episodes: one for every word that a segment begins with, routed by a question's last word."""

from __future__ import annotations

import json
from pathlib import Path

from assistant.orders import Run, WorkerTurn
from memory.episode_schema import EPISODES_FILE
from memory.episode_store import EpisodeStore
from memory.episode_view import EpisodeRow, Route
from memory.segment import TURNS, EpisodeTurn

SPANS = [{"first": at, "last": at + 64, "tokens": 5, "mass": 0.125} for at in (0, 128)]
RECALLED = {"spans": SPANS, "missed": 0.01, "bound": 0.02, "exact_steps": 1, "steps": 9}
"""What every reply to a question about an episode "recalled": the first and the third 64 characters."""


def observe(run: Run, text: str) -> None:
    """Note the turns of a run and its reply; tokens are characters, dates are always the same."""
    if run.spec.kv is None:
        return
    store = EpisodeStore(Path(run.spec.kv.folder) / EPISODES_FILE)
    try:
        turns = _turns(run, text)
        known = len(store.known(run.conversation))
        store.add(run.conversation, known, turns[known:], [f"{turn.speaker}: {turn.text}" for turn in turns[known:]])
        firsts = [(turn.text.split() or [""])[0] for turn in turns[: len(turns) // TURNS * TURNS : TURNS]]
        words = list(dict.fromkeys(firsts))
        if run.sampling is not None:
            store.log(run.conversation, _route(run, words, store.routes(run.conversation)))
        rows = [EpisodeRow(n, w, firsts.count(w), firsts.index(w), 0.5, b"", "", ()) for n, w in enumerate(words, 1)]
        members = [(at, words.index(word) + 1, 0.75) for at, word in enumerate(firsts)]
        store.save(run.conversation, rows, members, [])
    finally:
        store.close()


def _turns(run: Run, text: str) -> list[EpisodeTurn]:
    said = [*run.turns, *([WorkerTurn(id=run.reply_id, role="assistant", text=text)] if run.reply_id else [])]
    turns, end = list[EpisodeTurn](), 0
    for turn in said:
        turns.append(EpisodeTurn(turn.id, turn.role, turn.text, "8 May", end, end + len(turn.text)))
        end += len(turn.text)
    return turns


def _route(run: Run, words: list[str], before: list[Route]) -> Route:
    word = (run.turns[-1].text.split() or [""])[-1]
    number = words.index(word) + 1 if word in words else None
    other = next((n for n in range(1, len(words) + 1) if n != number), None) if number else None
    return Route(
        turn=run.turns[-1].id,
        episode=number,
        similarity=0.5 if number else None,
        runner_up=other,
        runner_up_similarity=0.25 if other else None,
        switched=bool(before) and before[-1].episode not in (None, number),
        asked="2026-11-21T10:00:00+00:00",
        nearest=json.dumps([{"segment": 0, "similarity": 0.75}] if number else []),
        recalled=json.dumps(RECALLED) if number else None,
    )
