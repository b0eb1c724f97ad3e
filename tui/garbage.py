"""When Python looks for garbage: never while a reply is drawn, because a look at everything takes longer than a key
may wait for its echo (measured: 60 to 250 ms, once a second).

`tui.app` switches the collector off until the first paint; from then on this file decides.
"""

from __future__ import annotations

import gc

_USUAL = gc.get_threshold()
_YOUNG = 1_000
_MIDDLE = 20
_OLD = 1_000
"""In place of 10: the program asks for a full look itself, between two replies; this is for very long ones."""


def begin() -> None:
    """After the first paint: collect what is young; everything made so far stays for good and is not looked at."""
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
    gc.enable()


def settle() -> None:
    """The modules that come after the first paint are here, and what they made: that stays for good as well."""
    gc.freeze()


def sweep() -> None:
    """Look at everything else; nothing is drawn and nobody waits for a key."""
    gc.collect()


def end() -> None:
    """As it was before `begin`: the app has ended, the process perhaps not."""
    gc.set_threshold(*_USUAL)
    gc.unfreeze()
