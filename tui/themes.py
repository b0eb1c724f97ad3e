"""The themes of our own: dark, light, high contrast, and the terminal's own colours. Textual's are known too.

NO_COLOR needs no theme: Textual takes the colours away, and everything told by colour is told by words or shapes too.
"""

from __future__ import annotations

from dataclasses import replace

from textual.theme import BUILTIN_THEMES, Theme

from assistant.errors import UsageError

DEFAULT = "dark"

DARK = Theme(
    name=DEFAULT,
    primary="#8fb8de",
    secondary="#a9b9c9",
    accent="#7cc4a4",
    foreground="#d7dce2",
    background="#15181d",
    surface="#1b1f26",
    panel="#242a33",
    success="#7cc4a4",
    warning="#e0b36a",
    error="#e08a8a",
    dark=True,
    variables={"footer-background": "#15181d", "scrollbar": "#2c333d", "scrollbar-background": "#15181d"},
)
LIGHT = Theme(
    name="light",
    primary="#2f6496",
    secondary="#4d5f70",
    accent="#1f7a55",
    foreground="#23282e",
    background="#fbfaf7",
    surface="#f2f0ea",
    panel="#e7e4db",
    success="#1f7a55",
    warning="#8f5d00",
    error="#a83232",
    dark=False,
    variables={"footer-background": "#fbfaf7", "scrollbar": "#d0ccc0", "scrollbar-background": "#fbfaf7"},
)
CONTRAST = Theme(
    name="contrast",
    primary="#7fd4ff",
    secondary="#ffffff",
    accent="#ffe14d",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#1c1c1c",
    success="#66ff8c",
    warning="#ffe14d",
    error="#ff8080",
    dark=True,
    text_alpha=1.0,
    variables={
        "text-muted": "#e6e6e6",
        "text-disabled": "#cccccc",
        "scrollbar": "#ffffff",
        "scrollbar-background": "#333333",
    },
)
ANSI = replace(
    BUILTIN_THEMES["ansi-dark"],
    name="ansi",
    variables={
        **BUILTIN_THEMES["ansi-dark"].variables,
        "scrollbar": "ansi_white",
        "scrollbar-background": "ansi_black",
    },
)
"""Sixteen colours and the terminal's own background: what the user has chosen there is what is seen here."""

OWN = {theme.name: theme for theme in (DARK, LIGHT, CONTRAST, ANSI)}


def names() -> list[str]:
    """Every theme that can be asked for, ours first."""
    return [*OWN, *sorted(BUILTIN_THEMES)]


def words(name: str) -> str:
    """What a theme is like."""
    theme = OWN.get(name) or BUILTIN_THEMES[name]
    if theme.ansi:
        return "the terminal's own colours"
    kind = "dark" if theme.dark else "light"
    return f"{kind}, high contrast" if theme is CONTRAST else kind


def checked(name: str, where: str) -> str:
    """The name itself.

    Raises:
        UsageError: there is no such theme; `where` says who asked for it.
    """
    if name in OWN or name in BUILTIN_THEMES:
        return name
    from difflib import get_close_matches

    near = get_close_matches(name, names(), n=1, cutoff=0.0)[0]
    raise UsageError(f"{where} asks for the theme {name!r}; the nearest is {near!r}. Ours: {', '.join(OWN)}.")
