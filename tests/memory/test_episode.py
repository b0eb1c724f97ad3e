"""Episodes of a conversation: segments, groups, routes and patches; all of it again after a restart or a loss."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from memory.encoder import Encoder
from memory.episode import BATCH, Episodes
from memory.episode_reader import EpisodeReader
from memory.episode_store import EpisodeStore
from memory.folder import KvFolder
from memory.forgetting import forget
from memory.policy.patched_prompt import INSTRUCTION
from memory.segment import EpisodeTurn
from tests.memory.failing import failing
from tests.memory.talk import TOPICS, turns

Open = Callable[..., Episodes]
MIXED = ["dogs", "money", "space", "bread", "money", "dogs", "bread", "space"] * 3
QUESTIONS = {
    "dogs": "Where did my dog chase the ball?",
    "money": "When is my mortgage payment to the bank due?",
    "space": "Which moon has ice?",
    "bread": "How long must the dough rise?",
}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "episodes.db"


@pytest.fixture
def start(file: Path, encoder: Encoder) -> Iterator[Open]:
    """Open episodes (of `file`, by default); they are closed after the test."""
    opened = list[Episodes]()

    def begin(path: Path | None = file, using: Encoder | None = encoder) -> Episodes:
        opened.append(Episodes(path, using))
        return opened[-1]

    yield begin
    for episodes in opened:
        episodes.close()


def seen(episodes: Episodes, conversation: str = "c") -> list[tuple[int, int | None, tuple[int, ...]]]:
    """(segment, episode, turns) of every segment."""
    segments = episodes.segments(conversation)
    return [(one.segment, one.episode, tuple(turn.turn for turn in one.turns)) for one in segments]


def topics_of(episodes: Episodes, topics: list[str]) -> dict[str, set[int | None]]:
    """The episodes that the segments about each topic are in."""
    found = dict[str, set[int | None]]()
    for topic, one in zip(topics, episodes.segments("c"), strict=True):
        found.setdefault(topic, set()).add(one.episode)
    return found


def test_topics_become_episodes_and_questions_find_theirs(start: Open) -> None:
    episodes = start()
    episodes.observe("c", turns(MIXED)).result()
    groups = topics_of(episodes, MIXED)
    assert all(len(group) == 1 for group in groups.values())
    assert len(set.union(*groups.values())) == 4
    for number, (topic, question) in enumerate(QUESTIONS.items()):
        route = episodes.route("c", 1000 + number, question)
        assert route is not None
        assert route.episode in groups[topic]
        assert route.runner_up not in (None, route.episode)
        assert route.switched is (number > 0)
        assert route.similarity is not None
        assert route.runner_up_similarity is not None
        assert 1 >= route.similarity > route.runner_up_similarity
        assert not route.new
        near = json.loads(episodes.routes("c")[-1].nearest or "")
        assert MIXED[near[0]["segment"]] == topic
        assert [one["similarity"] for one in near] == sorted((one["similarity"] for one in near), reverse=True)
    same = episodes.route("c", 2000, "Does the bread need yeast?")
    assert same is not None
    assert (same.switched, same.new) == (False, False)
    far = episodes.route("c", 2001, "qwertz uiop 12345")
    assert far is not None
    assert far.new
    assert [route.number for route in episodes.routes("c")] == [1, 2, 3, 4, 5, 6]


def test_an_episode_shows_its_segments_and_names_its_topic(start: Open) -> None:
    episodes = start()
    episodes.observe("c", turns(MIXED, date="8 May 2023")).result()
    views = episodes.map("c")
    assert sum(len(view.segments) for view in views) == len(MIXED)
    for view in views:
        assert view.medoid in [one.segment for one in view.segments]
        assert 0 < view.cohesion <= 1
        for one in view.segments:
            assert (one.first_token, one.last_token) == (one.segment * 40, one.segment * 40 + 40)
            assert (one.dates, one.speakers) == (["8 May 2023"], ["Ada", "Ben"])
            assert len(one.turns) == 4
        said = " ".join(TOPICS[MIXED[view.medoid]]).lower()
        assert all(word in said for word in view.title.split(", "))


def test_the_patch_is_the_instruction_and_the_eight_nearest_segments_in_time_order(start: Open) -> None:
    episodes = start()
    talk = turns(["dogs"] * 12 + ["money"] * 4)
    episodes.observe("c", talk).result()
    view = max(episodes.map("c"), key=lambda view: len(view.segments))
    nearest = sorted(view.segments, key=lambda one: -(one.similarity or 0))[:8]
    shown = ["\n".join(turn.text for turn in one.turns) for one in sorted(nearest, key=lambda one: one.segment)]
    assert episodes.patch("c", view.episode) == "\n\n".join([INSTRUCTION.strip(), *shown])
    assert episodes.patch("c", 99) == ""
    largest_first = sorted(episodes.map("c"), key=lambda view: -len(view.segments))
    assert list(episodes.patches("c")) == [view.episode for view in largest_first]
    assert episodes.patches("c")[view.episode] == episodes.patch("c", view.episode)


@pytest.mark.parametrize("step", [1, 7])
def test_it_does_not_matter_when_turns_are_observed(start: Open, step: int) -> None:
    talk = turns(MIXED)
    whole, parts = start(), start(None)
    whole.observe("c", talk).result()
    for end in range(step, len(talk) + step, step):
        parts.observe("c", talk[:end]).result()
    assert seen(parts) == seen(whole)
    news = start(None)
    for first in range(0, len(talk), step):
        news.observe("c", talk[first : first + step]).result()
    assert seen(news) == seen(whole)


def test_observing_again_changes_nothing(start: Open) -> None:
    episodes = start()
    episodes.observe("c", turns(MIXED)).result()
    before, map_before = seen(episodes), episodes.map("c")
    for again in (turns(MIXED), turns(MIXED)[5:9], turns(MIXED)[:3], []):
        episodes.observe("c", again).result()
    assert seen(episodes) == before
    assert episodes.map("c") == map_before


def test_an_edit_replaces_what_follows_and_ids_are_not_used_again(start: Open) -> None:
    episodes, talk = start(), turns(MIXED)
    episodes.observe("c", talk).result()
    ids = {view.episode for view in episodes.map("c")}
    edited = [*talk[:9], EpisodeTurn(500, "Ada", "Let us talk about something else.")]
    episodes.observe("c", edited).result()
    assert [one[2] for one in seen(episodes)] == [(1, 2, 3, 4), (5, 6, 7, 8), (9, 500)]
    assert seen(episodes)[-1][1] is None
    assert {view.episode for view in episodes.map("c")} <= ids
    changed = [replace(talk[0], text="Knead the dough."), *talk[1:]]
    episodes.observe("c", changed).result()
    assert [one[2][0] for one in seen(episodes)] == list(range(1, len(talk), 4))
    fresh = start(None)
    fresh.observe("c", changed).result()
    assert [one[2] for one in seen(fresh)] == [one[2] for one in seen(episodes)]


def test_other_token_spans_are_noted_without_embedding_again(start: Open) -> None:
    episodes, talk = start(), turns(["dogs", "money"])
    episodes.observe("c", talk).result()
    episodes.observe("c", [replace(turn, first=turn.first * 2, last=turn.last * 2) for turn in talk]).result()
    assert [(one.first_token, one.last_token) for one in episodes.segments("c")] == [(0, 80), (80, 160)]
    assert [one.episode for one in episodes.segments("c")] == [1, 2]


# --- restarts and losses ---------------------------------------------------------------------------------------------


def test_everything_is_there_after_a_restart(start: Open) -> None:
    first = start()
    first.observe("c", turns(MIXED[:15])).result()
    first.route("c", 900, QUESTIONS["dogs"])
    routes, views = first.routes("c"), first.map("c")
    first.close()
    again, never = start(), start(None)
    assert (again.routes("c"), again.map("c")) == (routes, views)
    went = again.route("c", 901, QUESTIONS["space"])
    assert went is not None
    assert went.switched, "the question before is remembered"
    again.observe("c", turns(MIXED)).result()
    never.observe("c", turns(MIXED)).result()
    assert seen(again) == seen(never), "growing goes on as if there had been no restart"


def test_what_was_not_embedded_when_it_closed_is_embedded_later(start: Open) -> None:
    talk = turns(MIXED * 2)
    first, whole = start(), start(None)
    done = first.observe("c", talk)
    first.close()
    assert done.done()
    again = start()
    again.observe("c", talk).result()
    whole.observe("c", talk).result()
    assert len(talk) > 4 * BATCH
    assert seen(again) == seen(whole)


@pytest.mark.parametrize("content", [b"", b"no database at all" * 500, None], ids=["empty", "foreign", "damaged"])
def test_a_lost_file_is_made_again_from_the_turns(start: Open, file: Path, content: bytes | None) -> None:
    first = start()
    first.observe("c", turns(MIXED)).result()
    first.route("c", 900, QUESTIONS["dogs"])
    before, patches = seen(first), [first.patch("c", view.episode) for view in first.map("c")]
    first.close()
    if content is None:
        damaged = bytearray(file.read_bytes())
        damaged[4096:12288] = bytes(8192)
        content = bytes(damaged)
    file.write_bytes(content)
    again = start()
    assert (again.segments("c"), again.routes("c")) == ([], [])
    again.observe("c", turns(MIXED)).result()
    assert seen(again) == before
    assert [again.patch("c", view.episode) for view in again.map("c")] == patches


def test_a_disk_that_fails_is_told_and_the_chat_goes_on(start: Open, file: Path) -> None:
    episodes = start()
    episodes.observe("c", turns(MIXED)).result()
    with sqlite3.connect(file) as other:
        other.execute("DROP TABLE routes")
        other.execute("DROP TABLE turns")
    other.close()
    assert episodes.route("c", 900, QUESTIONS["dogs"]) is not None
    assert isinstance(episodes.observe("c", turns(MIXED)).exception(), OSError)
    assert episodes.failure is not None
    assert episodes.failure.startswith("Episodes are not being kept (")
    assert episodes.route("other", 900, "hello") is None


def test_a_folder_that_cannot_be_written_is_an_os_error(start: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    with failing(monkeypatch, "open", 1, 30, for_ever=True), pytest.raises(OSError, match="Read-only"):
        start()


def test_nothing_is_left_of_what_is_forgotten(start: Open, tmp_path: Path) -> None:
    episodes = start()
    secret = [replace(turn, text=f"Quetzal7731 {turn.text}") for turn in turns(MIXED)]
    for name, said in (("c", secret), ("other", turns(MIXED))):
        episodes.observe(name, said).result()
        episodes.route(name, 900, QUESTIONS["dogs"])
    episodes.forget("c")
    assert not any(b"quetzal7731" in path.read_bytes().lower() for path in tmp_path.iterdir())
    assert (episodes.segments("c"), episodes.map("c"), episodes.routes("c")) == ([], [], [])
    assert episodes.route("c", 901, QUESTIONS["dogs"]) is None
    assert len(episodes.map("other")) == 4
    assert len(episodes.routes("other")) == 1


def test_the_folder_forgets_them_when_no_worker_lives(start: Open, file: Path) -> None:
    episodes = start()
    for name in ("c", "other"):
        episodes.observe(name, turns(MIXED)).result()
    episodes.close()
    folder = KvFolder.open(file.parent)
    forget(folder, "c")
    folder.close()
    store = EpisodeStore(file)
    assert (store.segments("c"), len(store.segments("other"))) == ([], len(MIXED))
    store.close()


# --- bad input -------------------------------------------------------------------------------------------------------


def test_a_conversation_shorter_than_a_segment_has_no_episode(start: Open) -> None:
    episodes = start()
    episodes.observe("c", turns(["dogs"])[:3]).result()
    assert seen(episodes) == [(0, None, (1, 2, 3))]
    assert episodes.map("c") == []
    assert episodes.route("c", 9, "Where is my dog?") is None
    assert [(route.turn, route.episode) for route in episodes.routes("c")] == [(9, None)]


def test_without_an_encoder_turns_are_noted_and_nothing_else(start: Open, file: Path) -> None:
    episodes = start(file, None)
    episodes.observe("c", turns(MIXED)).result()
    assert [one[1] for one in seen(episodes)] == [None] * len(MIXED)
    assert episodes.route("c", 9, "Where is my dog?") is None
    assert (episodes.failure, episodes.reason) == (None, None)
    episodes.close()
    later = start()
    later.observe("c", turns(MIXED)).result()
    assert None not in [one[1] for one in seen(later)], "a package installed later catches up"


def test_empty_turns_count_and_say_nothing(start: Open) -> None:
    episodes = start()
    empty = [EpisodeTurn(number, "Ada", " \n") for number in range(100, 109)]
    episodes.observe("c", [*turns(["dogs"]), *empty[:5], *turns(["money"], start=200), *empty[5:]]).result()
    assert [(one[0], one[1]) for one in seen(episodes)] == [(0, 1), (1, None), (2, 2), (3, 2), (4, None)]
    assert episodes.route("c", 900, "  ") is None


def test_one_giant_turn(start: Open) -> None:
    episodes = start()
    giant = EpisodeTurn(9, "Ada", "Stocks and bonds fell today. " * 200_000)
    episodes.observe("c", [giant, *turns(["money"])[:3]]).result()
    (one,) = episodes.segments("c")
    assert one.episode == 1
    assert len(one.turns[0].text) < 5000
    assert len(episodes.patch("c", 1)) < 10_000


def test_ten_thousand_tiny_turns(start: Open) -> None:
    episodes = start()
    many = [EpisodeTurn(number, "ab"[number % 2], f"ok {number % 7}") for number in range(10_000)]
    episodes.observe("c", many).result(240)
    started = time.perf_counter()
    episodes.observe("c", [*many, EpisodeTurn(10_000, "a", "one more")]).result(240)
    assert time.perf_counter() - started < 2, "a turn more does not cost what the conversation cost"
    assert len(seen(episodes)) == 2501
    assert sum(len(view.segments) for view in episodes.map("c")) == 2500
    assert episodes.route("c", 10_001, "ok 3") is not None


def test_one_topic_only_is_four_episodes_at_most(start: Open) -> None:
    episodes = start()
    episodes.observe("c", turns(["dogs"] * 40)).result()
    assert 1 <= len(episodes.map("c")) <= 4


def test_unknown_languages_and_odd_characters(start: Open) -> None:
    episodes = start()
    texts = [
        "Ndimela ukutya",
        "ᚠᛇᚻ᛫ᛒᛦᚦ",
        "\x00\x07\ud800 half",
        "👩‍👩‍👧‍👦" * 30,
        "漢字かな交じり文",
        "؟لماذا",
        "ꙮ",
        "\u202e",
    ]
    talk = [EpisodeTurn(number, "Ω\ud83d", text, "\udc00") for number, text in enumerate(texts)]
    episodes.observe("c", talk).result()
    assert None not in [one[1] for one in seen(episodes)]
    assert episodes.route("c", 99, "\ud800 漢字") is not None


def test_routes_of_a_file_of_an_earlier_version_can_be_read(start: Open, file: Path) -> None:
    episodes = start()
    episodes.observe("c", turns(MIXED)).result()
    episodes.route("c", 1000, next(iter(QUESTIONS.values())))
    episodes.close()
    db = sqlite3.connect(file)
    db.execute("ALTER TABLE routes DROP COLUMN nearest")
    db.close()
    reader = EpisodeReader.look(file)
    assert [(route.turn, route.nearest) for route in reader.routes("c")] == [(1000, None)]
    reader.close()
