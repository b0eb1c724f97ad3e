"""Sampling does what its parameters say, and text streams in whole characters without the stop strings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assistant.protocol import Sampling
from assistant.worker.sampling import Sampler, TextStream
from tests.worker.tiny import make_tokenizer

TOKENIZER = make_tokenizer()
LOGITS = torch.tensor([2.0, 1.0, 0.5, -1.0, -3.0])


def draw(sampling: Sampling, count: int = 200, prompt: tuple[int, ...] = (0,)) -> list[int]:
    """`count` draws from the same logits; a fresh sampler per draw, so that a penalty does not add up."""
    seed = sampling.seed or 0
    draws = []
    for number in range(count):
        one = Sampler(sampling.model_copy(update={"seed": seed + number}), prompt, torch.device("cpu"))
        draws.append(one.next(LOGITS))
    return draws


def test_temperature_zero_takes_the_most_likely_token() -> None:
    assert set(draw(Sampling(temperature=0), 20)) == {0}


def test_draws_follow_the_probabilities() -> None:
    share = draw(Sampling(temperature=1, top_p=1), 2000).count(0) / 2000
    assert share == pytest.approx(float(LOGITS.softmax(-1)[0]), abs=0.04)


@pytest.mark.parametrize(
    ("parameters", "allowed"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.6}, {0, 1}),
        ({"min_p": 0.3}, {0, 1, 2}),
        ({}, {0, 1, 2, 3, 4}),
    ],
)
def test_each_filter_leaves_out_the_unlikely(parameters: dict[str, Any], allowed: set[int]) -> None:
    sampling = Sampling(temperature=2.0, **({"top_p": 1.0} | parameters))
    assert set(draw(sampling, 400)) <= allowed
    assert len(set(draw(sampling, 400))) == len(allowed)


def test_a_seed_repeats_the_reply_and_none_does_not() -> None:
    def reply(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(temperature=2, top_p=1, seed=seed, max_tokens=60), [0], torch.device("cpu"))
        return [sampler.next(LOGITS) for _ in range(60)]

    assert reply(7) == reply(7)
    assert reply(7) != reply(8)
    assert reply(None) != reply(None)


def test_the_repetition_penalty_counts_the_reply_and_leaves_the_prompts_words_alone() -> None:
    sampler = Sampler(Sampling(temperature=0, repetition_penalty=2.0, max_tokens=4), [0], torch.device("cpu"))
    logits = torch.tensor([1.5, 1.4, 1.3, -9.0, -9.0])
    assert [sampler.next(logits) for _ in range(3)] == [0, 1, 2]


def pieces(text: str, stops: list[str]) -> tuple[list[str], TextStream]:
    stream = TextStream(TOKENIZER, stops)
    shown = []
    for token in TOKENIZER.encode(text, add_special_tokens=False):
        shown.append(stream.feed(token))
        if stream.stopped:
            break
    return [*shown, stream.finish()], stream


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_character_is_never_split(text: str) -> None:
    shown, _ = pieces(text, [])
    assert "".join(shown) == text
    assert all("�" not in piece for piece in shown if "�" not in text)


@given(st.text(alphabet="abé", max_size=30), st.lists(st.text(alphabet="abé", min_size=1, max_size=4), max_size=3))
def test_text_ends_before_the_first_stop_string(text: str, stops: list[str]) -> None:
    shown, stream = pieces(text, stops)
    found = [stop for stop in stops if stop in text]
    said = "".join(shown)
    assert text.startswith(said)
    assert stream.stopped == bool(found)
    assert not any(stop in said for stop in stops)
    if not found:
        assert said == text


def test_what_only_began_like_a_stop_string_is_shown_at_the_end() -> None:
    shown, _ = pieces("go EN", ["END"])
    assert "".join(shown) == "go EN"
    assert "".join(shown[:-1]) == "go "


def test_control_tokens_are_not_shown() -> None:
    stream = TextStream(TOKENIZER, [])
    assert stream.feed(TOKENIZER.convert_tokens_to_ids("<|im_start|>")) == ""
