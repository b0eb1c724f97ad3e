"""The prompt: a text area in which Enter sends, Ctrl+J breaks the line and Up brings earlier messages back.

Text is never lost here: what cannot be sent is put back, and a very long text is kept beside the text area and shown
as one marker, because drawing a megabyte at every key press would freeze the screen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.widgets import TextArea

from tui.figures import count
from tui.keys import Keymap, keys_for
from tui.pace import Pace
from tui.text import clean, removed

if TYPE_CHECKING:
    from tui.widgets.choices import Choices

LONG = 16_384
"""From this many characters on a text is shown as a marker."""


class Prompt(TextArea):
    """Where messages are written. Posts `Sent`; `give_back` returns a text that could not be sent."""

    BINDINGS = [
        Binding("enter", "send", "Send", id="send"),
        Binding("ctrl+j,shift+enter,alt+enter", "newline", "New line", key_display="^j", id="newline"),
        Binding("up", "older", "Earlier message (in an empty prompt)", id="earlier"),
        Binding("down", "newer", "Later message", show=False, id="later"),
    ]

    class Sent(Message):
        """The user pressed Enter; the prompt is empty already."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Cleaned(Message):
        """Control characters were taken out of a paste."""

        def __init__(self, characters: int) -> None:
            super().__init__()
            self.characters = characters

    def __init__(self, keymap: Keymap, pace: Pace) -> None:
        super().__init__(
            id="prompt", compact=True, highlight_cursor_line=False, placeholder="Message", max_checkpoints=20
        )
        self._pace = pace
        self._send_keys = keys_for(Prompt, "send", keymap)
        self._newline_keys = keys_for(Prompt, "newline", keymap)
        self.choices: Choices | None = None
        """What the text can be completed with; made when there is first something to complete."""
        self._sent: list[str] = []
        self._at: int | None = None
        self._kept: dict[str, str] = {}

    @property
    def message(self) -> str:
        """The text with every marker replaced by what it stands for."""
        text = self.text
        for marker, full in self._kept.items():
            text = text.replace(marker, full, 1)
        return text

    @property
    def may_complete(self) -> bool:
        """Something here may be the beginning of a command or of a file's name."""
        row, column = self.cursor_location
        return self.text.startswith("/") or "@" in self.document.get_line(row)[:column]

    def complete(self, start: int, text: str) -> None:
        """Put `text` in place of what is between column `start` and the cursor."""
        row, _ = self.cursor_location
        self.replace(text, (row, start), self.cursor_location)

    def give_back(self, text: str) -> None:
        """Put a text back in front of whatever has been typed since."""
        shown = self._shown(text)
        self.text = f"{shown}\n{self.text}" if self.text else shown
        self.move_cursor(self.document.end)

    def remember(self, messages: list[str]) -> None:
        """Earlier messages of the conversation, oldest first, for Up."""
        self._sent = list(messages)
        self._at = None

    def undo(self) -> None:
        """Take the last edits back. Textual looks where the cursor is drawn before it moves it into the text that is
        left, so it waits at the beginning."""
        selected, before = self.selection, self.text
        self.move_cursor((0, 0))
        super().undo()
        if self.text == before:
            self.selection = selected

    def clear_all(self) -> None:
        """Empty the prompt."""
        self._clear()

    def action_send(self) -> None:
        text = self.message
        if not text.strip():
            return
        self._sent.append(text)
        self._clear()
        self.post_message(self.Sent(text))

    def action_newline(self) -> None:
        self.insert("\n")

    def action_older(self) -> None:
        if self._recalling() and self.cursor_location[0] == 0:
            self._recall(len(self._sent) - 1 if self._at is None else max(self._at - 1, 0))
        else:
            self.action_cursor_up()

    def action_newer(self) -> None:
        if self._at is not None and self._recalling() and self.cursor_at_last_line:
            self._recall(self._at + 1)
        else:
            self.action_cursor_down()

    async def _on_key(self, event: events.Key) -> None:
        """Enter and Ctrl+J are taken here, in line with the letters before them.

        As priority bindings they would overtake letters that wait in this widget's queue, and send half a message.
        """
        self._pace.typed()
        self.call_after_refresh(self._pace.echoed)
        if self.choices is not None and self.choices.take("enter" if event.key in self._send_keys else event.key):
            taken = _nothing
        elif event.key == "tab":
            taken = _nothing  # the focus stays where the text is
        elif event.key in self._send_keys:
            taken = self.action_send
        elif event.key in self._newline_keys or event.key == "enter":
            taken = self.action_newline  # Enter that does not send is what it is in any editor
        else:
            await super()._on_key(event)
            return
        event.stop()
        event.prevent_default()
        taken()

    async def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        if dropped := removed(event.text):
            self.post_message(self.Cleaned(dropped))
        if result := self._replace_via_keyboard(self._shown(clean(event.text)), *self.selection):
            self.move_cursor(result.end_location)

    def _recalling(self) -> bool:
        """The prompt is empty, or shows a recalled message as it was."""
        if self._at is None:
            return not self.text and bool(self._sent)
        return self._at < len(self._sent) and self.message == self._sent[self._at]

    def _recall(self, index: int) -> None:
        self._clear()
        if index < len(self._sent):
            self._at = index
            self.text = self._shown(self._sent[index])
            self.move_cursor(self.document.end)

    def _shown(self, text: str) -> str:
        """The text itself, or the marker that stands for it."""
        if len(text) <= LONG:
            return text
        marker = f"[text {len(self._kept) + 1}: {count(len(text))} characters]"
        self._kept[marker] = text
        return marker

    def _clear(self) -> None:
        self.text = ""
        self._at = None
        self._kept = {}


def _nothing() -> None:
    """A key that was used already."""
