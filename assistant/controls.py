"""Text that goes to a terminal: without escape sequences and control characters, whoever wrote it."""

from __future__ import annotations

import re

_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movement
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS, SOS, PM, APC: titles, clipboard
    r"|\x9b[0-?]*[ -/]*[@-~]"  # the one-byte CSI
    r"|\x1b[ -/]*[0-~]"  # all other two- and three-byte sequences
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters other than newline and tab."""


def without_controls(text: str) -> str:
    """`text` without terminal escapes and control characters other than newline and tab."""
    return CONTROL.sub("", _ESCAPE.sub("", text.replace("\r\n", "\n")))
