"""Versions, the path that is shown, and forks: nothing that was said is ever lost by saying it differently."""

from __future__ import annotations

import pytest

from assistant.errors import UsageError
from assistant.history import Begun, History, NameTaken, UnknownConversation
from assistant.protocol import NewTurn


def say(history: History, text: str, reply: str, replaces: int | None = None, name: str = "demo") -> Begun:
    """A question and its whole reply; token ids are the characters' code points."""
    begun = history.begin(name, text, replaces=replaces)
    ids = {begun.turn_id: [ord(char) for char in text], begun.reply_id: [ord(char) for char in reply]}
    history.finish(begun.conversation_id, begun.reply_id, text=reply, token_ids=ids, model="m")
    return begun


def path(history: History, name: str = "demo") -> list[str]:
    return [turn.text for turn in history.turns(name)]


def read(history: History, name: str = "demo") -> list[str]:
    return [turn.text for turn in history.read(history.find(name), "m")]


def versions(history: History, name: str = "demo") -> list[tuple[str, int, int]]:
    return [(turn.text, turn.version, turn.versions) for turn in history.turns(name)]


def test_another_text_takes_the_place_of_a_question_and_what_followed_it(history: History) -> None:
    first = say(history, "one", "1")
    say(history, "two", "2")
    say(history, "uno", "I", replaces=first.turn_id)
    assert path(history) == read(history) == ["uno", "I"]
    assert versions(history) == [("uno", 2, 2), ("I", 1, 1)]
    assert [turn.text for turn in history.turns("demo", versions=True)] == ["one", "1", "two", "2", "uno", "I"]


def test_the_same_text_asks_for_another_reply_to_the_same_question(history: History) -> None:
    first = say(history, "one", "1")
    say(history, "two", "2")
    again = say(history, "one", "I", replaces=first.turn_id)
    assert again.turn_id == first.turn_id
    assert versions(history) == [("one", 1, 1), ("I", 2, 2)]


def test_the_old_version_is_a_choice_away_with_all_that_followed_it(history: History) -> None:
    first = say(history, "one", "1")
    say(history, "two", "2")
    other = say(history, "uno", "I", replaces=first.turn_id)
    assert [turn.text for turn in history.siblings("demo", other.turn_id)] == ["one", "uno"]
    history.choose("demo", first.turn_id)
    assert path(history) == read(history) == ["one", "1", "two", "2"]
    history.choose("demo", other.reply_id)
    assert path(history) == ["uno", "I"]
    say(history, "due", "II")
    assert path(history) == ["uno", "I", "due", "II"]


def test_choosing_goes_on_to_what_was_written_last(history: History) -> None:
    first = say(history, "one", "1")
    second = say(history, "two", "2")
    say(history, "two!", "2!", replaces=second.turn_id)
    say(history, "uno", "I", replaces=first.turn_id)
    history.choose("demo", first.turn_id)
    assert path(history) == ["one", "1", "two!", "2!"]


def test_a_reply_is_given_what_led_to_it_whatever_is_shown_meanwhile(history: History) -> None:
    first = say(history, "one", "1")
    pending = history.begin("demo", "uno", replaces=first.turn_id)
    history.choose("demo", first.turn_id)
    assert [turn.text for turn in history.read(pending.conversation_id, "m", pending.reply_id)] == ["uno"]
    history.finish(pending.conversation_id, pending.reply_id, text="I")
    assert path(history) == ["one", "1"]


@pytest.mark.parametrize("system", [None, "Be kind."])
def test_the_first_question_can_be_replaced(history: History, system: str | None) -> None:
    first = history.begin("demo", "one", system)
    history.begin("demo", "uno", replaces=first.turn_id)
    assert path(history) == ([system] if system else []) + ["uno", ""]


def test_only_a_question_of_the_same_conversation_can_be_replaced(history: History) -> None:
    first, other = say(history, "one", "1"), say(history, "one", "1", name="other")
    with pytest.raises(UsageError, match="not written by you; nothing was stored"):
        history.begin("demo", "x", replaces=first.reply_id)
    for name, turn in (("demo", other.turn_id), ("demo", 10**6)):
        with pytest.raises(UnknownConversation, match=f"no turn {turn} in the conversation 'demo'"):
            history.begin(name, "x", replaces=turn)
        with pytest.raises(UnknownConversation, match="no turn"):
            history.choose(name, turn)
        with pytest.raises(UnknownConversation, match="no turn"):
            history.siblings(name, turn)
    with pytest.raises(UnknownConversation, match="no conversation 'nobody'"):
        history.begin("nobody", "x", replaces=first.turn_id)
    assert path(history) == ["one", "1"]


