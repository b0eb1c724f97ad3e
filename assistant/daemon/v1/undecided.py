"""Text that is being written where calls may come: what may be one is held back until that is decided.

What is let go of can never turn out to be a part of a call, whatever the model's way of writing them
(`assistant.agent.formats`); what is held back to the end of the reply may turn out to be none.
"""

from __future__ import annotations

from assistant.agent.formats import FORMATS, thought_end

_MARKERS = sorted({marker for form in FORMATS.values() for marker in form.markers if marker})
_FENCE = "```"


class Undecided:
    """The text of one reply, as far as it is known to be text."""

    def __init__(self) -> None:
        self._text = ""
        self._given = 0

    @property
    def given(self) -> str:
        """What was let go of so far."""
        return self._text[: self._given]

    def feed(self, piece: str) -> str:
        """Add what was written; what can be shown now."""
        self._text += piece
        end = max(self._given, self._safe())
        shown, self._given = self._text[self._given : end], end
        return shown

    def _safe(self) -> int:
        """Length of the text that cannot be a part of a call."""
        text = self._text
        start = thought_end(text)
        if text[start:].lstrip()[:1] in ("", "{", "["):
            return start
        places = (at for at in range(self._given, len(text)) if text[at] in "<`")
        return next((at for at in places if _may_call(text[at:])), len(text))


def _may_call(text: str) -> bool:
    """Whether a call may begin where `text` does, as far as it is written."""
    if any(text.startswith(marker) or marker.startswith(text) for marker in _MARKERS):
        return True
    return _FENCE.startswith(text) or (text.startswith(_FENCE) and _may_be_json(text.removeprefix(_FENCE)))


def _may_be_json(fenced: str) -> bool:
    """Whether what stands in a fence may be an object or an array of JSON."""
    kind, newline, body = fenced.partition("\n")
    if not newline:
        return "json".startswith(kind.strip())
    return kind.strip() in ("", "json") and body.lstrip()[:1] in ("", "{", "[")
