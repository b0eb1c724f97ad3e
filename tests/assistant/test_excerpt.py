"""What a search shows of a text, and that a text with very many matches does not hold the history up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.errors import UsageError
from assistant.history import History
from assistant.history.excerpt import excerpt
from assistant.protocol import Hit
from tests.conftest import DEADLINE_S

LONG = "lorem ipsum dolor sit amet " * 20


@pytest.mark.parametrize(
    ("text", "words", "shown"),
    [
        ("Biscuit sleeps", ["biscuit"], "[Biscuit] sleeps"),
        ("Biscuit sleeps", ["biscuit", "sl"], "[Biscuit] [sleeps]"),
        ("Biscuits sleep", ["biscuit", "sleep"], "Biscuits [sleep]"),
        ("nach Österreich", ["osterr"], "nach [Österreich]"),
        ("nach O\u0308sterreich", ["ÖSTERR"], "nach [Österreich]"),
        ("I don't know", ["don't"], "I [don't] know"),
        ("I don’t know", ["don't"], "I [don’t] know"),
        ("a snake_case name", ["case"], "a snake_[case] name"),
        ("(what) [is] this", ["is"], "(what) [[is]] this"),
        ("nothing of it", ["-"], "nothing of it"),
        ("東京タワーに行く", ["東京"], "[東京タワーに行く]"),
    ],
)
def test_words_are_marked(text: str, words: list[str], shown: str) -> None:
    assert excerpt(text, words) == shown


def test_a_long_text_is_cut_between_words_around_the_match() -> None:
    shown = excerpt(LONG + "a canary sings " + LONG, ["canary"])
    assert "a [canary] sings lorem" in shown
    assert len(shown) <= 124
    assert shown[0] == shown[-1] == "…"
    assert {word.strip("…") for word in shown.split()} <= {*LONG.split(), "a", "[canary]", "sings"}


def test_the_place_where_most_words_stand_is_shown() -> None:
    text = f"red {LONG} red green {LONG} red green blue {LONG} blue"
    assert "[red] [green] [blue]" in excerpt(text, ["red", "green", "blue"])


@given(st.text(), st.lists(st.text(min_size=1), max_size=4))
def test_whatever_is_looked_for_in_whatever(text: str, words: list[str]) -> None:
    shown = excerpt(text, words)
    assert len(shown) <= 120 * 3 + 2, "each character may be a match of its own"


@pytest.mark.parametrize("words", ["m", "megabyte", "megabyte " * 116_509])
def test_a_text_full_of_matches_is_searched_in_no_time(history: History, words: str) -> None:
    """SQLite's own excerpts take minutes for this one."""
    history.begin("demo", "megabyte " * 116_509)
    with ThreadPoolExecutor(1) as thread:
        (hit,) = thread.submit(_found, history.path, words).result(DEADLINE_S)
    assert hit.snippet.startswith("[megabyte] [megabyte]")


def _found(path: Path, words: str) -> list[Hit]:
    with closing(History(path)) as history:
        return history.search(words)


def test_so_many_words_that_nobody_means_them(history: History) -> None:
    with pytest.raises(UsageError, match=r"takes 64 different words at most; these are 65\."):
        history.search(" ".join(map(str, range(65))))
