"""The user's own editor for the message in the prompt: the chat steps aside until it is closed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.app import SuspendNotSupported

from assistant.errors import UsageError

if TYPE_CHECKING:
    from textual.app import App

_USUAL = ("nano", "vim", "vi")


def command(environ: Mapping[str, str]) -> list[str]:
    """What $VISUAL or $EDITOR says, else an editor that is usually there.

    Raises:
        UsageError: there is none.
    """
    said = environ.get("VISUAL") or environ.get("EDITOR")
    words = shlex.split(said) if said else [name for name in _USUAL if shutil.which(name)][:1]
    if not words or shutil.which(words[0]) is None:
        missing = f"The editor {words[0]!r} is not installed" if words else "No editor is installed"
        raise UsageError(f"{missing}. Set the variable EDITOR to one that is.")
    return words


def edited(app: App[Any], text: str) -> str:
    """The text as the editor left it. Blocks: nothing else may write to the terminal meanwhile."""
    words = command(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "message.md"
        file.write_text(text, "utf-8")
        try:
            with app.suspend():
                code = subprocess.run([*words, str(file)], check=False).returncode
        except SuspendNotSupported:
            raise UsageError("The chat cannot step aside here for an editor.") from None
        if code:
            raise UsageError(f"{words[0]} ended with code {code}; the message is as it was.")
        return file.read_text("utf-8", "replace").removesuffix("\n")
