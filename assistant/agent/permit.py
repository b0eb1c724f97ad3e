"""The leave to make one call: what `authorize` gives and `execute` asks for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to call `tool`, as defined by `digest`, with exactly these `arguments` (their digest). Only `authorize`
    makes one."""

    tool: str
    digest: str
    arguments: str

    def covers(self, tool: str, digest: str, arguments: Mapping[str, Any]) -> bool:
        """Whether it is the leave to make exactly this call."""
        return (self.tool, self.digest, self.arguments) == (tool, digest, arguments_digest(arguments))


def arguments_digest(arguments: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of the arguments, in hex."""
    text = json.dumps(arguments, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
