"""Whatever is asked, replaced, chosen, forked and put away: the history shows what a plain model of it says."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.history import History

ACTIONS = ("ask", "again", "edit", "choose", "fork", "away", "remove", "reopen")


@dataclass
class Talk:
    """A conversation in plain words: (parent, role, text) of every turn, and the path."""

    nodes: dict[int, tuple[int | None, str, str]] = field(default_factory=dict)
    path: list[int] = field(default_factory=list)

    def line(self, turn: int | None) -> list[int]:
        found: list[int] = []
        while turn is not None:
            found.insert(0, turn)
            turn = self.nodes[turn][0]
        return found

    def newest_below(self, turn: int) -> int:
        return max(other for other in self.nodes if turn in self.line(other))

    def texts(self) -> list[str]:
        return [self.nodes[turn][2] for turn in self.path]

    def versions(self, turn: int) -> list[int]:
        return sorted(other for other, node in self.nodes.items() if node[:2] == self.nodes[turn][:2])


class Story:
    """Does the same to a history and to its model."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.history = History(path)
        self.talks: dict[str, Talk] = {"demo": Talk()}
        self.number = 0

    def act(self, action: str, which: int, where: int) -> None:
        name = sorted(self.talks)[which % len(self.talks)]
        talk = self.talks[name]
        turns = sorted(talk.nodes)
        match action:
            case "ask":
                self._say(name, talk, None, f"q{self.number}")
            case "again" | "edit" if questions := [turn for turn in turns if talk.nodes[turn][1] == "user"]:
                turn = questions[where % len(questions)]
                self._say(name, talk, turn, talk.nodes[turn][2] if action == "again" else f"q{self.number}")
            case "choose" if turns:
                turn = turns[where % len(turns)]
                self.history.choose(name, turn)
                talk.path = talk.line(talk.newest_below(turn))
            case "fork" if turns:
                self._fork(name, talk, turns[where % len(turns)])
            case "away" if turns:
                self.history.put_away(name)
                self.history.restore(name, name)
            case "remove" if turns and len(self.talks) > 1:
                self.history.remove(name)
                del self.talks[name]
            case "reopen":
                self.history.close()
                self.history = History(self.path)
        self.number += 1

    def _say(self, name: str, talk: Talk, replaces: int | None, text: str) -> None:
        begun = self.history.begin(name, text, replaces=replaces)
        self.history.finish(begun.conversation_id, begun.reply_id, text=f"to {text}")
        tip = talk.path[-1] if talk.path else None
        if begun.turn_id not in talk.nodes:
            talk.nodes[begun.turn_id] = (tip if replaces is None else talk.nodes[replaces][0], "user", text)
        talk.nodes[begun.reply_id] = (begun.turn_id, "assistant", f"to {text}")
        talk.path = talk.line(begun.reply_id)

    def _fork(self, name: str, talk: Talk, turn: int) -> None:
        fork = self.history.fork(name, turn)
        kept = [talk.nodes[one] for one in talk.line(turn)]
        ids = [one.id for one in self.history.turns(fork, limit=10**6)]
        parents = [None, *ids]
        nodes = {
            one: (parents[at], role, text) for at, (one, (_, role, text)) in enumerate(zip(ids, kept, strict=True))
        }
        self.talks[fork] = Talk(nodes, ids)

    def check(self) -> None:
        talks = {name: talk for name, talk in self.talks.items() if talk.nodes}
        assert {one.name: one.turns for one in self.history.conversations()} == {
            name: len(talk.path) for name, talk in talks.items()
        }
        for name, talk in talks.items():
            turns = self.history.turns(name, limit=10**6)
            assert [(turn.id, turn.text) for turn in turns] == list(zip(talk.path, talk.texts(), strict=True))
            assert [turn.text for turn in self.history.read(self.history.find(name), "m")] == talk.texts()
            for turn in turns:
                known = talk.versions(turn.id)
                assert [one.id for one in self.history.siblings(name, turn.id)] == known
                assert (turn.version, turn.versions) == (known.index(turn.id) + 1, len(known))
            every = self.history.turns(name, limit=10**6, versions=True)
            assert {turn.id: (turn.parent, turn.role, turn.text) for turn in every} == talk.nodes


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 9), st.integers(0, 99)), min_size=5, max_size=25))
@settings(max_examples=25)
def test_any_story_is_shown_as_it_went(actions: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        story = Story(Path(folder) / "history.db")
        for action in [("ask", 0, 0), ("ask", 0, 0), *actions]:
            story.act(*action)
            story.check()
        story.history.close()
