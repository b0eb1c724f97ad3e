"""Text that is streamed where calls may come: nothing of a call is ever shown as text, and no text is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.agent.formats import FORMATS, QWEN, Format, parse
from assistant.daemon.v1.undecided import Undecided
from assistant.protocol import Call, Calling, ToolSpec

TOOL = ToolSpec(name="now", description="", parameters={"type": "object", "properties": {"at": {"type": "string"}}})
CALLING = Calling(tools=[TOOL])
SAID = st.text(alphabet="ab <`{[\n\"'|_>tojsn", max_size=40)
CALLS = st.lists(st.builds(Call, name=st.just("now"), arguments=st.just({"at": "x`<"})), min_size=1, max_size=3)
ALL = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)


def shown(text: str, cuts: list[int]) -> str:
    """What is let go of a text that comes in pieces."""
    undecided, ends = Undecided(), sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    parts = [undecided.feed(text[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    assert "".join(parts) == undecided.given == text[: len(undecided.given)]
    return undecided.given


@ALL
@given(before=SAID, calls=CALLS, after=SAID, fenced=st.booleans(), cuts=st.lists(st.integers(0, 200), max_size=8))
def test_nothing_of_a_call_is_shown(
    form: Format, before: str, calls: list[Call], after: str, fenced: bool, cuts: list[int]
) -> None:
    written = form.written(calls)
    text = before + (f"```json\n{written}\n```" if fenced else written) + after
    given_away, whole = shown(text, cuts), parse(text, CALLING, form)
    if whole.calls:
        assert whole.text.startswith(given_away.strip())


@given(text=SAID, cuts=st.lists(st.integers(0, 60), max_size=8))
def test_what_is_shown_does_not_depend_on_how_it_came(text: str, cuts: list[int]) -> None:
    assert shown(text, cuts) == shown(text, [])


@pytest.mark.parametrize(
    "text",
    [
        "a < b, and `code` too.",
        "```python\nprint()\n```\nThat is all.",
        "Use <b>this</b>.",
        "1 [2] {3}",
        "``` js\nx\n``` end",
    ],
)
def test_what_cannot_be_a_call_is_shown_at_once(text: str) -> None:
    assert shown(text, list(range(len(text)))) == text


@pytest.mark.parametrize("text", ["Wait: <tool_c", "Wait: ```js", "Wait: ```json\n", "Wait: ``"])
def test_what_may_become_one_waits(text: str) -> None:
    assert shown(text, []) == "Wait: "
    assert shown(text + "x!", []) != "Wait: "


def test_a_thought_is_shown_and_the_call_behind_it_is_not() -> None:
    thought = "<think>Let me look.</think>"
    assert shown(f"{thought}\n{QWEN.written([Call(name='now', arguments={})])}", [5, 20]) == f"{thought}\n"
    assert shown(f"{thought}\n" + '{"name": "now"}', [30]) == thought
