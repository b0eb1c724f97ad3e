"""Policies that keep the same entries for a whole answer, chosen from the full KV: the published ones, as controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assistant.template import encode_text
from benchmarks.quality.data import Question
from benchmarks.quality.history import History
from benchmarks.quality.source import Kept, Model, Reply
from memory.budget import PATCH_TOKENS
from memory.episode import Episodes
from memory.layers import ALLOCATORS, Profile, allocate
from memory.policy import POLICIES, LayerView, Policy, Protection, select
from memory.policy.h2o import H2O
from memory.policy.patched_prompt import INSTRUCTION
from memory.selection import cut
from memory.store import RECENT


def protection(prefix: int, entries: int) -> Protection:
    """What `memory.store.Memory` protects in a working set of so many entries."""
    return Protection(prefix=prefix, recent=min(RECENT, entries // 4))


@dataclass
class Keeper:
    """Scores every entry of one history for a policy, once, and gathers those that a budget holds."""

    model: Model
    tokenizer: Any
    history: History
    episodes: Episodes
    profile: Callable[[], Profile]

    def __post_init__(self) -> None:
        self._scores = dict[tuple[Any, ...], list[Tensor]]()
        self._kept = dict[tuple[Any, ...], Kept]()
        self.episodes.observe(self.history.talk.id, self.history.talk.episode_turns()).result()

    def source(self, name: str, question: Question, asked: Sequence[int], budget: float) -> tuple[Kept, int]:
        """What `name` ("policy" or "policy@allocator") keeps for a question, and the entries of a layer, on average."""
        policy, _, allocator = name.partition("@")
        entries = int(self.history.tokens * budget)
        key = self._key(policy, question)
        counts = self._counts(allocator or "uniform", entries)
        if policy == "oracle":
            return self._gather(self._score(H2O(), asked), counts, entries), entries
        if key not in self._scores:
            self._scores[key] = self._score_by(policy, key)
        if (*key, allocator, budget) not in self._kept:
            self._kept[*key, allocator, budget] = self._gather(self._scores[key], counts, entries)
        return self._kept[*key, allocator, budget], entries

    def patch(self, question: Question) -> list[int]:
        """What asks for the episode that a question goes to."""
        return self._asking(self._route(question))

    def _asking(self, episode: int | None) -> list[int]:
        text = self.episodes.patch(self.history.talk.id, episode) if episode is not None else ""
        return cut([encode_text(self.tokenizer, part) for part in (text or INSTRUCTION).split("\n\n") if part.strip()])

    def _key(self, policy: str, question: Question) -> tuple[Any, ...]:
        """What the choice depends on: for one that begins with an episode, that which the question goes to."""
        if policy not in POLICIES or POLICIES[policy].base != "episode":
            return (policy,)
        return policy, self._route(question)

    def _route(self, question: Question) -> int | None:
        route = self.episodes.route(self.history.talk.id, -1, question.text)
        return route.episode if route is not None else None

    def _score_by(self, name: str, key: tuple[Any, ...]) -> list[Tensor]:
        policy = POLICIES[name]()
        if policy.queries == "recent":
            return self._score(policy, self.history.talk.ids[-PATCH_TOKENS:])
        if policy.queries == "patch" and policy.base == "episode":
            return self._score(policy, self._asking(key[1]))
        if policy.queries == "patch":
            return self._score(policy, encode_text(self.tokenizer, policy.patch or "")[:PATCH_TOKENS])
        return [policy.score(self._view(layer, None, 1.0)) for layer in range(len(self.history.layers))]

    def _score(self, policy: Policy, asking: Sequence[int]) -> list[Tensor]:
        """Scores a layer, [KV heads, entries], by the queries of `asking`, read after the full history; the highest
        over pieces of as many tokens as a patch has."""
        best = list[Tensor]()

        def tap(layer: int, queries: Tensor, scale: float) -> None:
            scores = policy.score(self._view(layer, queries, scale))
            if layer < len(best):
                torch.maximum(best[layer], scores, out=best[layer])
            else:
                best.append(scores)

        reply = Reply(Kept(self.history.layers), self.history.tokens)
        for first in range(0, len(asking), PATCH_TOKENS):
            self.model.read([reply], [asking[first : first + PATCH_TOKENS]], tap)
        return best

    def _view(self, layer: int, queries: Tensor | None, scale: float) -> LayerView:
        keys = self.history.layers[layer][0]
        origins = torch.arange(keys.shape[1], dtype=torch.int32).expand(keys.shape[0], -1)
        return LayerView(keys, origins, queries, scale, keys.shape[1])

    def shares(self, allocator: str) -> list[float]:
        """How much of the entries each layer gets."""
        chosen = ALLOCATORS[allocator]()
        return chosen.shares(self.profile() if chosen.profiled else None, range(len(self.history.layers)))

    def _counts(self, allocator: str, entries: int) -> list[int]:
        shares = self.shares(allocator)
        floor = protection(self.history.talk.prefix, entries).entries + PATCH_TOKENS
        return allocate(shares, entries * len(shares), min(floor, entries), self.history.tokens)

    def _gather(self, scores: Sequence[Tensor], counts: Sequence[int], entries: int) -> Kept:
        tokens = self.history.tokens
        mask = protection(self.history.talk.prefix, entries).mask(torch.arange(tokens), tokens)
        found = list[tuple[Tensor, Tensor]]()
        for (keys, values), score, count in zip(self.history.layers, scores, counts, strict=True):
            index = select(score, mask, count)[..., None].expand(-1, -1, keys.shape[-1])
            found.append((keys.gather(1, index), values.gather(1, index)))
        return Kept(found)
