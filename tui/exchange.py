"""One message and its reply: from the prompt to the committed turn, drawn as it happens.

Whatever goes wrong ends here as a sentence in the transcript; `accepted` says whether the daemon has the message, so
that the prompt gets back what it has not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from assistant.errors import AssistantError, DaemonError
from tui.session import Session
from tui.state import Phase, View, enter, reduce, sending
from tui.widgets.transcript import Transcript
from tui.widgets.turn import NoteTurn, ReplyTurn, UserTurn

if TYPE_CHECKING:
    from assistant.protocol import Accepted, Done, Event

Change = Callable[[Callable[[View], View]], None]
"""Applies a step of `tui.state` to the view on the screen."""


class Exchange:
    """Runs once. `stop` may be called at any time and keeps what has been written."""

    def __init__(
        self, session: Session, transcript: Transcript, name: str, said: UserTurn, change: Change, *, first: bool
    ) -> None:
        """`first`: the conversation was opened just now, so that what reopening it took is of interest."""
        self._session = session
        self._transcript = transcript
        self._name = name
        self._said = said
        self._change = change
        self._first = first
        self._receipt: NoteTurn | None = None
        self._reply: ReplyTurn | None = None
        self._reply_id: int | None = None
        self.accepted = False
        """The daemon has the message: from here on it is in the history."""
        self.failed = False
        self._ended = False
        self._stop_wanted = False

    async def run(self) -> None:
        """Send, and draw the reply until it is committed or something ends it."""
        self._change(lambda view: sending(view, time.monotonic()))
        try:
            async with aclosing(self._session.ask(self._name, self._said.text, self._said.replaces)) as events:
                async for event in events:
                    await self._take(event)
            if not self._ended:
                raise DaemonError("The daemon ended the reply too early. What was written so far is in the history.")
        except AssistantError as error:
            await self._fail(str(error))
            if isinstance(error, DaemonError):
                self._enter("offline")

    async def stop(self) -> None:
        """End the reply and keep what is written; a message that is on its way is stopped as soon as it has arrived."""
        self._stop_wanted = True
        self._enter("stopping")
        if self.accepted:
            await self._session.stop(self._name)

    async def _take(self, event: Event) -> None:
        self._change(lambda view: reduce(view, event, time.monotonic()))
        match event.event:
            case "accepted":
                await self._accept(event)
            case "resumed" if self._first or event.receipt.source == "disk" or event.receipt.recomputed:
                self._receipt = NoteTurn(event.receipt.sentence(), quiet=True)
                await self._transcript.add(self._receipt)
            case "notice" if event.text not in self._session.told:
                self._session.told.add(event.text)
                await self._transcript.add(NoteTurn(event.text, quiet=True))
            case "piece":
                (await self._writing()).feed(event.text)
            case "done":
                await self._done(event)
            case "error":
                await self._fail(event.message)

    async def _accept(self, event: Accepted) -> None:
        self.accepted = True
        await self._transcript.drop_covered()
        self._said.sent(event.turn_id)
        self._reply_id = event.reply_id
        if self._stop_wanted:
            await self._session.stop(self._name)

    async def _done(self, event: Done) -> None:
        self._ended = True
        stopped = event.finish == "cancelled"
        reply = await self._writing()
        await reply.finish(event.text, "interrupted" if stopped else "done", event.usage)
        if self._receipt is not None and event.usage.receipt is not None:
            self._receipt.say(event.usage.receipt.sentence())  # now with what reading again took
        if event.finish == "length":
            reply.remark("ended at the limit of tokens for a reply")

    async def _fail(self, sentence: str) -> None:
        self._ended = self.failed = True
        if self._reply is not None:
            await self._reply.finish(None, "interrupted")
        self._enter("ready")
        await self._transcript.add(NoteTurn(sentence))

    async def _writing(self) -> ReplyTurn:
        """The reply's widget, mounted with the first piece."""
        if self._reply is None:
            number = self._said.replies + 1
            self._reply = ReplyTurn(turn_id=self._reply_id, version=(number, number), pace=self._session.pace)
            await self._transcript.add(self._reply)
        return self._reply

    def _enter(self, phase: Phase) -> None:
        self._change(lambda view: enter(view, phase, time.monotonic()))
