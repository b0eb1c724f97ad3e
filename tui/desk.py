"""Carries out what the user asks of the chat screen: send, stop, switch, new, older; one piece of work at a time.

A message waits as a widget in the transcript until it is sent. What cannot be sent goes back into the prompt, and why
is said in a sentence.
"""

from __future__ import annotations

import time
from difflib import get_close_matches
from typing import TYPE_CHECKING

from assistant.errors import AssistantError, DaemonError, UsageError, VersionSkew
from tui import garbage
from tui.exchange import Exchange
from tui.opened import Opened
from tui.screens.dialogs import AskYes
from tui.screens.pull import PullScreen
from tui.screens.switcher import Switcher
from tui.session import Session, free_name
from tui.state import Phase, enter, with_status
from tui.widgets.prompt import Prompt
from tui.widgets.transcript import Transcript
from tui.widgets.turn import NoteTurn, UserTurn

if TYPE_CHECKING:
    from assistant.protocol import Conversation
    from assistant.reports import DaemonStatus
    from tui.screens.chat import ChatScreen

_BUSY = "A reply is being written. Esc stops and keeps it; then you can change the conversation."
_STARTING = "The daemon is still starting. Try again in a moment."


class Desk:
    """The chat screen's hands. `send` and `start` return at once; the work goes on in a Textual worker."""

    def __init__(self, screen: ChatScreen, session: Session) -> None:
        self._screen = screen
        self._session = session
        self.opened = Opened(screen, session)
        self._exchange: Exchange | None = None
        self._waiting: UserTurn | None = None
        self._model_there = False
        self._working = False
        self._littered = False
        """A reply was drawn since garbage was last looked for."""

    # --- sending ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Reach the daemon, open the conversation, send what waits."""
        if not self._working:
            self._working = True
            self._screen.run_worker(self._work(), group="desk", exit_on_error=False)

    def send(self, text: str) -> bool:
        """Send a message, after the running reply if there is one; False when one is waiting already."""
        if self._waiting is not None:
            return False
        self._waiting = UserTurn(text, waits="queued, leaves after this reply" if self._exchange else "")
        self._transcript.show(self._waiting)
        self.start()
        return True

    async def replace(self, turn: UserTurn, text: str, replies: int) -> None:
        """Send `text` in the place of a turn; the same text asks for another reply. `replies`: how many it has."""
        said = turn
        if text != turn.text:
            number = turn.versions + 1
            said, replies = UserTurn(text, version=(number, number)), 0
        self._transcript.cover(turn, keep=said is turn)
        said.replaces, said.replies = turn.turn_id, replies
        if said is not turn:
            self._transcript.show(said)
        self._waiting = said
        self._transcript.follow()
        self.start()

    @property
    def name(self) -> str | None:
        """The open conversation; None until the daemon is reached."""
        return self.opened.name

    @property
    def why_busy(self) -> str:
        """Why the conversation cannot be changed while this is not idle."""
        return _BUSY if self._exchange else _STARTING

    @property
    def idle(self) -> bool:
        """Nothing is being sent, written or opened."""
        return not self._working

    async def stop(self) -> None:
        """Stop the reply and keep it; a waiting message goes back to the prompt."""
        await self._give_back(self._take_waiting())
        if self._exchange is not None:
            try:
                await self._exchange.stop()
            except AssistantError as error:
                await self._say(str(error))

    async def poll(self) -> None:
        """Memory while the daemon works for us. A daemon that is gone is reported by the reply that it breaks.

        While nothing happens, it is time to look for garbage.
        """
        if self._littered and self.idle and self._session.pace.quiet:
            self._littered = False
            garbage.sweep()
        if self._screen.view.phase in ("loading", "reading", "writing"):
            try:
                status = await self._session.status()
            except AssistantError:
                return
            self._screen.change(lambda view: with_status(view, status))

    async def _work(self) -> None:
        try:
            await self._prepare()
            while (said := self._take_waiting()) and await self._exchange_of(said):
                pass
        except AssistantError as error:
            await self._say(str(error))
            self._enter("offline" if isinstance(error, DaemonError) else "ready")
        finally:
            left, self._working = self._take_waiting(), False
        await self._give_back(left)

    async def _exchange_of(self, said: UserTurn) -> bool:
        """One message and its reply; False when it failed and what waits should not follow by itself."""
        assert self.name is not None
        said.wait("")
        if self._transcript.newer:
            await self.opened.open(self.name)
        await self._transcript.trim()
        self._littered = True
        self._exchange = Exchange(
            self._session, self._transcript, self.name, said, self._screen.change, first=self.opened.fresh
        )
        try:
            await self._exchange.run()
        finally:
            exchange, self._exchange = self._exchange, None
        self.opened.fresh = self.opened.fresh and exchange.failed
        if not exchange.accepted:
            await self._give_back(said)
        elif not exchange.failed and not self.opened.about:
            self.opened.named(self.name, (await self.opened.known()).get(self.name))
        return not exchange.failed

    def _take_waiting(self) -> UserTurn | None:
        said, self._waiting = self._waiting, None
        return said

    async def _give_back(self, said: UserTurn | None) -> None:
        if said is None:
            return
        await self._transcript.uncover()
        if said.turn_id is None:
            self._screen.query_one(Prompt).give_back(said.text)
            await said.remove()

    def _enter(self, phase: Phase) -> None:
        self._screen.change(lambda view: enter(view, phase, time.monotonic()))

    async def _say(self, sentence: str) -> None:
        await self._transcript.add(NoteTurn(sentence))

    # --- opening ----------------------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        """Reach the daemon (again), open a conversation when none is open, and see that the model is there."""
        if not self._session.connected:
            self._enter("starting")
        try:
            status = await self._session.connect()
        except VersionSkew as skew:
            status = await self._renewed(skew)
        self._enter("ready")
        self._screen.change(lambda view: with_status(view, status))
        if self.name is None:
            await self.opened.open(self._session.options.conversation or await self.opened.last_used())
            garbage.settle()
        if not self._model_there:
            await self._fetch_model()

    async def _renewed(self, skew: VersionSkew) -> DaemonStatus:
        """What a new daemon says of itself, when the user wants the one of another version replaced."""
        why = f"{skew}\n\nA reply that it writes is stopped and kept."
        if not await self._screen.app.push_screen_wait(AskYes("Another version", why, "restarts it")):
            raise skew
        await self._session.restart()
        return await self._session.connect()

    async def _fetch_model(self) -> None:
        if missing := await self._session.missing_model():
            problem = await self._screen.app.push_screen_wait(PullScreen(self._session, missing))
            if problem is not None:
                raise AssistantError(problem)
        self._model_there = True

    # --- changing the conversation ----------------------------------------------------------------------------------

    async def switch(self) -> None:
        """Let the user choose, rename and delete conversations, and open what was chosen."""
        if not self._free():
            return
        switcher = Switcher(self._session, self.name)
        chosen = await self._screen.app.push_screen_wait(switcher)
        if switcher.current is None:
            chosen = chosen or await self.opened.last_used()
        elif switcher.current != self.name:
            self.opened.named(switcher.current, (await self.opened.known()).get(switcher.current))
        if chosen is not None and chosen != self.name:
            await self.opened.open(chosen)

    async def new(self, name: str = "") -> None:
        """Open an empty conversation; it is stored with its first message."""
        if not self._free():
            return
        known = set(await self.opened.known())
        if name in known:
            raise UsageError(f"There is already a conversation {name!r}; choose another name, or: /open {name}")
        await self.opened.open(name or free_name(known))

    async def go(self, name: str) -> None:
        """Open a conversation that is there."""
        if not self._free():
            return
        known = await self.opened.known()
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.0)
            raise UsageError(f"There is no conversation {name!r}" + (f"; the nearest is {near[0]!r}." if near else "."))
        await self.opened.open(name)

    async def rename(self, new: str) -> None:
        """Give the open conversation another name."""
        if self.name is not None and self._free():
            await self._session.rename(self.name, new)
            self.opened.named(new, (await self.opened.known()).get(new))

    def use_model(self) -> None:
        """The model was changed: fetch it now if it is not here."""
        self._model_there = False
        self.start()

    async def conversation(self) -> Conversation:
        """The open conversation, as it is stored."""
        if (known := (await self.opened.known()).get(self.name or "")) is None:
            raise UsageError("This conversation is stored with its first message.")
        return known

    async def stored(self) -> bool:
        """The open conversation has something in it."""
        return self.name in await self.opened.known()

    def _free(self) -> bool:
        if self._working:
            self._screen.notice(self.why_busy)
        return not self._working

    @property
    def _transcript(self) -> Transcript:
        return self._screen.query_one(Transcript)
