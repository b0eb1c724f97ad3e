"""The episode map: a row a sitting, a cell an exchange, drawn by where its KV lies; Enter gives the turn to go to."""

from __future__ import annotations

from collections.abc import Iterator

from textual import on
from textual.binding import Binding
from textual.widget import Widget
from textual.widgets import Input, Static

from assistant.protocol import Episodes
from assistant.views.atlas import Sitting, atlas, rows
from tui.panels.episodes import about, headline, legend, topics
from tui.screens.panel import Panel, drawn
from tui.widgets.chart import EpisodeChart
from tui.widgets.line import Line


class EpisodesScreen(Panel[int | None]):
    """Gives the id of the turn to go to, or None."""

    CSS_PATH = ["../panel.tcss", "episodes.tcss"]
    BINDINGS = [Binding("f3,q", "leave", "Back")]
    HEADING = "Episodes"
    KEYS = "←↑↓→ move · enter to the turn · / filter · e episodes · esc back"

    def inside(self) -> Iterator[Widget]:
        yield Line(placeholder="words that a turn must have")
        yield EpisodeChart()
        yield Static("asking …", id="about", markup=False)
        yield Static("", id="legend", markup=False)

    def on_mount(self) -> None:
        self._sittings: list[Sitting] = []
        self._found = Episodes()
        super().on_mount()
        self.query_one(EpisodeChart).focus()

    def on_resize(self) -> None:
        self.soon(self._show)

    async def fetch(self) -> None:
        name = self.conversation
        turns = await self.session.every_turn(name) if name else []
        self._found = await self.session.episodes(name) if name and turns else Episodes()
        self._sittings = atlas(turns, self._found)
        self._show()

    @on(Input.Changed)
    def _show(self) -> None:
        chart, words = self.query_one(EpisodeChart), self.query_one(Input).value
        cell = chart.cell
        shown = rows(self._sittings, chart.columns, words)
        chart.show(shown, cell.turns[0] if cell is not None else None)
        self.title_of(headline(self.conversation or "Episodes", self._sittings, shown, words))

    @on(EpisodeChart.Moved)
    def _about(self) -> None:
        chart = self.query_one(EpisodeChart)
        lines = about(chart.cell, self._found.titles, chart.size.width)
        if not self._sittings:
            lines = [[("Nothing was said here yet.", "")]]
        self.query_one("#about", Static).update(drawn(lines))
        marks = (
            topics(self._sittings, self._found.titles, chart.size.width) if chart.by_episode else legend(self._sittings)
        )
        self.query_one("#legend", Static).update(drawn(marks))

    @on(EpisodeChart.Chosen)
    def _go(self, event: EpisodeChart.Chosen) -> None:
        self.dismiss(event.cell.turns[0])

    @on(Input.Submitted)
    def _back_to_chart(self) -> None:
        self.query_one(EpisodeChart).focus()

    def action_filter(self) -> None:
        line = self.query_one(Input)
        line.add_class("-open")
        line.focus()

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_close(self) -> None:
        """Esc takes the filter away first."""
        line = self.query_one(Input)
        if not line.has_class("-open"):
            self.dismiss(None)
            return
        line.value = ""
        line.remove_class("-open")
        self.query_one(EpisodeChart).focus()
