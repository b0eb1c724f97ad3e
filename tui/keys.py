"""Keys by the id of what they do: what the table `[keys]` of the settings may name, and which key does what now.

The bindings stand in the classes they belong to; this file only collects them, for the settings and for the help.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from textual.binding import Binding

from assistant.errors import UsageError

if TYPE_CHECKING:
    from textual.dom import DOMNode

Keymap = Mapping[str, str]
"""Keys (several are separated by commas) by the id of a binding."""

_MODIFIERS = {"ctrl", "alt", "shift", "super", "hyper", "meta"}
_SHORT = {"escape": "esc", "pageup": "pgup", "pagedown": "pgdn", "up": "↑", "down": "↓", "left": "←", "right": "→"}


def sections() -> list[tuple[str, type[DOMNode]]]:
    """Every class whose keys may be changed, under the heading it has in the help."""
    from tui.screens.chat import ChatScreen
    from tui.screens.switcher import ConversationList
    from tui.widgets.prompt import Prompt
    from tui.widgets.selectable import Selectable

    return [
        ("Chat", ChatScreen),
        ("Prompt", Prompt),
        ("A selected turn", Selectable),
        ("Conversations", ConversationList),
    ]


def bindings_of(owner: type[DOMNode]) -> list[Binding]:
    """What a class itself declares and describes."""
    declared: Iterable[object] = owner.__dict__.get("BINDINGS", ())
    return [one for one in declared if isinstance(one, Binding) and one.description]


def keys_of(binding: Binding, keymap: Keymap) -> list[str]:
    """The keys that a binding has now."""
    return [key.strip() for key in keymap.get(binding.id or "", binding.key).split(",")]


def keys_for(owner: type[DOMNode], name: str, keymap: Keymap) -> list[str]:
    """The keys that do what is called `name`."""
    return next((keys_of(one, keymap) for one in bindings_of(owner) if one.id == name), [])


def shown(binding: Binding, keymap: Keymap) -> str:
    """The keys as the help shows them: `^n or f2`, in the binding's own words where the keys are its own."""
    if binding.key_display and (binding.id or "") not in keymap:
        return binding.key_display
    return " or ".join(spelled(key) for key in keys_of(binding, keymap))


def spelled(key: str) -> str:
    """`ctrl+n` → `^n`: Textual's own short form of Ctrl."""
    *modifiers, name = key.split("+") if len(key) > 1 else [key]
    short = "".join("^" if one == "ctrl" else f"{one}+" for one in modifiers)
    return short + _SHORT.get(name, name)


def check_keys(keymap: Keymap) -> None:
    """See that every id and every key exists, and that no key is given to two things that are there together.

    Raises:
        UsageError: one does not; the text names the nearest.
    """
    groups = {one.id: title for title, owner in sections() for one in bindings_of(owner) if one.id}
    taken: dict[tuple[str, str], str] = {}
    for name, keys in keymap.items():
        if name not in groups:
            near = get_close_matches(name, groups, n=1, cutoff=0.0)[0]
            raise UsageError(f"In the settings, [keys] has the unknown id {name!r}; the nearest is {near!r}.")
        for key in (one.strip() for one in keys.split(",")):
            _check_key(name, key)
            group = "Chat" if groups[name] == "Prompt" else groups[name]
            if (other := taken.setdefault((group, key), name)) != name:
                raise UsageError(f"In the settings, [keys] gives {key!r} to both {other!r} and {name!r}.")


def _check_key(name: str, key: str) -> None:
    from textual.keys import Keys

    *modifiers, last = key.split("+") if len(key) > 1 else [key]
    names = {one.value for one in Keys}
    if set(modifiers) <= _MODIFIERS and (len(last) == 1 or last in names):
        return
    near = get_close_matches(key, names, n=1, cutoff=0.0)[0]
    raise UsageError(f"In the settings, keys.{name} = {key!r} is no key; the nearest is {near!r}.")
