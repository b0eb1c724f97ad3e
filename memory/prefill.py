"""Block-wise prefill into a bounded working set: read a block, make room when the next one does not fit.

`bounded` mode (EpiCache): a block attends to the working set and to itself; peak KV is the working set, one block and
the patch. Nothing is evicted while everything fits, and then the result is that of full attention. `exact` mode: whole
stored rows leave, and every pass attends to them where they lie (`Outside`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from memory.attention import Beyond, Tap
from memory.budget import Ledger
from memory.cache import WorkingSet
from memory.errors import RowDamaged, TextTooLong
from memory.policy import LayerView, Policy, Protection, select
from memory.policy.sinks_recent import SinksRecent

Progress = Callable[[int, int], None]
"""Called with (tokens read, tokens to read) after every block; may raise `memory.errors.Cancelled`."""

OOM_RETRIES = 2
"""How often an out-of-memory block is halved before the error is passed on."""


class Pass(Beyond, Protocol):
    """Stored rows in one pass of the model."""

    def finish(self) -> None:
        """The pass is over; not called when it did not end."""


class Outside(Protocol):
    """What lies outside the working set: who keeps the tokens' KV once they leave."""

    def begin(self, tokens: int) -> Pass | None:
        """A pass over `tokens` tokens starts; what it must attend to besides the working set.

        Raises:
            RowDamaged: a stored row is not what was written.
        """

    def latest(self, count: int) -> list[int]:
        """The last `count` tokens that were read."""

    def took(self, ids: Sequence[int]) -> None:
        """These tokens are in the working set now."""

    def slide(self, *, reindexed: bool) -> bool:
        """Let stored rows leave. False: the policy has to choose."""


