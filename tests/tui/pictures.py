"""Pictures of the screen as small SVG files, and how a test compares one with what is stored under `pictures/`.

`make pictures` takes what the screens look like now as right; look at what git shows before you commit it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from textual._context import visible_screen_stack
from textual.app import App

FOLDER = Path(__file__).with_name("pictures")
ACCEPT = "ACCEPT_PICTURES"

_NOISE = (
    (re.compile(r"@font-face \{.*?\}\s*", re.S), ""),
    (re.compile(r"terminal-\d+-"), "t-"),
    (re.compile(r'<clipPath id="t-line-\d+">.*?</clipPath>\s*', re.S), ""),
    (re.compile(r' clip-path="url\(#t-line-\d+\)"| shape-rendering="crispEdges"'), ""),
    (re.compile(r"(?=\.t-matrix \{)"), "rect { shape-rendering: crispEdges }\n"),
    (re.compile(r"(?<=>)(?=<rect|<text)"), "\n"),
)
_RECT = re.compile(
    r'<rect fill="(?P<fill>[^"]+)" x="(?P<x>[\d.]+)" y="(?P<y>[\d.]+)" width="(?P<w>[\d.]+)" height="24.65"/>'
)


def picture(app: App[None]) -> str:
    """What is on the screen, as an SVG without fonts, ids and clips."""
    visible_screen_stack.set(app._background_screens)  # what a dialog lets through; set while Textual paints
    app.screen._styles_cache.clear()
    svg = app.export_screenshot(title="assistant chat")
    for pattern, replacement in _NOISE:
        svg = pattern.sub(replacement, svg)
    return "\n".join(_joined([line.rstrip() for line in svg.splitlines() if line.strip()])) + "\n"


def _joined(lines: list[str]) -> list[str]:
    """Rectangles of one colour that touch become one."""
    joined: list[str] = []
    for line in lines:
        before, here = _RECT.fullmatch(joined[-1]) if joined else None, _RECT.fullmatch(line)
        if before and here and (before["fill"], before["y"]) == (here["fill"], here["y"]):
            width = float(here["x"]) + float(here["w"]) - float(before["x"])
            joined[-1] = (
                f'<rect fill="{here["fill"]}" x="{before["x"]}" y="{here["y"]}" width="{width:g}" height="24.65"/>'
            )
        else:
            joined.append(line)
    return joined


def as_stored(name: str, svg: str) -> bool:
    """Whether it is what is stored under this name."""
    stored = FOLDER / f"{name}.svg"
    return stored.exists() and svg == stored.read_text(encoding="utf-8")


def compare(name: str, svg: str, scratch: Path) -> None:
    """See that the picture is the stored one, or store it where that was asked for."""
    stored = FOLDER / f"{name}.svg"
    if os.environ.get(ACCEPT):
        stored.parent.mkdir(exist_ok=True)
        stored.write_text(svg, encoding="utf-8")
        return
    assert stored.exists(), f"there is no picture {name!r} yet; look at it and store it with: make pictures"
    if not as_stored(name, svg):
        seen = scratch / f"{name}.svg"
        seen.write_text(svg, encoding="utf-8")
        raise AssertionError(f"the screen is not as in {stored}; see {seen}. If it is right: make pictures")
