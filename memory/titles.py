"""Words that may say what an episode is about: frequent in it, rare elsewhere. No torch in here."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping

CANDIDATES = 24
"""Words that are looked at for a title."""

_DATE = re.compile(r"^\[[^\]\n]*\]$", re.MULTILINE)
_WORD = re.compile(r"[^\W\d_]\w{2,}")


def candidates(
    texts: Mapping[int, str], episodes: Mapping[int, int], speakers: Collection[str]
) -> dict[int, list[str]]:
    """Words that may name each episode, the best first; `texts` and `episodes` are by segment.

    Names of speakers are left out.
    """
    left_out = {word for speaker in speakers for word in _WORD.findall(speaker.lower())}
    words = {segment: set(_WORD.findall(_DATE.sub("", text.lower()))) - left_out for segment, text in texts.items()}
    everywhere = Counter(word for found in words.values() for word in found)
    within = dict[int, Counter[str]]()
    for segment, episode in episodes.items():
        within.setdefault(episode, Counter()).update(words.get(segment, ()))
    return {episode: _best(counts, everywhere, len(texts)) for episode, counts in within.items()}


def _best(counts: Counter[str], everywhere: Counter[str], segments: int) -> list[str]:
    def weight(word: str) -> float:
        count, total = counts[word], everywhere[word]
        return count * (count / total) * math.log((1 + segments) / total)

    return sorted(counts, key=lambda word: (-weight(word), word))[:CANDIDATES]
