"""Choosing the next token with transformers' logits processors, and turning ids into text as they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from assistant.protocol import Alternative, Sampling, TokenLogprob
from assistant.worker.grammar import Constraint


class Sampler:
    """Draws tokens as `Sampling` says; temperature 0 takes the most likely one. A seed makes draws repeatable.

    With a constraint only tokens that it allows are drawn.
    """

    def __init__(
        self, sampling: Sampling, prompt: Sequence[int], device: torch.device, constraint: Constraint | None = None
    ) -> None:
        self.constraint = constraint
        self.likelihoods: Likelihoods | None = None
        self.greedy = sampling.temperature == 0
        self.processors = _processors(sampling, len(prompt))
        self.generator = torch.Generator(device)
        if sampling.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(sampling.seed)
        self.ids = torch.empty((1, len(prompt) + sampling.max_tokens), dtype=torch.int64, device=device)
        self.ids[0, : len(prompt)] = torch.tensor(prompt, dtype=torch.int64)
        self.length = len(prompt)

    def next(self, logits: Tensor) -> int:
        """The next token for `logits` [vocabulary]."""
        plain = logits
        if self.constraint is not None:
            logits = self.constraint.mask(logits)
        read = cast(torch.LongTensor, self.ids[:, : self.length])
        scores = self.processors(read, cast(torch.FloatTensor, logits[None].to(torch.float32)))
        if self.greedy:
            token = int(scores.argmax(-1))
        else:
            token = int(torch.multinomial(scores.softmax(-1), 1, generator=self.generator))
        self.ids[0, self.length] = token
        self.length += 1
        if self.constraint is not None:
            self.constraint.take(token)
        if self.likelihoods is not None:
            self.likelihoods.note(plain, token)
        return token


class Likelihoods:
    """What the model thinks of each token that is chosen, and of the `count` likeliest ones in its place."""

    def __init__(self, tokenizer: Any, count: int) -> None:
        self._tokenizer = tokenizer
        self._count = count
        self._noted: list[TokenLogprob] = []

    def note(self, logits: Tensor, token: int) -> None:
        """`token` was chosen for `logits` [vocabulary]."""
        logprobs = logits.to(torch.float32).log_softmax(-1)
        values, ids = logprobs.topk(min(self._count, len(logprobs)))
        top = [
            Alternative(token=self._word(one), logprob=p) for one, p in zip(ids.tolist(), values.tolist(), strict=True)
        ]
        self._noted.append(TokenLogprob(token=self._word(token), logprob=float(logprobs[token]), top=top))

    def take(self) -> list[TokenLogprob]:
        """What was noted since the last time."""
        noted, self._noted = self._noted, []
        return noted

    def _word(self, token: int) -> str:
        return str(self._tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _processors(sampling: Sampling, prompt: int) -> LogitsProcessorList:
    """In the order transformers' generate applies them. The repetition penalty leaves the prompt's words alone: an
    answer should be able to repeat what it was told."""
    chain: list[Any] = []
    if sampling.repetition_penalty != 1:
        chain.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty, prompt_ignore_length=prompt))
    if sampling.temperature not in (0, 1):
        chain.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.temperature != 0:
        if sampling.top_k:
            chain.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            chain.append(TopPLogitsWarper(sampling.top_p))
        if sampling.min_p:
            chain.append(MinPLogitsWarper(sampling.min_p))
    return LogitsProcessorList(chain)


class TextStream:
    """Text of a reply while its tokens come: whole characters only, and nothing past a stop string."""

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        self.backend = tokenizer.backend_tokenizer
        self.decoder = DecodeStream(skip_special_tokens=True)
        self.stops = stops
        self.longest = max(map(len, stops), default=0)
        self.held = ""
        self.stopped = False

    def feed(self, token: int) -> str:
        """Text that can be shown now; what may be the beginning of a stop string is held back."""
        self.held += self.decoder.step(self.backend, token) or ""
        found = [place for stop in self.stops if (place := self.held.find(stop)) >= 0]
        if found:
            self.stopped = True
            return self._release(min(found))
        return self._release(len(self.held) - self._suspect())

    def finish(self) -> str:
        """What was held back and turned out to be no stop string."""
        return "" if self.stopped else self._release(len(self.held))

    def _release(self, end: int) -> str:
        text, self.held = self.held[:end], self.held[end:]
        return text

    def _suspect(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        lengths = range(min(self.longest - 1, len(self.held)), 0, -1)
        return next((n for n in lengths if any(stop.startswith(self.held[-n:]) for stop in self.stops)), 0)
