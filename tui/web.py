"""`assistant chat --web`: the same app in a browser on this machine, through textual-serve where it is installed."""

from __future__ import annotations

import shlex
import sys
from importlib import import_module

from assistant.errors import Exit, UsageError

HOST = "127.0.0.1"
"""Whoever reaches the page can talk to the model and read every conversation: nobody else does."""


def serve(argv: list[str], port: int) -> int:
    """Serve until Ctrl+C. `argv`: what the chat itself is started with.

    Raises:
        UsageError: textual-serve is not installed.
    """
    try:
        server = import_module("textual_serve.server").Server
    except ImportError:
        raise UsageError(
            "chat --web needs textual-serve, which is not installed. Run: pip install textual-serve"
        ) from None
    command = shlex.join([sys.executable, "-m", "assistant.cli", "chat", *argv])
    server(command, host=HOST, port=port, title="assistant").serve()
    return Exit.OK