def test_a_fork_begins_like_its_origin_and_goes_its_own_way(history: History) -> None:
    say(history, "one", "1")
    second = say(history, "two", "2")
    fork = history.fork("demo", second.turn_id - 1)
    say(history, "zwei", "II", name=fork)
    assert path(history, fork) == ["one", "1", "zwei", "II"]
    assert path(history) == ["one", "1", "two", "2"]
    told = history.conversation(fork)
    assert (told.name, told.origin, told.turns, told.title) == ("demo (2)", "demo", 4, "one")
    assert history.origins(told.id) == [history.find("demo")]
    assert [turn.token_ids for turn in history.read(told.id, "m")][:2] == [[ord(c) for c in "one"], [ord("1")]]


def test_a_duplicate_has_the_shown_path_and_a_fork_of_a_fork_knows_both_origins(history: History) -> None:
    first = say(history, "one", "1")
    say(history, "uno", "I", replaces=first.turn_id)
    middle = history.fork("demo", new="middle")
    last = history.fork(middle)
    assert last == "middle (2)"
    assert history.fork(last) == "middle (3)"
    assert versions(history, last) == [("uno", 1, 1), ("I", 1, 1)]
    assert history.origins(history.find(last)) == [history.find("middle"), history.find("demo")]
    history.remove("demo")
    assert history.conversation("middle").origin is None
    assert path(history, last) == ["uno", "I"]


def test_a_fork_of_a_version_that_is_not_shown(history: History) -> None:
    first = say(history, "one", "1")
    say(history, "uno", "I", replaces=first.turn_id)
    assert path(history, history.fork("demo", first.reply_id)) == ["one", "1"]
    assert path(history) == ["uno", "I"]


def test_a_fork_in_mid_reply_keeps_what_is_written_as_interrupted(history: History) -> None:
    begun = history.begin("demo", "one")
    history.checkpoint(begun.reply_id, "half of")
    fork = history.fork("demo")
    history.finish(begun.conversation_id, begun.reply_id, text="half of it")
    assert [(turn.text, turn.state) for turn in history.turns(fork)] == [("one", "done"), ("half of", "interrupted")]
    assert path(history) == ["one", "half of it"]
    assert {hit.conversation for hit in history.search("half")} == {"demo"}
    assert {hit.conversation for hit in history.search("half", conversation=fork)} == {fork}


def test_a_fork_needs_a_free_name_and_a_turn(history: History) -> None:
    say(history, "one", "1")
    with pytest.raises(NameTaken, match="already a conversation 'demo'"):
        history.fork("demo", new="demo")
    with pytest.raises(UnknownConversation, match="no turn 99"):
        history.fork("demo", 99)
    long = "x" * 80
    say(history, "one", "1", name=long)
    assert history.fork(long) == "x" * 76 + " (2)"
    assert len(history.conversations()) == 3


def test_pages_go_along_the_path(history: History) -> None:
    turns = [say(history, f"q{number}", f"a{number}") for number in range(6)]
    say(history, "q3!", "a3!", replaces=turns[3].turn_id)
    page = history.turns("demo", limit=3)
    assert [turn.text for turn in page] == ["a2", "q3!", "a3!"]
    page = history.turns("demo", before=page[0].id, limit=3)
    assert [turn.text for turn in page] == ["q1", "a1", "q2"]


def test_an_import_goes_on_where_the_path_ends(history: History) -> None:
    first = say(history, "one", "1")
    say(history, "uno", "I", replaces=first.turn_id)
    history.add("demo", [NewTurn(role="transcript", text="Ann: hello"), NewTurn(role="transcript", text="Ben: hi")])
    assert path(history) == read(history) == ["uno", "I", "Ann: hello", "Ben: hi"]


def test_removed_versions_are_gone_from_every_file(history: History) -> None:
    first = say(history, "the canary sings", "canary")
    say(history, "other", "words", replaces=first.turn_id)
    history.remove("demo")
    assert not any(b"canary" in file.read_bytes() for file in history.path.parent.iterdir())


def test_what_forks_share_is_found_once_where_it_was_said(history: History) -> None:
    say(history, "Biscuit barks", "yes")
    fork = history.fork("demo")
    say(history, "Biscuit sleeps", "no", name=fork)
    other = history.fork(fork)
    assert [(hit.conversation, hit.snippet) for hit in history.search("biscuit")] == [
        (fork, "[Biscuit] sleeps"),
        ("demo", "[Biscuit] barks"),
    ]
    assert len(history.search("biscuit", conversation=other)) == 2
    history.put_away("demo")
    assert {hit.conversation for hit in history.search("barks")} == {fork, other}
    history.remove("demo")
    assert {hit.conversation for hit in history.search("barks")} == {fork, other}
