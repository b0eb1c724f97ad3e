"""A turn that can be stepped to and acted on: copied, changed, written again, forked, seen in another version."""

from __future__ import annotations

from typing import Literal

from textual import events
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message

Wish = Literal["copy", "code", "edit", "regenerate", "fork", "why"]


class Selectable(Vertical, can_focus=True):
    """Takes the focus only by keys: a click selects text, and letters stay text."""

    FOCUS_ON_CLICK = False
    BINDINGS = [
        Binding("up,k", "step(-1)", "The turn before", id="turn-up"),
        Binding("down,j", "step(1)", "The turn after it; after the last one the prompt", id="turn-down"),
        Binding("left,h", "version(-1)", "The version before", id="turn-older"),
        Binding("right,l", "version(1)", "The version after it", id="turn-newer"),
        Binding("y", "want('copy')", "Copy the turn", id="turn-copy"),
        Binding("c", "want('code')", "Copy its last block of code", id="turn-code"),
        Binding("e", "want('edit')", "Change what you wrote and send it again", id="turn-edit"),
        Binding("r", "want('regenerate')", "Write the reply again", id="turn-regenerate"),
        Binding("f", "want('fork')", "Fork: a new conversation up to here", id="turn-fork"),
        Binding("t", "unfold", "Show or fold its reasoning", id="turn-reasoning"),
        Binding("w", "want('why')", "Why this memory", id="turn-why"),
        Binding("escape,tab,i", "step(0)", "Back to the prompt", id="turn-leave"),
    ]

    turn_id: int | None = None
    version: int = 1
    versions: int = 1

    class Wanted(Message):
        """Something is to be done with a turn."""

        def __init__(self, turn: Selectable, wish: Wish) -> None:
            super().__init__()
            self.turn = turn
            self.wish = wish

    class Stepped(Message):
        """The turn before (-1) or after (1) is to be selected, or the prompt (0)."""

        def __init__(self, turn: Selectable, step: int) -> None:
            super().__init__()
            self.turn = turn
            self.step = step

    class Versioned(Message):
        """The version before (-1) or after (1) is to be shown."""

        def __init__(self, turn: Selectable, step: int) -> None:
            super().__init__()
            self.turn = turn
            self.step = step

    class Pasted(Message):
        """Text was pasted while a turn was selected: it belongs in the prompt."""

        def __init__(self, event: events.Paste) -> None:
            super().__init__()
            self.event = event

    @property
    def said(self) -> str:
        """What there is to copy."""
        return ""

    @property
    def numbered(self) -> str:
        """`2/3`, when there are other versions."""
        return f"{self.version}/{self.versions}" if self.versions > 1 else ""

    def action_step(self, step: int) -> None:
        self.post_message(self.Stepped(self, step))

    def action_version(self, step: int) -> None:
        self.post_message(self.Versioned(self, step))

    def action_want(self, wish: Wish) -> None:
        self.post_message(self.Wanted(self, wish))

    def action_unfold(self) -> None:
        """Show or fold what is folded here; most turns have nothing."""

    def on_paste(self, event: events.Paste) -> None:
        event.stop()
        self.post_message(self.Pasted(event))