@dataclass(slots=True)
class Reader:
    """Reads tokens into `working_set` and keeps it within its plan."""

    model: nn.Module
    working_set: WorkingSet
    window: int
    policy: Policy
    patch: Sequence[int]
    ledger: Ledger
    outside: Outside
    protection: Protection = field(default_factory=Protection)
    evictions: int = 0
    """Times that entries left the working set to make room, chosen by the policy or as the recent window moved on."""

    def read(self, ids: Sequence[int], progress: Progress | None = None) -> Tensor:
        """Read `ids` (at least one) block by block; the logits [vocabulary] that follow the last one.

        Raises:
            TextTooLong: the protected entries do not fit the working set.
            torch.OutOfMemoryError: after the block was halved twice.
        """
        done, block = 0, self.working_set.plan.block
        while True:
            piece = ids[done : done + block]
            logits, block = self._read_block(piece, block)
            if logits is None:
                continue
            done += len(piece)
            if progress is not None:
                progress(done, len(ids))
            if done >= len(ids):
                return logits

    def admit(self, tokens: int) -> None:
        """Refuse a text of so many tokens before any of it is read, if room for it cannot be made.

        Raises:
            TextTooLong: the protected entries do not fit the working set.
        """
        outgrown = tokens > self.window
        if tokens > min(self.working_set.longest(reindexed=outgrown), default=tokens):
            self._check_protected(reindexed=outgrown)

    def step(self, token: int) -> Tensor:
        """Read one token; the logits [vocabulary] that follow it.

        Raises:
            TextTooLong: the protected entries do not fit the working set.
            torch.OutOfMemoryError: the device has no room for one token.
        """
        self.make_room(1)
        return self._read([token])

    def ask(self, patch: Sequence[int], tap: Tap) -> None:
        """Pass `patch` (at most the plan's) over the cache as if it came next; `tap` gets each layer's queries.

        Its entries are taken back.
        """
        cache = self.working_set
        cache.trim(len(patch))
        start = min(cache.next_position, self.window - len(patch))
        self._forward(patch, start=start, tap=tap)
        cache.drop_last(len(patch))

    def make_room(self, tokens: int) -> None:
        """When `tokens` more do not fit: let waiting working sets go, evict, past the trained window re-index."""
        cache = self.working_set
        self.make_way(tokens)
        outgrown = cache.next_position + tokens > self.window
        if outgrown or cache.room < tokens:
            self._make_room(reindexed=outgrown or cache.reindexed)
        cache.trim(tokens)

    def make_way(self, tokens: int) -> None:
        """Let waiting working sets go while `tokens` more do not fit beside them."""
        cache = self.working_set
        while cache.room < tokens and cache.waiting:
            cache.drop_waiting(cache.leaving()[0])

    def _read_block(self, piece: Sequence[int], block: int) -> tuple[Tensor | None, int]:
        """One block; (None, smaller block) when memory ran out and a smaller one should be tried."""
        self.make_room(len(piece))
        try:
            return self._read(piece), block
        except torch.OutOfMemoryError:
            if block <= self.working_set.plan.block >> OOM_RETRIES or block == 1:
                raise
        torch.cuda.empty_cache()
        return None, block // 2

    def _read(self, piece: Sequence[int]) -> Tensor:
        """The tokens of `piece` into the working set; the logits after them."""
        stored = self.outside.begin(len(piece))
        logits = self._forward(piece, beyond=stored)
        if stored is not None:
            stored.finish()
        self.outside.took(piece)
        return logits

    def _make_room(self, *, reindexed: bool) -> None:
        cache = self.working_set
        self._check_protected(reindexed=reindexed)
        if not self.outside.slide(reindexed=reindexed):
            self._evict(cache.working_set_sizes(reindexed=reindexed))
        self.evictions += 1
        cache.trim(cache.plan.block)
        if reindexed:
            cache.reindex()

    def _check_protected(self, *, reindexed: bool) -> None:
        cache, needed = self.working_set, self.protection.entries
        keep = cache.working_set_size(reindexed=reindexed)
        if needed > keep:
            raise TextTooLong(
                f"The working set holds {keep} tokens, and the system prompt, the first tokens and the recent window "
                f"take {needed}, which is {needed - keep} too many. Use a shorter system prompt (tools are part of it) "
                f"or a larger budget{', or layers = uniform' if cache.plan.capacities else ''}.",
                needed,
                keep,
            )

    def _evict(self, keeps: Sequence[int]) -> None:
        cache = self.working_set
        for layer, scores, keep in zip(cache.bounded, self._scores(), keeps, strict=True):
            if layer.length > keep:
                protected = self.protection.mask(layer.origins(), layer.seen)
                layer.keep(select(scores, protected, keep))

    def _scores(self) -> list[Tensor]:
        """One score tensor per bounded layer. Without anyone who asks (nothing is stored) the latest stay."""
        if patch := self._asking():
            return self._patched_scores(patch)
        policy = self.policy if self.policy.queries == "none" else SinksRecent()
        return [policy.score(self._view(index, None, 1.0)) for index in self._bounded_indices()]

    def _asking(self) -> list[int]:
        """The tokens whose queries the policy scores with; none when it needs none."""
        most = self.working_set.plan.patch
        if self.policy.queries == "recent":
            return self.outside.latest(most)
        return list(self.patch[:most]) if self.policy.queries == "patch" else []

    def _patched_scores(self, patch: list[int]) -> list[Tensor]:
        """Pass the patch over the cache, score with its queries, and take its entries back."""
        scores = dict[int, Tensor]()
        bounded = set(self._bounded_indices())

        def tap(index: int, queries: Tensor, scale: float) -> None:
            if index in bounded:
                scores[index] = self.policy.score(self._view(index, queries[0], scale, newest=len(patch)))

        self.ask(patch, tap)
        return [scores[index] for index in sorted(scores)]

    def _view(self, index: int, queries: Tensor | None, scale: float, newest: int = 0) -> LayerView:
        """Layer `index` without its `newest` entries."""
        layer = self.working_set.layers[index]
        stop = layer.length - newest
        keys = layer.stored[0][:, :stop]
        return LayerView(keys, layer.origins()[:, :stop], queries, scale, layer.seen - newest)

    def _bounded_indices(self) -> list[int]:
        return [index for index, layer in enumerate(self.working_set.layers) if not layer.is_sliding]

    def _forward(
        self, ids: Sequence[int], start: int | None = None, tap: Tap | None = None, beyond: Pass | None = None
    ) -> Tensor:
        """The model over `ids`; when it cannot finish, the cache is put back to where it was."""
        cache, device = self.working_set, self.working_set.layers[0].device
        first = cache.next_position if start is None else start
        before = [layer.length for layer in cache.layers]
        try:
            with torch.inference_mode(), self.ledger.transient("activations", cache.plan.activations):
                output = self.model(
                    input_ids=torch.tensor([list(ids)], device=device),
                    position_ids=torch.arange(first, first + len(ids), device=device)[None],
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                    tap=tap,
                    beyond=beyond,
                )
        except (torch.OutOfMemoryError, RowDamaged):
            for layer, length in zip(cache.layers, before, strict=True):
                layer.drop_last(layer.length - length)
            raise
        logits: Tensor = output.logits[0, -1]
        return logits
