"""The chat screen: title, transcript, activity, prompt, figures; and what the keys do.

While a reply is being written one more message can be sent: it is shown as queued and leaves when the reply is done.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.reactive import var
from textual.screen import Screen
from textual.timer import Timer
from textual.worker import Worker, WorkerState

from assistant.errors import UsageError
from tui import garbage
from tui.figures import plural
from tui.keys import keys_for, spelled
from tui.session import Session
from tui.state import View, enter
from tui.text import sentence_of
from tui.widgets.prompt import Prompt
from tui.widgets.status import Activity, Figures, Title
from tui.widgets.transcript import MoreRow, Transcript, note

if TYPE_CHECKING:
    from tui.branches import Branches
    from tui.completer import Completer
    from tui.desk import Desk
    from tui.outbox import Outbox
    from tui.widgets.selectable import Selectable

_POLL_S = 1.0
_TWICE_S = 1.0
_TELL_S = 0.2
"""Between two looks at figures that run."""


class ChatScreen(Screen[None]):
    """One conversation at a time. What the keys start is carried out by `tui.desk`."""

    BINDINGS = [
        Binding("escape", "stop", "Stop the reply and keep it; twice: go back", id="stop"),
        Binding("ctrl+c", "interrupt", "Stop, or copy the selection; twice quits", priority=True, id="interrupt"),
        Binding("ctrl+q", "app.quit", "Quit", priority=True, id="quit"),
        Binding("ctrl+n", "do('new')", "New conversation", priority=True, id="new"),
        Binding("ctrl+s", "do('open')", "Conversations: open, rename, pin, delete", priority=True, id="conversations"),
        Binding("ctrl+f", "do('search')", "Search in all conversations", priority=True, id="search"),
        Binding("ctrl+o", "do('older')", "Load older turns", priority=True, id="older"),
        Binding("alt+up,ctrl+up", "do('select')", "Select a turn, to act on it", priority=True, id="select"),
        Binding("f5", "do('regenerate')", "Write the last reply again", priority=True, id="regenerate"),
        Binding("ctrl+t", "do('reasoning')", "Show or fold the reasoning of replies", priority=True, id="reasoning"),
        Binding("f6", "do('copy')", "Copy the last reply", priority=True, id="copy"),
        Binding("ctrl+r", "do('history')", "Earlier messages of all conversations", priority=True, id="history"),
        Binding("ctrl+g", "do('editor')", "Write the message in your own editor", priority=True, id="editor"),
        Binding("f7", "do('set')", "Parameters of the next replies", priority=True, id="parameters"),
        Binding("f8", "do('model')", "Model: what is here, and what fits", priority=True, id="model"),
        Binding("f9", "do('log')", "The daemon's log", priority=True, id="log"),
        Binding("pageup", "page(-1)", "Scroll up", priority=True, id="page-up"),
        Binding("pagedown", "page(1)", "Scroll down", priority=True, id="page-down"),
        Binding("ctrl+end", "do('end')", "To the end, and follow it", priority=True, id="end"),
        Binding("f2", "do('memory')", "Memory: where every byte lies", priority=True, id="memory"),
        Binding("f3", "do('map')", "The episode map of this conversation", priority=True, id="map"),
        Binding("f4", "do('why')", "Why: what the last reply was given", priority=True, id="why"),
        Binding("ctrl+b", "do('budget')", "Another budget, with a look at its plan", priority=True, id="budget"),
        Binding("f1", "do('help')", "This list", priority=True, id="help"),
        Binding("ctrl+p", "app.command_palette", "Command palette", priority=True, id="palette"),
    ]
    AUTO_FOCUS = "#prompt"

    view: var[View] = var(View(), init=False)  # not `reactive`: that would repaint the whole screen

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._desk: Desk | None = None
        self._branches: Branches | None = None
        self._outbox: Outbox | None = None
        self._completer: Completer | None = None
        self._escaped = -_TWICE_S
        self._telling: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Title()
        yield Transcript()
        yield Activity(self._hint(), spelled(keys_for(ChatScreen, "end", self.session.preferences.keys)[0]))
        yield Prompt(self.session.preferences.keys, self.session.pace)
        yield Figures()

    def _hint(self) -> str:
        """The three keys that a newcomer needs, as they are now."""
        keymap = self.session.preferences.keys
        found = [
            keys_for(Prompt, "send", keymap),
            keys_for(Prompt, "newline", keymap),
            keys_for(type(self), "help", keymap),
        ]
        send, newline, keys = (spelled(one[0]) for one in found)
        return f"{send} sends · {newline} new line · {keys} keys"

    def on_mount(self) -> None:
        self.view = View(since=time.monotonic())
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """After the first paint: now there is time for garbage, for imports and for the daemon."""
        garbage.begin()
        self.set_interval(_POLL_S, self.desk.poll)
        self.desk.start()

    @property
    def desk(self) -> Desk:
        """What carries out the user's wishes; made on first use, because it imports the Markdown widgets."""
        if self._desk is None:
            from tui.desk import Desk

            self._desk = Desk(self, self.session)
        return self._desk

    @property
    def branches(self) -> Branches:
        """Versions and forks; made on first use like the desk."""
        if self._branches is None:
            from tui.branches import Branches

            self._branches = Branches(self)
        return self._branches

    @property
    def prompt(self) -> Prompt:
        return self.query_one(Prompt)

    @property
    def transcript(self) -> Transcript:
        return self.query_one(Transcript)

    def change(self, step: Callable[[View], View]) -> None:
        """Apply a step of `tui.state` to what the status lines show."""
        self.view = step(self.view)

    def watch_view(self, before: View, view: View) -> None:
        """Another phase is told at once, figures that run now and then."""
        if view.phase != before.phase or self._telling is None:
            self._tell()
            self._telling = self.set_timer(_TELL_S, self._told)

    @property
    def told(self) -> bool:
        """The lines below show the figures as they are."""
        return self._telling is None

    def _told(self) -> None:
        self._telling = None
        self._tell()

    def _tell(self) -> None:
        self.query_one(Activity).view = self.view
        self.query_one(Figures).view = self.view

    def notice(self, sentence: str) -> None:
        self.query_one(Activity).notice(sentence)

    # --- messages ---------------------------------------------------------------------------------------------------

    @on(Prompt.Sent)
    async def _send(self, event: Prompt.Sent) -> None:
        if self._outbox is None:
            from tui.outbox import Outbox

            self._outbox = Outbox(self)
        await self._outbox.take(event.text)

    @on(Prompt.Changed)
    def _typed(self) -> None:
        if self.prompt.may_complete or self.prompt.choices is not None:
            self._look()

    @work(group="complete", exclusive=True, exit_on_error=False)
    async def _look(self) -> None:
        if self._completer is None:
            from tui.completer import Completer

            self._completer = Completer(self)
        await self._completer.look()

    def copy(self, text: str, what: str) -> None:
        """Put a text on the clipboard, and say what was."""
        self.app.copy_to_clipboard(text)
        self.notice(f"Copied {what}: {plural(len(text), 'character')}.")

    @on(Prompt.Cleaned)
    def _cleaned(self, event: Prompt.Cleaned) -> None:
        self.notice(f"{event.characters:,} control characters were taken out of the pasted text.")

    @on(Worker.StateChanged)
    def _worker_ended(self, event: Worker.StateChanged) -> None:
        """A daemon that cannot be asked is a sentence; anything else is a fault of ours and is named as one."""
        if event.state is not WorkerState.ERROR or event.worker.error is None:
            return
        self.transcript.show(note(sentence_of(event.worker.error)))
        if self.desk.idle:
            self.change(lambda view: enter(view, "ready", time.monotonic()))

    @on(Transcript.Following)
    def _following(self, event: Transcript.Following) -> None:
        self.query_one(Activity).follow(event.following, event.below)

    # --- keys -------------------------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        """Leave what is being changed, else stop the reply; pressed twice with nothing to stop, go back."""
        now = time.monotonic()
        twice, self._escaped = now - self._escaped < _TWICE_S, now
        if self.branches.leave():
            return
        if twice and not self.view.busy:
            self.action_do("rewind")
        else:
            self._stop()

    @work(group="stop", exit_on_error=False)
    async def _stop(self) -> None:
        await self.desk.stop()

    def on_screen_suspend(self) -> None:
        """An Esc before a list and one after it are not twice."""
        self._escaped = -_TWICE_S

    def action_interrupt(self) -> None:
        prompt = self.prompt
        if prompt.selected_text:
            self.copy(prompt.selected_text, "the selection")
        elif self.get_selected_text():
            self.copy(self.get_selected_text() or "", "the selection")
            self.clear_selection()
        else:
            if self.view.busy:
                self._stop()
            self.app.action_help_quit()

    def action_do(self, name: str, argument: str = "") -> None:
        """Run one of the commands of `tui.commands`."""
        from tui.commands import find

        if (command := find(name)) is None:
            raise LookupError(name)
        self._act(partial(command.run, self, argument))

    def on_selectable_wanted(self, event: Selectable.Wanted) -> None:
        self._act(partial(self.branches.do, event.wish, event.turn))

    def on_selectable_versioned(self, event: Selectable.Versioned) -> None:
        self._act(partial(self.branches.version, event.turn, event.step))

    @work(group="dialog", exclusive=True, exit_on_error=False)
    async def _act(self, deed: Callable[[], Awaitable[None]]) -> None:
        """Do something with a turn. What cannot be done is a sentence."""
        try:
            await deed()
        except UsageError as error:
            self.notice(str(error))

    def on_selectable_stepped(self, event: Selectable.Stepped) -> None:
        if event.step == 0 or not self.transcript.step(event.turn, event.step):
            self.prompt.focus()

    def on_selectable_pasted(self, event: Selectable.Pasted) -> None:
        self.prompt.focus()
        self.prompt.post_message(event.event)

    @on(Activity.Pressed)
    @on(MoreRow.Pressed, "#newer")
    def _newest(self) -> None:
        self.action_do("end")

    @on(MoreRow.Pressed, "#older")
    def _older(self) -> None:
        self.action_do("older")

    def action_page(self, pages: int) -> None:
        transcript = self.transcript
        if pages < 0:
            transcript.scroll_page_up(animate=False)
        else:
            transcript.scroll_page_down(animate=False)
