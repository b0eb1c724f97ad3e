"""Episodes in the worker: what a conversation's turns are, where a question goes, what can be told about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from assistant.dialogue import said_in
from assistant.episodes import look_up, wired
from assistant.errors import AssistantError
from assistant.orders import Explain, ModelSpec, Run, WorkerTurn
from assistant.protocol import Episodes as Told
from assistant.protocol import Recalled, RecalledSpan
from assistant.template import encode_text
from memory.block import CHUNK
from memory.budget import format_size
from memory.encoder import Encoder
from memory.episode import Episodes
from memory.episode_schema import EPISODES_FILE
from memory.episode_view import Route
from memory.folder import make_private
from memory.minilm import EncoderMissing, encoder_bytes, find_minilm
from memory.segment import EpisodeTurn
from memory.selection import cut
from memory.store import Memory
from memory.stored import stored_tokens

if TYPE_CHECKING:
    from assistant.worker.loader import Loaded


def wait_for(observed: Future[None], unless: Callable[[], bool]) -> None:
    """Wait until what was said is in the episodes, as long as nothing speaks against it."""
    while not unless() and wait([observed], 0.1).not_done:
        pass


def open_episodes(spec: ModelSpec, room: int, device: torch.device) -> Episodes:
    """The episodes in the KV folder (without one: in memory), with an encoder where `encoder_room` found room.

    Raises:
        AssistantError: their database cannot be made.
    """
    encoder, reason = None, None
    try:
        folder = find_minilm()
        if room or device.type != "cpu":
            encoder = Encoder.load(folder)
        else:
            size = format_size(encoder_bytes(folder))
            reason = f"Questions go to no episode: the embedding model takes {size}, too much of this budget."
    except EncoderMissing as error:
        reason = str(error)
    try:
        if spec.kv is not None:
            make_private(Path(spec.kv.folder))
        return Episodes(Path(spec.kv.folder) / EPISODES_FILE if spec.kv is not None else None, encoder, reason)
    except OSError as error:
        where = spec.kv.folder if spec.kv is not None else "memory"
        raise AssistantError(f"The episodes cannot be kept in {where}: {error.strerror}.") from error


def turns_of(turns: Sequence[WorkerTurn], sizes: Sequence[int]) -> list[EpisodeTurn]:
    """The turns of a conversation, `sizes` tokens long; system prompts, which nobody says, are left out."""
    found, date = list[EpisodeTurn](), None
    for turn, size, end in zip(turns, sizes, accumulate(sizes), strict=True):
        said = said_in(turn.role, turn.text)
        date = said.date or (date if turn.role == "transcript" or turn.created is None else turn.created[:10])
        if turn.role != "system":
            found.append(EpisodeTurn(turn.id, said.speaker, said.text, date, end - size, end))
    return found


def written_after(turns: Sequence[WorkerTurn], reply_id: int, text: str) -> WorkerTurn:
    """The reply to the last turn, said when that was."""
    return WorkerTurn(id=reply_id, role="assistant", text=text, created=turns[-1].created)


def route_of(episodes: Episodes, request: Run) -> Route | None:
    """The episode that the question is about; None for an import."""
    if request.sampling is None or request.turns[-1].role != "user":
        return None
    return episodes.route(request.conversation, request.turns[-1].id, request.turns[-1].text)


def focus(loaded: Loaded, conversation: str, route: Route | None) -> int:
    """Let a question begin with what its episode, or the policy's own patch, needs of what is stored; tokens moved."""
    memory, policy = loaded.memory, loaded.memory.reader.policy
    if policy.base == "latest":
        return 0
    if policy.base == "patch":
        return memory.focus(memory.reader.patch)
    episode = route.episode if route is not None else None
    return memory.focus(_patch_for(loaded, conversation, episode) if episode is not None else [])


