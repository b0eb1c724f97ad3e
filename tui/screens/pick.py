"""Pick one of many: a filter, and rows with a text on the left and one on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui.screens.listed import Listed
from tui.text import one_line
from tui.widgets.line import Line


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `key` is what picking it gives."""

    key: str
    left: str
    right: str = ""
    under: str = ""
    """A second line, dim."""


class Pick(Listed[str | None]):
    """Gives the key of the row that was picked, or None."""

    def __init__(self, heading: str, rows: Sequence[Row], *, chosen: str | None = None, hint: str = "") -> None:
        """`chosen`: the key of the row to begin at."""
        super().__init__()
        self._heading = heading
        self._rows = list(rows)
        self._found = self._rows
        self._chosen = chosen
        self._hint = hint or "enter picks · ↑ ↓ move · esc back"

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet -wide"):
            yield Static(self._heading, classes="heading", markup=False)
            yield Line(placeholder="type to filter")
            yield OptionList(markup=False)
            yield Static(self._hint, classes="keys", markup=False)

    def on_resize(self) -> None:
        self.soon(self._show)

    @on(Input.Changed)
    def _filter(self) -> None:
        self._chosen = None
        self._show()

    def _show(self) -> None:
        words = self.query_one(Input).value.casefold().split()
        self._found = [one for one in self._rows if all(w in f"{one.left} {one.right}".casefold() for w in words)]
        options = self.query_one(OptionList)
        width = max(options.content_size.width - 1, 20)
        options.clear_options()
        options.add_options([Option(drawn(one, width)) for one in self._found])
        keys = [one.key for one in self._found]
        options.highlighted = (keys.index(self._chosen) if self._chosen in keys else 0) if keys else None
        self.query_one(".heading", Static).update(f"{self._heading} · {len(self._found)} of {len(self._rows)}")

    def take(self, at: int) -> None:
        self.dismiss(self._found[at].key)


def drawn(row: Row, width: int) -> Content:
    """Both texts on one line of this width, the left one cut first; under them the third."""
    end = one_line(row.right, max(width // 2, 12))
    start = one_line(row.left, max(width - cell_len(end) - 3, 8))
    gap = max(width - cell_len(start) - cell_len(end), 1)
    under = f"\n  {one_line(row.under, 300)}" if row.under else ""
    return Content.assemble(start, " " * gap, (end, "dim"), (under, "dim"))
