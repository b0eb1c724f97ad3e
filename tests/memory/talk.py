"""Conversations for tests of episodes: turns about topics that an embedding model tells apart."""

from __future__ import annotations

from collections.abc import Sequence

from memory.segment import EpisodeTurn

TOPICS = {
    "dogs": ["My dog chased a ball in the park.", "The puppy needs a walk and its food.", "Dogs bark at the vet."],
    "money": ["The bank raised interest rates.", "My mortgage payment is due.", "Stocks and bonds fell today."],
    "space": ["The rocket reached orbit.", "Astronauts repaired the telescope.", "The moon of Jupiter has ice."],
    "bread": ["Knead the dough and let it rise.", "The oven bakes the sourdough loaf.", "Flour, yeast and salt."],
}


def turns(topics: Sequence[str], start: int = 1, date: str | None = None) -> list[EpisodeTurn]:
    """Four turns (a segment) about each topic in turn; ids count from `start`, each turn has ten tokens."""
    said = list[EpisodeTurn]()
    for topic in topics:
        for at in range(4):
            number, lines = len(said), TOPICS[topic]
            speaker = "Ada" if at % 2 == 0 else "Ben"
            text = f"{lines[at % 3]} {lines[(at + len(said) // 4) % 3]}"
            said.append(EpisodeTurn(start + number, speaker, text, date, number * 10, number * 10 + 10))
    return said
