"""The command palette: the table of `tui.commands`, searched by what a command does and by its name."""

from __future__ import annotations

from functools import partial

from textual import events
from textual.command import CommandList, CommandPalette, DiscoveryHit, Hit, Hits, Provider

from tui.commands import COMMANDS
from tui.commands.base import Command
from tui.keys import keys_for, spelled
from tui.screens.chat import ChatScreen
from tui.screens.modal import Once


class Palette(CommandPalette, Once[None]):
    """Textual's, which cannot turn the pages of a list that the terminal is too small to show."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not super().check_action(action, parameters):
            return False
        return action != "command_list" or bool(self.query_one(CommandList).scrollable_content_region)

    def on_click(self, event: events.Click) -> None:
        """A click is no longer anywhere when the terminal has shrunk before it is heard."""
        if not self.region.contains(int(event.screen_x), int(event.screen_y)):
            event.prevent_default()


class Commands(Provider):
    """Every command of the chat, with its name after the slash and its key."""

    async def discover(self) -> Hits:
        for command in COMMANDS:
            yield DiscoveryHit(command.words, partial(self._run, command), help=self._help(command))

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for command in COMMANDS:
            score = max(matcher.match(command.words), matcher.match(command.name))
            if score > 0:
                shown = matcher.highlight(command.words)
                yield Hit(score, shown, partial(self._run, command), text=command.words, help=self._help(command))

    def _help(self, command: Command) -> str:
        keymap = self._chat.session.preferences.keys
        keys = [spelled(key) for key in keys_for(ChatScreen, command.key, keymap)] if command.key else []
        return " · ".join([f"/{command.name}", *keys])

    def _run(self, command: Command) -> None:
        self._chat.action_do(command.name)

    @property
    def _chat(self) -> ChatScreen:
        screen = self.app.screen_stack[0]
        assert isinstance(screen, ChatScreen)
        return screen
