"""A peer in an environment of its own, as a child process: one JSON object a line each way."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any


class Child:
    """Runs a script of this folder with another Python; `said` is the line that it greets with."""

    def __init__(self, python: Path, script: str, *arguments: object) -> None:
        command = [str(python), str(Path(__file__).with_name(script)), *map(str, arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = self._answer()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """What it answers.

        Raises:
            SystemExit: it has ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise SystemExit("The peer has ended; what it said stands above.")
        found: dict[str, Any] = json.loads(line)
        return found
