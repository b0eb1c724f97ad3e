"""The fingerprint: everything that KV depends on besides the tokens. KV is served under an equal one only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Named fields, sorted by name."""

    fields: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Fingerprint:
        """The fingerprint of these fields."""
        return cls(tuple(sorted(fields.items())))

    @property
    def digest(self) -> bytes:
        """blake2b-256 over the fields as a JSON object with sorted names and no spaces."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return blake2b(text.encode(), digest_size=32).digest()

    def to_dict(self) -> dict[str, str]:
        """Name -> value."""
        return dict(self.fields)

    def differing(self, other: Fingerprint) -> list[str]:
        """Names of the fields that differ or that only one of both has."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [name for name in sorted(mine.keys() | theirs.keys()) if mine.get(name) != theirs.get(name)]
