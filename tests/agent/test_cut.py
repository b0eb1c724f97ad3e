"""Text that is too long keeps its beginning and its end, and what is missing is counted, however it comes in."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from assistant.agent.cut import Kept, cut

_NOTICE = re.compile(r"\n\[\.\.\. ([\d,]+) characters left out \.\.\.\]\n")


@given(st.text(alphabet="aé漢😀", max_size=600), st.integers(100, 400), st.data())
def test_what_is_kept_and_what_is_left_out_is_the_whole(text: str, limit: int, data: st.DataObject) -> None:
    kept, rest = Kept(limit), text.encode()
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        kept.feed(rest[:size])
        rest = rest[size:]
    shown, left_out = kept.text()
    assert len(shown.encode()) <= limit
    if len(text.encode()) <= limit - 80:
        assert (shown, left_out) == (text, 0)
    if left_out:
        head, number, tail = _NOTICE.split(shown)
        assert int(number.replace(",", "")) == left_out == len(text) - len(head) - len(tail)
        assert text.startswith(head)
        assert text.endswith(tail)
    else:
        assert shown == text


@given(st.binary(max_size=600), st.integers(100, 300))
def test_bytes_that_are_no_text_are_kept_as_well_as_can_be(data: bytes, limit: int) -> None:
    kept = Kept(limit)
    kept.feed(data)
    assert len(kept.text()[0]) <= limit


def test_a_text_that_fits_is_not_touched() -> None:
    assert cut("é" * 50, 100) == ("é" * 50, 0)
