"""Names that try to be more than names: climbing, absolute, encoded, invisible, too long."""

from __future__ import annotations

import random
from itertools import product

_DOTS = ["..", ".", "...", "%2e%2e", "%2E.", "%252e%252e", "\u2025", "\uff0e\uff0e", "..\u200b", ".\u0307."]
_SLASHES = ["/", "\\", "//", "%2f", "%5c", "%252f", "\u2044", "\u2215", "\uff0f", "\u29f8", "/./"]
_TARGETS = ["etc/passwd", "secret", "link", "daemon.sock"]
_WHOLE = [
    *("", ".", "..", "/", "//", "\\", "~", "~root", "~/x", "-", "--", "*", "?", "$HOME", "$(id)", "`id`", "|id", "a;b"),
    *("/etc/passwd", "//etc/passwd", "file:///etc/passwd", "C:\\x", "C:/x", "C:", "\\\\host\\share", "\\\\?\\C:\\x"),
    *("CON", "NUL", "AUX", "COM1", "LPT1.txt", "a\0b", "\0", "a\0/../b", "%00", "a%00.md", "con ", "x.", "x ", " x"),
    *(
        "\ud800",
        "a\udfffb",
        "\ufeff..",
        "\u202e..",
        "\u200b",
        "a\u0301",
        "\x7f",
        "\x1b[2J",
        "a\nb",
        "a\rb",
        "\t",
        "\x85",
    ),
    *("lock", "index.db", "quarantine", "episodes.db", "history.db", "token", "daemon.lock", ".staging", "link", "up"),
    *("up/secret", "inner/up/secret", "loop", "dangling", "x" * 255, "x" * 256, "x" * 5000, "/" * 300, "../" * 100),
    *(
        "a/" * 2000,
        "ü" * 127,
        "ü" * 128,
        "☕" * 85,
        "☕" * 86,
        "turns",
        "x/turns",
        "ask",
        "' OR 1=1 --",
        '";--',
        "{name}",
    ),
]
HOSTILE = list(
    dict.fromkeys(
        [
            *_WHOLE,
            *(dots + slash + target for dots, slash, target in product(_DOTS, _SLASHES, _TARGETS)),
            *(f"a{slash}{dots}{slash}{dots}{slash}b" for dots, slash in product(_DOTS, _SLASHES)),
        ]
    )
)
_PIECES = [*_DOTS, *_SLASHES, *_TARGETS, *_WHOLE[:60], "a", "b", "inner", "up", "around", "x" * 100]


def random_name(draw: random.Random) -> str:
    """A few of all these pieces, or characters of any kind."""
    if draw.random() < 0.7:
        return "".join(draw.choices(_PIECES, k=draw.randint(1, 6)))
    return "".join(chr(draw.randrange(1, 0xD800)) for _ in range(draw.randint(0, 40)))
