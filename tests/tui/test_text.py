"""Text of others on the screen: no escape sequence and no control character comes through, and nothing else is lost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.text import Cleaner, clean, one_line, removed, shorten


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("before \x1b[31mred\x1b[0m after", "before red after"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]52;c;c3RvbGVu\x1b\\text", "text"),
        ("\x1bP1;2q data \x1b\\text", "text"),
        ("\x9b1mtext", "text"),
        ("bell\x07 null\x00 del\x7f", "bell null del"),
        ("left\u202eright", "leftright"),
        ("one\r\ntwo\rthree\n\tfour", "one\ntwo\nthree\n\tfour"),
        ("[bold]kept[/bold] 漢字 🐕 naïve", "[bold]kept[/bold] 漢字 🐕 naïve"),
        ("a lone \x1b", "a lone "),
    ],
)
def test_clean(raw: str, shown: str) -> None:
    assert clean(raw) == shown


@given(st.text(alphabet=st.sampled_from("ab[]0;m\x1b\x07\\\n\r\x9bé"), max_size=40), st.lists(st.integers(0, 40)))
def test_pieces_show_no_control_character(text: str, cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    cleaner = Cleaner()
    shown = "".join(cleaner.feed(text[start:end]) for start, end in itertools.pairwise(edges))
    assert not set(shown) & set("\x1b\x9b\x07\r")


@given(st.text(alphabet=st.characters(blacklist_categories=("Cc", "Cf", "Cs")), max_size=60), st.integers(1, 7))
def test_pieces_of_plain_text_are_whole(text: str, step: int) -> None:
    cleaner = Cleaner()
    assert "".join(cleaner.feed(text[at : at + step]) for at in range(0, len(text), step)) == text


def test_a_sequence_cut_in_two_is_still_taken_out() -> None:
    cleaner = Cleaner()
    assert [cleaner.feed(piece) for piece in ("a \x1b", "[3", "1mred", "\x1b]0;ti", "tle\x07 b\r", "\nc")] == [
        "a ",
        "",
        "red",
        "",
        " b",
        "\nc",
    ]


def test_counts() -> None:
    assert removed("a\x00b\r\nc\x1b[1m") == 5
    assert shorten("abcdef", 4) == ("abcd", 2)
    assert one_line("two\nlines and more", 10) == "two lines…"
    assert one_line("渡し船に乗る", 8) == "渡し船…"  # two cells each


def test_of_a_very_long_text_only_the_beginning_is_looked_at() -> None:
    assert one_line("word " * 10**6, 12) == "word word w…"
    assert one_line(" " * 10**6 + "end", 12) == "end"
    assert one_line("a" + " " * 10**6 + "end", 12) == "a…"
