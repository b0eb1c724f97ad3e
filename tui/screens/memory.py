"""The memory screen: where every byte lies, what left the working set, and what is to come."""

from __future__ import annotations

from collections.abc import Iterator

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from assistant.protocol import Episodes, Turn
from assistant.reports import MemoryReport
from tui.panels.memory import memory_lines
from tui.screens.panel import Panel, drawn

_EVERY_S = 2.0


class MemoryScreen(Panel[None]):
    """Asks again every two seconds while it is open; the turns are read once."""

    BINDINGS = [
        Binding("f2,q", "close", "Back"),
        Binding("down,j", "scroll_by(1)", "Scroll down", show=False),
        Binding("up,k", "scroll_by(-1)", "Scroll up", show=False),
    ]
    HEADING = "Memory"
    KEYS = "↑ ↓ scroll · esc back"

    def inside(self) -> Iterator[Widget]:
        yield VerticalScroll(Static("asking …", classes="body", markup=False), classes="scroll")

    def on_mount(self) -> None:
        self._turns: list[Turn] | None = None
        self._found: Episodes | None = None
        self._report: MemoryReport | None = None
        super().on_mount()
        self.query_one(VerticalScroll).focus()
        self.set_interval(_EVERY_S, self.load)

    def on_resize(self) -> None:
        self.soon(self._show)

    async def fetch(self) -> None:
        if self._turns is None:
            name = self.conversation
            turns = await self.session.every_turn(name) if name else []
            self._found = await self.session.episodes(name) if name and turns else None
            self._turns = turns
        self._report = await self.session.memory()
        self._show()

    def _show(self) -> None:
        report = self._report
        if report is None:
            return
        self.title_of(f"Memory · {report.model} · {report.memory.where}" if report.model else "Memory")
        width = self.query_one(VerticalScroll).scrollable_content_region.width
        lines = memory_lines(report, self._turns or [], self.conversation, max(width, 20), self._found)
        self.query_one(".body", Static).update(drawn(lines))

    def action_scroll_by(self, lines: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)
