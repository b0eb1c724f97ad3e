"""What models and others wrote, on its way to a terminal: no escape sequence is left, and no part of one."""

from __future__ import annotations

import pytest

from assistant.controls import without_controls


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("before \x1b[31mred\x1b[0m after", "before red after"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]0;a title\x9ctext", "text"),
        ("\x1bP1;2q data \x1b\\text", "text"),
        ("\x1b_a payload\x1b\\text", "text"),
        ("\x9b31mtext", "text"),
        ("\x1b(Btext \x1bcreset", "text reset"),
        ("one\r\ntwo\n\tthree\x07", "one\ntwo\n\tthree"),
        ("\u202ekept", "\u202ekept"),
    ],
)
def test_no_part_of_an_escape_sequence_is_left(raw: str, shown: str) -> None:
    assert without_controls(raw) == shown