def prepare(loaded: Loaded, conversation: str, busy: Callable[[], bool]) -> None:
    """While nobody waits: score what is stored for the patches that the next question may need."""
    memory, policy = loaded.memory, loaded.memory.reader.policy
    if policy.base == "latest" or memory.sealer.trail.conversation != conversation:
        return
    patches = {0: memory.reader.patch} if policy.base == "patch" else {}
    if policy.base == "episode":
        with suppress(RuntimeError, OSError):
            texts = loaded.episodes.patches(conversation)
            patches = {episode: _patch_ids(loaded, text) for episode, text in texts.items()}
    for episode, patch in patches.items():
        if busy() or not memory.prepare(patch, busy):
            return
        loaded.patches[conversation, episode] = patch


def _patch_for(loaded: Loaded, conversation: str, episode: int) -> Sequence[int]:
    """The patch of an episode; where it has just changed and was not read yet, the one it had: nobody waits for it."""
    patch: Sequence[int] = []
    with suppress(RuntimeError, OSError):  # closed, or its file cannot be read: then as without episodes
        patch = _patch_ids(loaded, loaded.episodes.patch(conversation, episode))
    before = loaded.patches.get((conversation, episode))
    if before is not None and not loaded.memory.ready(patch) and loaded.memory.ready(before):
        return before
    loaded.patches[conversation, episode] = patch
    return patch


def _patch_ids(loaded: Loaded, text: str) -> list[int]:
    """The tokens of a patch, cut so that each of its segments has its say."""
    return cut([encode_text(loaded.tokenizer, part) for part in text.split("\n\n") if part])


def recalled_json(memory: Memory) -> str | None:
    """What the reply fetched of what was not resident, as it is stored beside the route; None for nothing."""
    recalled = memory.recalled()
    if recalled is None:
        return None
    spans = [RecalledSpan(first=s.first, last=s.last, tokens=s.tokens, mass=s.mass) for s in recalled.spans]
    return Recalled(
        spans=spans,
        missed=recalled.missed,
        bound=recalled.bound,
        exact_steps=recalled.exact_steps,
        steps=recalled.steps,
        moved=recalled.moved,
    ).model_dump_json()


def explain(loaded: Loaded | None, request: Explain) -> Told:
    """The episodes of a conversation: those of the loaded model's, or what the file says."""
    if loaded is None:
        return look_up(Path(request.folder), request.conversation)
    name, episodes, memory = request.conversation, loaded.episodes, loaded.memory
    try:
        told = wired(episodes.segments(name), episodes.titles(name), episodes.routes(name))
    except RuntimeError:  # closed: another model is about to be loaded
        return look_up(Path(request.folder), name)
    told.notice = episodes.failure or episodes.reason
    told.stored = _stored(loaded, name)
    with suppress(RuntimeError, IndexError, KeyError):  # a reply that is being written moves entries meanwhile
        told.residency = residency(memory, name)
    return told


def _stored(loaded: Loaded, conversation: str) -> int:
    """Tokens from the beginning of a conversation that are on disk, for this model."""
    spill = loaded.memory.spill
    return 0 if spill is None else stored_tokens(spill.disk.folder.path, conversation, spill.disk.fingerprint.digest)


def residency(memory: Memory, conversation: str) -> list[float] | None:
    """The share of each 64 tokens of a conversation that is on the device, over layers and their heads; None when
    nothing of it is."""
    if (trail := memory.sets().get(conversation)) is None:
        return None
    tokens, cache = len(trail.tokens), memory.working_set
    waiting = cache.waiting.get(conversation)
    counts, heads = torch.zeros(-(-tokens // CHUNK)), 0
    for index, layer in enumerate(cache.layers):
        if not layer.is_sliding:
            origins = (waiting.layers[index].origins if waiting else layer.origins()).to("cpu", torch.int64)
            found = torch.bincount(origins.flatten() // CHUNK, minlength=len(counts))[: len(counts)]
            counts, heads = counts + found, heads + origins.shape[0]
    sizes = [min(CHUNK, tokens - first) * heads for first in range(0, tokens, CHUNK)]
    return [round(min(1.0, float(count) / size), 4) for count, size in zip(counts, sizes, strict=True)]
