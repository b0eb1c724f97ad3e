"""What a reply thinks aloud, told apart from what it says: `<think>…</think>`, also while it is being written. Pure."""

from __future__ import annotations

OPEN = "<think>"
CLOSE = "</think>"


class Split:
    """A reply that grows: feed it pieces; `thought` and `said` are the two parts so far.

    A tag counts only at the beginning of the reply (after white space): in the middle it is text about tags. Some
    templates open the tag in the prompt, so that a reply may begin inside: its `</think>` alone does not fold.
    """

    def __init__(self) -> None:
        self.thought = ""
        self.said = ""
        self.thinking = False
        """The reasoning has begun and not ended."""
        self._held = ""
        self._begun = False

    def feed(self, piece: str) -> str:
        """The new part of what is said; the rest is in `thought`, or held back until a tag is whole."""
        text, self._held = self._held + piece, ""
        if not self._begun:
            text = self._begin(text)
        if self.thinking:
            text = self._think(text)
        if text and self._begun:
            text = text if self.said else text.lstrip("\n")
            self.said += text
            return text
        return ""

    def end(self) -> str:
        """No more pieces come: what was held back is text after all."""
        text, self._held = self._held, ""
        self._begun = True
        if self.thinking:
            self.thought += text
            return ""
        self.said += text
        return text

    def _begin(self, text: str) -> str:
        start = text.lstrip()
        if start.startswith(OPEN):
            self._begun = self.thinking = True
            return start[len(OPEN) :].lstrip("\n")
        if OPEN.startswith(start):  # not decided yet
            self._held = text
            return ""
        self._begun = True
        return text

    def _think(self, text: str) -> str:
        thought, found, rest = text.partition(CLOSE)
        if found:
            self.thinking = False
            self.thought = (self.thought + thought).strip()
            return rest.lstrip("\n")
        keep = next((length for length in range(len(CLOSE) - 1, 0, -1) if text.endswith(CLOSE[:length])), 0)
        self._held = text[len(text) - keep :]
        self.thought += text[: len(text) - keep]
        return ""


def split(text: str) -> Split:
    """A whole reply, told apart."""
    parts = Split()
    parts.feed(text)
    parts.end()
    return parts
