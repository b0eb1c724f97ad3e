"""STAND-IN, replaced at the merge: what a tool is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from assistant.protocol import ToolSpec


@dataclass(frozen=True, slots=True)
class Traits:
    """What a tool may do; what is not declared counts as yes."""

    reads_private: bool = True
    brings_untrusted: bool = True
    can_send: bool = True
    can_write: bool = True
    can_exec: bool = True


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as the model and the approvals know it."""

    spec: ToolSpec
    traits: Traits
    origin: str

    @property
    def digest(self) -> str:
        """SHA-256 of the whole definition, in hex."""
        definition = [self.spec.model_dump(), asdict(self.traits), self.origin]
        return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
