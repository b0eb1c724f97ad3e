"""The clipboard of the terminal, also through tmux and screen; and what of a reply is worth copying."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

from markdown_it import MarkdownIt

_SCREEN_CHUNK = 700
"""screen takes no longer strings than about 768 bytes."""


def sequences(text: str, environ: Mapping[str, str]) -> str:
    """What to write to the terminal so that `text` lands on the clipboard of the machine the user sits at.

    In tmux it is said twice: tmux itself may take the one (`set-clipboard on`), and pass the other on to its terminal.
    """
    plain = f"\x1b]52;c;{b64encode(text.encode()).decode()}\x07"
    if environ.get("TMUX"):
        escaped = plain.replace("\x1b", "\x1b\x1b")
        return f"{plain}\x1bPtmux;{escaped}\x1b\\"
    if environ.get("STY"):
        parts = (plain[at : at + _SCREEN_CHUNK] for at in range(0, len(plain), _SCREEN_CHUNK))
        return "".join(f"\x1bP{part}\x1b\\" for part in parts)
    return plain


def code_blocks(text: str) -> list[str]:
    """The code of every fenced or indented block of a Markdown text, in order."""
    tokens = MarkdownIt("gfm-like", {"html": False}).parse(text)
    return [token.content.rstrip("\n") for token in tokens if token.type in ("fence", "code_block")]
