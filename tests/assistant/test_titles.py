"""Titles: the first line at once, what a long conversation is about while nobody waits, the user's own for ever."""

from __future__ import annotations

import pytest

from assistant.client import Client
from assistant.daemon.titles import topics
from assistant.protocol import ConversationChange, Episodes, ImportRequest, NewTurn, Segment
from tests.assistant.talk import eventually, with_client
from tests.conftest import RunningDaemon

TALK = ["lisbon by train", "dog food", "dog toys"]
"""What the segments of a talk begin with: to the scripted worker, the first words are the episodes."""


async def bring(client: Client, name: str, segments: list[str]) -> None:
    """Import a conversation of segments of four turns."""
    texts = [text for first in segments for text in (first, "a", "b", "c")]
    turns = [NewTurn(role="transcript", text=text) for text in texts]
    async for _ in client.import_turns(name, ImportRequest.model_validate({"turns": turns})):
        pass


async def title(client: Client, name: str) -> str:
    return (await client.conversation(name)).title


def segment(number: int, episode: int | None) -> Segment:
    return Segment(segment=number, turns=[], episode=episode, similarity=None)


def test_a_long_conversation_is_named_after_its_topics(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        await bring(client, "own", TALK)
        await client.change("own", ConversationChange(title="My title"))
        await bring(client, "short", TALK[:2])
        await bring(client, "long", TALK)
        assert await title(client, "long") == "lisbon by train"

        async def named() -> bool:
            return await title(client, "long") == "Dog · lisbon"

        await eventually(named, "it has a better title")
        assert await title(client, "own") == "My title"
        assert await title(client, "short") == "lisbon by train"
        assert await title(client, (await client.fork("long")).name) == "Dog · lisbon"

    with_client(scene)


def test_a_title_stays_until_much_more_was_said(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        await bring(client, "long", TALK)

        async def named(wanted: str, name: str = "long") -> bool:
            return await title(client, name) == wanted

        await eventually(lambda: named("Dog · lisbon"), "it has a better title")
        await bring(client, "long", ["cat"])
        await bring(client, "other", TALK)
        await eventually(lambda: named("Dog · lisbon", "other"), "others have one since")
        assert await title(client, "long") == "Dog · lisbon"
        await bring(client, "long", ["cat", "cat"])
        await eventually(lambda: named("Cat · dog · lisbon"), "it has the next one")

    with_client(scene)


@pytest.mark.parametrize(
    ("episodes", "titles", "wanted"),
    [
        ([], {}, ""),
        ([None, None], {1: "dog"}, ""),
        ([1, 2, 2, 3, 3, 3, 4, 4, 4, 4], {1: "a", 2: "b", 3: "c", 4: "d"}, "D · c · b"),
        ([1, 1, 2], {1: "yeast, bread, soda", 2: "bread, oven, loaf"}, "Yeast, bread · oven, loaf"),
        ([1, 2], {1: "", 2: "été, [b]neige"}, "Été, [b]neige"),
        ([1], {1: "x" * 200}, "X" + "x" * 78 + "…"),
    ],
)
def test_the_largest_episodes_name_a_conversation(
    episodes: list[int | None], titles: dict[int, str], wanted: str
) -> None:
    segments = [segment(number, episode) for number, episode in enumerate(episodes)]
    assert topics(Episodes(segments=segments, titles=titles)) == wanted
