"""What a tools file may import: how a function says what it does to the world. Needs nothing but Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])

DECLARED = "__assistant_tool__"
"""The attribute of a function that holds what was declared of it."""


def declares(
    *,
    reads_private: bool = True,
    brings_untrusted: bool = True,
    can_send: bool | None = None,
    can_write: bool = True,
    can_exec: bool = True,
    timeout_s: float | None = None,
) -> Callable[[F], F]:
    """Say what a tool does; what is not said counts as yes.

    Only a tool that says `can_send=True` is given a network. One that says nothing of sending counts as able to, and is
    given none.

    Args:
        reads_private: it can read what is yours: files, mail, conversations.
        brings_untrusted: its result may hold what others wrote: web pages, mail, files from elsewhere.
        can_send: it can carry something out: a request, a message.
        can_write: it can change something that stays.
        can_exec: it can run other programs or code that it is given.
        timeout_s: seconds that one call may take; None leaves it to the run.
    """
    declared = {
        "reads_private": reads_private,
        "brings_untrusted": brings_untrusted,
        "can_send": can_send is not False,
        "can_write": can_write,
        "can_exec": can_exec,
    }

    def mark(function: F) -> F:
        setattr(function, DECLARED, {"traits": declared, "timeout_s": timeout_s, "network": can_send is True})
        return function

    return mark
