"""What every screen over the chat is: left once, and no longer drawn to or steered afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen, Screen

T = TypeVar("T")


class Once(Screen[T]):
    """A key and a click that both leave it, or two quick Esc, are one way out and not two."""

    _left = False

    def dismiss(self, result: T | None = None) -> AwaitComplete:
        """Leave, with this result for whoever waits for it; what comes later is heard no more."""
        if self._left or not self.is_active:
            return AwaitComplete()
        self._left = True
        return super().dismiss(result)

    def _on_prune(self) -> None:
        """What still gathers for it ends first: what it would be shown in goes before the screen itself."""
        self.workers.cancel_node(self)

    @property
    def is_there(self) -> bool:
        """Everything in it can be found: it was mounted, and is not on its way out."""
        return self.is_mounted and not self._left and self in self.app.screen_stack

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No key does anything to what is not there."""
        return super().check_action(action, parameters) if self.is_there else False

    def soon(self, deed: Callable[[], object]) -> None:
        """After the next drawing, when sizes are known."""
        self.call_after_refresh(self._if_there, deed)

    def _if_there(self, deed: Callable[[], object]) -> None:
        if self.is_there:
            deed()


class Modal(ModalScreen[T], Once[T]):
    """A screen through which the chat is seen."""
