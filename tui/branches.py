"""Where a conversation branches: change what was said, write a reply again, look at other versions, fork."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from assistant.errors import UsageError
from tui.commands.copying import copy_code
from tui.commands.panels import why
from tui.figures import plural, when
from tui.screens.pick import Pick, Row
from tui.text import one_line
from tui.widgets.selectable import Selectable, Wish
from tui.widgets.turn import ReplyTurn, UserTurn

if TYPE_CHECKING:
    from tui.screens.chat import ChatScreen

_REWIND = 500
"""Turns looked through for those that can be gone back to."""
_NOTHING = "Nothing has been said in this conversation yet."
_GONE = "What you were changing is not on the screen any more. Esc Esc finds it; sent again, this is a new message."
_NOT_YOURS = "Only what you wrote yourself can be changed."


class Branches:
    """One per chat screen. Everything here raises `UsageError` when it cannot be done."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self.editing: UserTurn | None = None
        """The turn that the next message takes the place of."""
        self._given = ""

    async def do(self, wish: Wish, turn: Selectable) -> None:
        """What was asked of a turn that is selected."""
        match wish:
            case "copy":
                self._screen.copy(turn.said, "the turn")
            case "code":
                copy_code(self._screen, turn.said, "")
            case "edit":
                self.edit(turn)
            case "regenerate":
                await self.regenerate(turn)
            case "fork":
                await self.fork(turn)
            case "why":
                await why(self._screen, "" if turn.turn_id is None else str(turn.turn_id))

    # --- another version --------------------------------------------------------------------------------------------

    async def rewind(self) -> None:
        """Let the user choose an earlier message; it comes into the prompt."""
        name = await self._stored()
        turns = [one for one in await self._screen.session.turns(name, limit=_REWIND) if one.role == "user"]
        if not turns:
            raise UsageError(_NOTHING)
        now = datetime.now().astimezone()
        rows = [Row(str(one.id), one_line(one.text, 200), when(one.created, now)) for one in turns]
        hint = "enter brings it into the prompt; sent, it takes its place · esc back"
        pick = Pick("Go back to", rows, chosen=rows[-1].key, hint=hint)
        if (chosen := await self._screen.app.push_screen_wait(pick)) is None:
            return
        if self._screen.transcript.turn(int(chosen)) is None:
            await self._screen.desk.opened.open_at(name, int(chosen))
        self.edit(self._screen.transcript.turn(int(chosen)))

    def edit(self, turn: Selectable | None) -> None:
        """Bring the text of a turn into the prompt; the next message takes its place."""
        self._ready()
        if not isinstance(turn, UserTurn) or turn.role != "user" or turn.turn_id is None:
            raise UsageError(_NOT_YOURS)
        self.leave()
        self.editing, self._given = turn, turn.text
        turn.add_class("-edited")
        self._screen.prompt.give_back(turn.text)
        self._screen.prompt.focus()
        self._screen.notice("Change it and send it: it takes this place, the old version stays. Esc leaves it.")

    def leave(self) -> bool:
        """Change nothing after all; whether anything was about to be. Text that was changed stays in the prompt."""
        turn, self.editing = self.editing, None
        if turn is None:
            return False
        turn.remove_class("-edited")
        if self._screen.prompt.message == self._given:
            self._screen.prompt.clear_all()
        return True

    async def send(self, text: str) -> None:
        """Send the changed message in the place of the old one."""
        self.keep()
        turn, self.editing = self.editing, None
        if turn is None:
            raise UsageError(_GONE)
        turn.remove_class("-edited")
        await self._screen.desk.replace(turn, text, self._screen.transcript.replies_to(turn))

    def keep(self) -> None:
        """Go on with a turn that is drawn anew; leave one that is not on the screen any more."""
        if self.editing is None or self.editing.turn_id is None:
            return
        found = self._screen.transcript.turn(self.editing.turn_id)
        if not isinstance(found, UserTurn):
            self.leave()
            return
        self.editing = found
        found.add_class("-edited")

    async def regenerate(self, turn: Selectable | None = None) -> None:
        """Write another reply to the last message, or to the one that `turn` is or answers."""
        self._ready()
        transcript = self._screen.transcript
        if turn is None:
            turn = transcript.last_turn
        asked = transcript.before(turn) if isinstance(turn, ReplyTurn) else turn
        if not isinstance(asked, UserTurn) or asked.role != "user" or asked.turn_id is None:
            raise UsageError("This reply does not answer a message of yours; there is nothing to write again.")
        await self._screen.desk.replace(asked, asked.text, transcript.replies_to(asked))

    async def version(self, turn: Selectable, step: int) -> None:
        """Show the version before or after; what was last written after it comes with it."""
        name = self._ready()
        if turn.turn_id is None or turn.versions < 2:
            raise UsageError("There is one version of this turn.")
        found = await self._screen.session.siblings(name, turn.turn_id)
        ids = [one.id for one in found]
        at = ids.index(turn.turn_id) + step
        if not 0 <= at < len(ids):
            raise UsageError(f"This is the {'first' if step < 0 else 'last'} of {plural(len(ids), 'version')}.")
        await self._screen.session.choose(name, ids[at])
        await self._screen.desk.opened.open_at(name, ids[at])

    # --- another conversation ---------------------------------------------------------------------------------------

    async def fork(self, turn: Selectable | None, new: str = "") -> None:
        """A new conversation with everything up to a turn (None: all of it)."""
        name = await self._stored()
        made = await self._screen.session.fork(name, turn.turn_id if turn else None, new or None)
        await self._screen.desk.opened.open(made.name)
        self._screen.prompt.focus()
        kept = plural(made.turns, "turn")
        self._screen.notice(f"Forked “{name}” as “{made.name}”, with {kept}; what is read already is not read again.")

    async def _stored(self) -> str:
        name = self._ready()
        if not await self._screen.desk.stored():
            raise UsageError(_NOTHING)
        return name

    def _ready(self) -> str:
        """The name of the conversation, when it may be changed now."""
        desk = self._screen.desk
        if desk.name is None or not desk.idle:
            raise UsageError(desk.why_busy)
        return desk.name
