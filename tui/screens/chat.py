"""The chat screen: title, transcript, activity, prompt, figures; and what the keys do.

While a reply is being written one more message can be sent: it is shown as queued and leaves when the reply is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.reactive import var
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from assistant.errors import AssistantError
from tui import garbage
from tui.session import Session
from tui.state import View, enter, with_status
from tui.widgets.prompt import Prompt
from tui.widgets.status import Activity, Figures, Title
from tui.widgets.transcript import OlderRow, Transcript, note

if TYPE_CHECKING:
    from tui.desk import Desk

HINT = "enter sends · ^j new line · f1 keys"
_POLL_S = 1.0


class ChatScreen(Screen[None]):
    """One conversation at a time. What the keys start is carried out by `tui.desk`."""

    BINDINGS = [
        Binding("escape", "stop", "Stop the reply and keep it"),
        Binding("ctrl+c", "interrupt", "Stop the reply, or copy the selection; twice quits", priority=True),
        Binding("ctrl+q", "app.quit", "Quit", priority=True),
        Binding("ctrl+n", "new", "New conversation", priority=True),
        Binding("ctrl+s", "switch", "Conversations: open, rename, delete", priority=True),
        Binding("ctrl+o", "older", "Load older turns", priority=True),
        Binding("pageup", "page(-1)", "Scroll up", priority=True),
        Binding("pagedown", "page(1)", "Scroll down", priority=True),
        Binding("ctrl+end", "end", "To the end, and follow it", priority=True),
        Binding("f1", "help", "This list", priority=True),
        Binding("ctrl+p", "app.command_palette", "Command palette", priority=True),
    ]
    AUTO_FOCUS = "#prompt"

    view: var[View] = var(View(), init=False)  # not `reactive`: that would repaint the whole screen

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._desk: Desk | None = None

    def compose(self) -> ComposeResult:
        yield Title()
        yield Transcript()
        yield Activity(HINT)
        yield Prompt()
        yield Figures()

    def on_mount(self) -> None:
        self.view = View(since=time.monotonic())
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """After the first paint: now there is time for garbage, for imports and for the daemon."""
        garbage.begin()
        self.set_interval(_POLL_S, self._poll)
        self.desk.start()

    @property
    def desk(self) -> Desk:
        """What carries out the user's wishes; made on first use, because it imports the Markdown widgets."""
        if self._desk is None:
            from tui.desk import Desk

            self._desk = Desk(self, self.session)
        return self._desk

    def change(self, step: Callable[[View], View]) -> None:
        """Apply a step of `tui.state` to what the status lines show."""
        self.view = step(self.view)

    def watch_view(self, view: View) -> None:
        self.query_one(Activity).view = view
        self.query_one(Figures).view = view

    def notice(self, sentence: str) -> None:
        self.query_one(Activity).notice(sentence)

    # --- messages ---------------------------------------------------------------------------------------------------

    @on(Prompt.Sent)
    def _send(self, event: Prompt.Sent) -> None:
        if not self.desk.send(event.text):
            self.query_one(Prompt).give_back(event.text)
            self.notice("One message is queued already; this one stays in the prompt.")

    @on(Prompt.Cleaned)
    def _cleaned(self, event: Prompt.Cleaned) -> None:
        self.notice(f"{event.characters:,} control characters were taken out of the pasted text.")

    @on(Worker.StateChanged)
    def _worker_ended(self, event: Worker.StateChanged) -> None:
        """A daemon that cannot be asked is a sentence; anything else is a fault of ours and is named as one."""
        if event.state is not WorkerState.ERROR or event.worker.error is None:
            return
        error = event.worker.error
        sentence = (
            str(error) if isinstance(error, AssistantError) else f"Internal error, {type(error).__name__}: {error}"
        )
        self.query_one(Transcript).show(note(sentence))
        if self.desk.idle:
            self.change(lambda view: enter(view, "ready", time.monotonic()))

    @on(Transcript.Following)
    def _following(self, event: Transcript.Following) -> None:
        self.query_one(Activity).follow(event.following)

    async def _poll(self) -> None:
        """Memory while the daemon works for us. A daemon that is gone is reported by the reply that it breaks."""
        if self.view.phase in ("loading", "reading", "writing"):
            try:
                status = await self.session.status()
            except AssistantError:
                return
            self.change(lambda view: with_status(view, status))

    # --- keys -------------------------------------------------------------------------------------------------------

    @work(group="stop", exit_on_error=False)
    async def action_stop(self) -> None:
        await self.desk.stop()

    def action_interrupt(self) -> None:
        prompt = self.query_one(Prompt)
        if prompt.selected_text:
            prompt.action_copy()
        elif self.get_selected_text():
            self.action_copy_text()
            self.notice("Copied.")
        else:
            if self.view.busy:
                self.action_stop()
            self.app.action_help_quit()

    @work(group="dialog", exclusive=True, exit_on_error=False)
    async def action_switch(self) -> None:
        await self.desk.switch()

    @work(group="dialog", exclusive=True, exit_on_error=False)
    async def action_new(self) -> None:
        await self.desk.new()

    @on(OlderRow.Pressed)
    @work(group="older", exclusive=True, exit_on_error=False)
    async def action_older(self) -> None:
        await self.desk.older()

    def action_page(self, pages: int) -> None:
        transcript = self.query_one(Transcript)
        if pages < 0:
            transcript.scroll_page_up(animate=False)
        else:
            transcript.scroll_page_down(animate=False)

    def action_end(self) -> None:
        self.query_one(Transcript).follow()

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen, Section
        from tui.screens.switcher import ConversationList

        sections: list[Section] = [("Chat", ChatScreen), ("Prompt", Prompt), ("Conversations", ConversationList)]
        self.app.push_screen(HelpScreen(sections))
