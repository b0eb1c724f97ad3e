"""Conversations that are found by what was said: what goes on, what forks, what begins anew."""

from __future__ import annotations

import pytest

from assistant.errors import UsageError
from assistant.history import BegunChain, History, UnknownResponse
from assistant.history.links import Message, of_reply, root
from assistant.protocol import Call, ToolSpec, Written

START = root([])
WEATHER = ToolSpec(name="weather", description="", parameters={"type": "object"})


def said(*texts: str) -> list[Message]:
    """Messages by turns of user and assistant."""
    return [Message(("user", "assistant")[at % 2], text, text) for at, text in enumerate(texts)]  # type: ignore[arg-type]


def answer(history: History, begun: BegunChain, text: str, written: Written | None = None) -> None:
    history.finish(
        begun.begun.conversation_id,
        begun.begun.reply_id,
        text=text,
        token_ids={begun.begun.turn_id: [1, 2], begun.begun.reply_id: [3]},
        model="m",
        calls=written.calls if written else (),
        link=of_reply(begun.link, text, written),
    )


def talk(history: History, *texts: str, start: str = START) -> BegunChain:
    """A request with these messages, answered with "fine"."""
    begun = history.begin_chained(start, said(*texts))
    answer(history, begun, "fine")
    return begun


def texts(history: History, name: str) -> list[str]:
    return [turn.text for turn in history.turns(name)]


def test_a_conversation_goes_on_where_it_ended(history: History) -> None:
    first = talk(history, "hello")
    second = talk(history, "hello", " fine\n", "and you?")
    assert second.name == first.name
    assert texts(history, first.name) == ["hello", "fine", "and you?", "fine"]
    read = history.read(first.begun.conversation_id, "m", second.begun.reply_id)
    assert [turn.token_ids for turn in read] == [[1, 2], [3], [1, 2]], "what was read is not read again"


def test_what_parts_from_it_is_a_fork_that_keeps_what_was_read(history: History) -> None:
    first = talk(history, "hello", "fine", "and you?")
    other = talk(history, "hello", "fine", "and they?")
    assert other.name != first.name
    assert texts(history, first.name) == ["hello", "fine", "and you?", "fine"]
    assert texts(history, other.name) == ["hello", "fine", "and they?", "fine"]
    assert history.origins(other.begun.conversation_id) == [first.begun.conversation_id]
    assert talk(history, "hello", "fine", "and they?", "fine", "why?").name == other.name
    history.remove(first.name)
    again = talk(history, "hello", "fine", "and we?")
    assert history.origins(again.begun.conversation_id)[0] == other.begun.conversation_id


def test_the_same_request_again_forks_before_the_reply(history: History) -> None:
    first, again = talk(history, "hello"), talk(history, "hello")
    assert again.name != first.name
    assert texts(history, again.name) == ["hello", "fine"]


def test_two_requests_at_once_on_one_tip_do_not_meet(history: History) -> None:
    first = talk(history, "hello")
    one = history.begin_chained(START, said("hello", "fine", "one"))
    two = history.begin_chained(START, said("hello", "fine", "two"))
    same = history.begin_chained(START, said("hello", "fine", "one"))
    assert one.name == first.name
    assert len({one.name, two.name, same.name}) == 3
    for begun, word in ((one, "one"), (two, "two"), (same, "one")):
        answer(history, begun, "fine")
        assert texts(history, begun.name) == ["hello", "fine", word, "fine"]


def test_other_tools_are_another_beginning(history: History) -> None:
    first = talk(history, "hello")
    other = talk(history, "hello", "fine", "more", start=root([WEATHER]))
    assert other.name != first.name
    assert history.origins(other.begun.conversation_id) == []
    assert root([WEATHER]) == root([WEATHER.model_copy()]) != START


def test_calls_count_and_not_how_they_were_written(history: History) -> None:
    call = Call(name="weather", arguments={"b": 1, "a": 2})
    begun = history.begin_chained(START, said("Rain?"))
    answer(history, begun, "Look <tool_call>…", Written(text="Look", calls=[call]))
    same = Message("assistant", "as they write it", "Look", (Call(name="weather", arguments={"a": 2, "b": 1}),))
    result = Message("tool", "dry", "dry")
    assert history.begin_chained(START, [*said("Rain?"), same, result]).name == begun.name
    other = Message("assistant", "", "Look", (Call(name="weather", arguments={"a": 3}),))
    assert history.begin_chained(START, [*said("Rain?"), other, result]).name != begun.name


def test_an_interrupted_reply_is_not_gone_on_from(history: History) -> None:
    begun = history.begin_chained(START, said("hello"))
    history.finish(begun.begun.conversation_id, begun.begun.reply_id, text="fi", state="interrupted")
    other = history.begin_chained(START, said("hello", "fi", "more"))
    assert other.name != begun.name
    assert texts(history, other.name)[:3] == ["hello", "fi", "more"]


def test_they_are_archived_and_what_was_put_away_is_not_found(history: History) -> None:
    first = talk(history, "hello")
    assert history.conversations() == []
    assert [one.name for one in history.conversations(archived=True)] == [first.name]
    history.put_away(first.name)
    assert talk(history, "hello", "fine", "more").name != first.name
    history.restore(first.name)
    assert talk(history, "hello", "fine", "other").name == first.name


def test_a_reply_is_gone_on_from_by_its_number(history: History) -> None:
    call = Call(name="weather", arguments={})
    begun = history.begin_chained(START, said("Rain?"), {"model": "m"})
    with pytest.raises(UsageError, match="did not become whole"):
        history.begin_chained("", said("more"), after=begun.begun.reply_id)
    answer(history, begun, "Look <tool_call>…", Written(text="Look", calls=[call]))
    found = history.response(begun.begun.reply_id)
    assert (found.said, found.calls, found.request, found.conversation) == ("Look", [call], {"model": "m"}, begun.name)
    assert [one.said for one in history.messages_to(begun.begun.reply_id)] == ["Rain?", "Look"]
    on = history.begin_chained("", said("more"), after=begun.begun.reply_id)
    assert on.name == begun.name
    fork = history.begin_chained("", said("else"), after=begun.begun.reply_id)
    assert texts(history, fork.name) == ["Rain?", "Look <tool_call>…", "else", ""]
    for unknown in (begun.begun.turn_id, 10**6):
        with pytest.raises(UnknownResponse):
            history.response(unknown)


def test_what_is_removed_leaves_no_id_behind(history: History) -> None:
    begun = talk(history, "hello")
    history.remove(begun.name)
    for table in ("links", "responses"):
        assert history._db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
