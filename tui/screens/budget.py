"""The budget dialog: type a size or move it with the arrows, see what it comes to, then let the next turns have it."""

from __future__ import annotations

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Input, Static

from assistant.errors import AssistantError
from assistant.reports import MemorySplit
from assistant.views.plan import written
from tui.figures import size
from tui.panels.budget import moved, plan_lines
from tui.screens.modal import Modal
from tui.screens.panel import drawn
from tui.session import Session
from tui.text import clean
from tui.widgets.line import Line

_KEYS = "↑↓ 64 MiB · pgup pgdn 512 MiB · enter applies · esc back"


class BudgetScreen(Modal[str | None]):
    """Gives the budget to use from the next turn on, or None to leave it as it is."""

    CSS_PATH = ["../sheet.tcss", "budget.tcss"]
    BINDINGS = [
        Binding("escape,ctrl+b", "dismiss(None)", "Leave it as it is", id="budget-leave"),
        Binding("up", "move(1)", "64 MiB more", id="budget-more"),
        Binding("down", "move(-1)", "64 MiB less", id="budget-less"),
        Binding("pageup", "move(8)", "512 MiB more", id="budget-much-more"),
        Binding("pagedown", "move(-8)", "512 MiB less", id="budget-much-less"),
        Binding("ctrl+z", "undo", "Back to the budget before", priority=True, id="budget-undo"),
    ]

    def __init__(self, session: Session, stored: int | None, earlier: str | None) -> None:
        """`stored`: tokens of the open conversation; `earlier`: the budget before the one in force, to go back to."""
        super().__init__()
        self._session = session
        self._stored = stored
        self._earlier = earlier
        self._now = MemorySplit()
        self._good: str | None = None
        """The size that was planned last and can be applied."""

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet"):
            yield Static("Budget", classes="heading", markup=False)
            yield Line(longest=32, select_on_focus=False)
            yield Static("asking …", id="plan", markup=False)
            yield Static("", classes="error", markup=False)
            yield Static(_KEYS, classes="keys", markup=False)

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self._begin()

    @work(group="plan", exclusive=True, exit_on_error=False)
    async def _begin(self) -> None:
        try:
            self._now = (await self._session.memory()).memory
        except AssistantError as error:
            self._refuse(str(error))
            return
        budget = self._session.options.budget or (written(self._now.budget) if self._now.budget else "")
        now = f"{size(self._now.budget)} now" if self._now.budget else "no model is loaded"
        undo = "" if self._earlier is None else f" · ^z back to {self._earlier}"
        self.query_one(".heading", Static).update(f"Budget · {now}{undo}")
        self.query_one(Input).value = budget or "1024MiB"

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        self._good = None
        self._preview(event.value.strip())

    @work(group="plan", exclusive=True, exit_on_error=False)
    async def _preview(self, text: str) -> None:
        """Ask what the size comes to; a newer one takes the place of this question."""
        if not text:
            self._refuse("Write a size, for example 900MiB or 6GiB.")
            return
        try:
            planned = await self._session.plan(text)
        except AssistantError as error:
            self._refuse(str(error))
            return
        self._good = text
        self.query_one(".error").display = False
        plan, width = self.query_one("#plan", Static), self.query_one(Input).size.width
        plan.update(drawn(plan_lines(self._now, planned, self._stored, max(20, width))))
        plan.display = True

    @on(Input.Submitted)
    def _apply(self) -> None:
        if self._good is not None:
            self.dismiss(self._good)

    def action_move(self, steps: int) -> None:
        line = self.query_one(Input)
        line.value = moved(line.value, steps, self._now.budget)
        line.cursor_position = len(line.value)

    def action_undo(self) -> None:
        if self._earlier is not None:
            self.dismiss(self._earlier)

    def _refuse(self, sentence: str) -> None:
        """Nothing can be applied; why is in place of the plan."""
        self._good = None
        self.query_one("#plan").display = False
        line = self.query_one(".error", Static)
        line.update(clean(sentence))
        line.display = True
