"""The cells of the episode map: lines are drawn as they come into sight, so that it is as long as it needs to be."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from assistant.views.atlas import Cell, Row, State, episode_mark
from tui.panels.lines import fitted

LABEL = 16
"""Cells of the label at most, and the room after it."""


class EpisodeChart(ScrollView, can_focus=True):
    """Rows of cells with a cursor that moves from cell to cell."""

    COMPONENT_CLASSES = {"chart--label", "chart--verbatim", "chart--compressed", "chart--disk", "chart--text"}
    DEFAULT_CSS = """
    EpisodeChart { scrollbar-size-vertical: 1; }
    EpisodeChart > .chart--label { color: $foreground 55%; }
    EpisodeChart > .chart--verbatim { color: $success; }
    EpisodeChart > .chart--compressed { color: $warning; }
    EpisodeChart > .chart--disk { color: $primary; }
    EpisodeChart > .chart--text { color: $foreground 55%; }
    """
    BINDINGS = [
        Binding("left,h", "move(-1)", "The exchange before", id="map-left"),
        Binding("right,l", "move(1)", "The next exchange", id="map-right"),
        Binding("up,k", "climb(-1)", "A row up", id="map-up"),
        Binding("down,j", "climb(1)", "A row down", id="map-down"),
        Binding("pageup", "climb(-10)", "Ten rows up", id="map-page-up"),
        Binding("pagedown", "climb(10)", "Ten rows down", id="map-page-down"),
        Binding("home,g", "end(-1)", "The first exchange", id="map-first"),
        Binding("end,G", "end(1)", "The last exchange", id="map-last"),
        Binding("enter", "choose", "To its turn", id="map-go"),
        Binding("e", "marks", "Marks say where it lies, or which episode it is", id="map-marks"),
        Binding("slash", "screen.filter", "Filter by words", key_display="/", id="map-filter"),
    ]
    _CLASSES: dict[State, str] = {
        "verbatim": "verbatim",
        "compressed": "compressed",
        "on disk": "disk",
        "text only": "text",
    }

    class Moved(Message):
        """The cursor is on another cell, or on none."""

    class Chosen(Message):
        """Enter, or a click, on a cell."""

        def __init__(self, cell: Cell) -> None:
            super().__init__()
            self.cell = cell

    def __init__(self) -> None:
        super().__init__()
        self._rows: Sequence[Row] = ()
        self._at = 0
        self.by_episode = False
        """Cells are marked by their episode and not by where they lie."""

    @property
    def columns(self) -> int:
        """Cells of a row that there is room for."""
        return max(1, self.size.width - self._label - 2)

    @property
    def cell(self) -> Cell | None:
        """The cell under the cursor."""
        if not self._rows:
            return None
        row = self._rows[self._row]
        return row.cells[self._at - row.first]

    def show(self, rows: Sequence[Row], turn: int | None = None) -> None:
        """Other rows; the cursor goes to `turn` where it is among them, else to the last cell."""
        self._rows = rows
        self._at = _find(rows, turn) if rows else 0
        self.virtual_size = Size(self.size.width, len(rows))
        self.refresh()
        self._moved()

    def render_line(self, y: int) -> Strip:
        at = y + self.scroll_offset.y
        if at >= len(self._rows):
            return Strip.blank(self.size.width, self.rich_style)
        row = self._rows[at]
        label = fitted(row.label, self._label)
        room = " " * (self._label - cell_len(label) + 2)
        parts = [Segment(label + room, self._style("label"))]
        parts += [self._cell(row, index) for index in range(len(row.cells))]
        return Strip(parts).extend_cell_length(self.size.width, self.rich_style).crop(0, self.size.width)

    def action_move(self, by: int) -> None:
        self._go(self._at + by)

    def action_climb(self, by: int) -> None:
        if not self._rows:
            return
        column = self._at - self._rows[self._row].first
        row = self._rows[max(0, min(len(self._rows) - 1, self._row + by))]
        self._go(row.first + min(column, len(row.cells) - 1))

    def action_end(self, side: int) -> None:
        self._go(0 if side < 0 else self._count)

    def action_marks(self) -> None:
        self.by_episode = not self.by_episode
        self.refresh()
        self.post_message(self.Moved())

    def action_choose(self) -> None:
        if (cell := self.cell) is not None:
            self.post_message(self.Chosen(cell))

    def on_click(self, event: events.Click) -> None:
        at, column = event.y + self.scroll_offset.y, event.x - self._label - 2
        if at < len(self._rows) and 0 <= column < len(self._rows[at].cells):
            self._go(self._rows[at].first + column)
            if event.chain > 1:
                self.action_choose()

    @property
    def _label(self) -> int:
        return LABEL if self.size.width >= 3 * LABEL else max(0, self.size.width // 3)

    @property
    def _count(self) -> int:
        return self._rows[-1].first + len(self._rows[-1].cells) if self._rows else 0

    @property
    def _row(self) -> int:
        """The row the cursor is in."""
        low, high = 0, len(self._rows) - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._rows[middle].first <= self._at else (low, middle - 1)
        return low

    def _go(self, to: int) -> None:
        if self._rows:
            self._at = max(0, min(self._count - 1, to))
            self.refresh()
            self._moved()

    def _moved(self) -> None:
        if self._rows:
            self.scroll_to_region(Region(0, self._row, 1, 1), animate=False, force=True)
        self.post_message(self.Moved())

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"chart--{name}")

    def _cell(self, row: Row, index: int) -> Segment:
        cell = row.cells[index]
        style = self._style(self._CLASSES[cell.state])
        mark = episode_mark(cell.episode) if self.by_episode else cell.shape
        if row.first + index != self._at:
            return Segment(mark, style)
        return Segment(mark if self.by_episode else "◆", style + Style(reverse=True, bold=True))


def _find(rows: Sequence[Row], turn: int | None) -> int:
    for row in rows:
        for index, cell in enumerate(row.cells):
            if turn in cell.turns:
                return row.first + index
    return rows[-1].first + len(rows[-1].cells) - 1
