"""What was measured of a model's layers, and its cache: one JSON file per model fingerprint."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memory.publish import publish

VERSION = 1
"""Raised when the file's form, the calibration text or the way of measuring changes: older files are measured anew."""

Values = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """One number per layer of the model; None for layers with a sliding window, which share no budget.

    `sensitivity`: 1 - mean cosine of a layer's keys under full attention and under block prefill, 0 to 2 (EpiCache,
    layer-wise allocation).
    `selectivity`: mean share of a query's attention that the strongest eighth of its keys gets, 1/8 to 1.
    """

    sensitivity: Values
    selectivity: Values

    @classmethod
    def from_json(cls, text: str) -> Profile:
        """The profile that `to_json` wrote.

        Raises:
            ValueError: it is not one, or of another version.
        """
        found: Any = json.loads(text)
        if not isinstance(found, dict) or found.get("version") != VERSION:
            raise ValueError("This is not a layer profile of the version in use.")
        sensitivity, selectivity = (_values(found.get(name)) for name in ("sensitivity", "selectivity"))
        if [value is None for value in sensitivity] != [value is None for value in selectivity]:
            raise ValueError("The two measures of a layer profile do not cover the same layers.")
        return cls(sensitivity, selectivity)

    def to_json(self) -> str:
        """Readable, one measure after the other, exact to the last bit."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1, allow_nan=False) + "\n"


def load_or_measure(folder: Path | None, key: str, measure: Callable[[], Profile]) -> Profile:
    """The profile kept in `folder` for the model whose fingerprint is `key`, else a new one, which is kept there.

    A file that is damaged, cannot be read or is of another version is measured anew. Where nothing can be written the
    profile is used and not kept: it costs seconds at the next start and nothing else.
    """
    if folder is None:
        return measure()
    path = folder / f"{key}.json"
    with suppress(OSError, ValueError):
        return Profile.from_json(path.read_text("utf-8"))
    profile = measure()
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        publish(path, [profile.to_json().encode()], durable=False)
    return profile


def _values(found: Any) -> Values:
    if not isinstance(found, list) or not all(value is None or _in_range(value) for value in found):
        raise ValueError("A measure of a layer profile is a list of one number from 0 to 2 per layer.")
    return tuple(found)


def _in_range(value: Any) -> bool:
    return isinstance(value, float) and 0 <= value <= 2
