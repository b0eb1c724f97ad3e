"""What the episode map says beside its cells: legend, headline, and the cell under the cursor. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from assistant.views.atlas import MEANING, SHAPES, Cell, Row, Sitting, State, episode_mark, states
from tui.figures import count, plural
from tui.panels.lines import QUIET, Line, Part, fitted, wrapped
from tui.text import one_line

STYLES: dict[State, str] = {
    "verbatim": "$success",
    "compressed": "$warning",
    "on disk": "$primary",
    "text only": "$foreground 45%",
}


def headline(name: str, sittings: Sequence[Sitting], shown: Sequence[Row], words: str) -> str:
    """How much there is, and how much of it the filter lets through."""
    cells = [cell for one in sittings for cell in one.cells]
    turns = sum(len(cell.turns) for cell in cells)
    told = f"{name} · {plural(len(sittings), 'sitting')}, {plural(turns, 'turn')}"
    if not words.strip():
        return told
    found = sum(len(cell.turns) for row in shown for cell in row.cells)
    return f"{told} · {count(found)} match “{words.strip()}”"


def legend(sittings: Sequence[Sitting]) -> list[Line]:
    """What each shape stands for, with the tokens that are so."""
    held = states(sittings)
    width = max(len(state) for state in SHAPES)
    return [
        [
            (f"{SHAPES[state]} {state:<{width}}  ", STYLES[state]),
            (f"{count(held[state]):>9} tokens  ", ""),
            (MEANING[state], QUIET),
        ]
        for state in SHAPES
    ]


def topics(sittings: Sequence[Sitting], titles: Mapping[int, str], width: int) -> list[Line]:
    """What each episode mark stands for, the largest first, as many as fit in four lines."""
    held = Counter[int]()
    for cell in (cell for one in sittings for cell in one.cells if cell.episode is not None):
        held[cell.episode or 0] += cell.tokens
    if not held:
        return [[("There are no episodes yet; · stands for none.", QUIET)]]
    parts = [
        (f"{episode_mark(one)} {one_line(titles.get(one, ''), 28)} {count(tokens)} tokens", "")
        for one, tokens in held.most_common()
    ]
    return wrapped(parts, width)[:4]


def about(cell: Cell | None, titles: Mapping[int, str], width: int) -> list[Line]:
    """The cell under the cursor: which turns, where they lie, and how they begin."""
    if cell is None:
        return [[("Nothing matches.", QUIET)]]
    turns = f"turn {cell.turns[0]}" if len(cell.turns) == 1 else f"turns {cell.turns[0]}-{cell.turns[-1]}"
    where = cell.state if cell.share is None else f"{cell.state}, {cell.share:.0%} on the device"
    parts: Line = [(turns, "bold"), (f" · {plural(cell.tokens, 'token')} · ", QUIET), (where, STYLES[cell.state])]
    if cell.episode is not None:
        parts.append((f" · episode {cell.episode} ({one_line(titles.get(cell.episode, ''), 60)})", QUIET))
    return [parts, *[_quote(role, text, width) for role, text in cell.said[:2]]]


def _quote(role: str, text: str, width: int) -> Line:
    begins: Part = (f"{role}: ", QUIET)
    return [begins, (fitted(text, max(width - len(role) - 2, 8)), "")]
