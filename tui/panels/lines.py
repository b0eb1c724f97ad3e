"""Lines of styled text, as the panels are made of: tables, paragraphs, headings. Pure: no Textual."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size

from tui.text import one_line

Part = tuple[str, str]
"""A piece of text and its style."""
Line = list[Part]

QUIET = "$foreground 55%"
LABEL = "$primary"


def heading(text: str) -> list[Line]:
    """A title with room above it."""
    return [[], [(text, f"bold {LABEL}")]]


def table(rows: Iterable[Sequence[str]], right: Sequence[int], width: int, styles: Sequence[str] = ()) -> list[Line]:
    """Columns as wide as their widest text, those in `right` aligned to it; the first one gives way to `width`."""
    cells = [[one_line(text, 300) for text in row] for row in rows]
    if not cells:
        return []
    widths = [max(cell_len(row[at]) for row in cells) for at in range(len(cells[0]))]
    widths[0] = max(8, min(widths[0], width - sum(widths[1:]) - 2 * len(widths)))
    return [_row(row, widths, right, styles) for row in cells]


def fitted(text: str, room: int) -> str:
    """The text on one line of at most `room` cells; characters of two cells count as two."""
    flat = one_line(text, 300)
    return flat if cell_len(flat) <= room else f"{set_cell_size(flat, max(room - 1, 0)).rstrip()}…"[:room]


def wrapped(parts: Iterable[Part], width: int) -> list[Line]:
    """Parts that stay whole, as many on a line as there is room for."""
    lines, used = [Line()], 0
    for text, style in parts:
        size = cell_len(text) + 3
        if lines[-1] and used + size > width:
            lines.append([])
            used = 0
        lines[-1].append((f"{text}   ", style))
        used += size
    return lines


def _row(row: list[str], widths: list[int], right: Sequence[int], styles: Sequence[str]) -> Line:
    line = Line()
    for at, (text, room) in enumerate(zip(row, widths, strict=True)):
        shown = fitted(text, room)
        space = " " * (room - cell_len(shown))
        line.append(
            (f"{space}{shown}  " if at in right else f"{shown}{space}  ", styles[at] if at < len(styles) else "")
        )
    return line
