"""One model of the catalogue: what we know about it, and whether it lies in the store.

No torch in here. The files that list models are read in `catalog.py`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from assistant.errors import ModelError
from assistant.orders import ServerSpec
from assistant.places import Places
from assistant.source import Source, is_source, parse_source
from memory.budget import format_size
from memory.errors import UnsupportedModel
from memory.geometry import FULL, SLIDING, Geometry
from memory.names import safe_join

PROVENANCE = "assistant.json"
"""File in every pulled folder that says where the model came from."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Shape(_Strict):
    """The geometry of a model as the catalogue states it; `full_every` = n: of n layers, the last is not sliding."""

    layers: int = Field(ge=1, le=10_000)
    query_heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    hidden: int = Field(ge=1)
    intermediate: int = Field(ge=1)
    vocab: int = Field(ge=1)
    tied: bool = False
    sliding_window: int | None = Field(default=None, ge=1)
    full_every: int | None = Field(default=None, ge=1)

    def config(self, context: int) -> dict[str, Any]:
        """The same facts under the names of a config.json."""
        every = self.full_every or 1
        kinds = [FULL if not self.sliding_window or index % every == 0 else SLIDING for index in self._count()]
        return {
            "model_type": "catalogue",
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.query_heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocab,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": context,
            "sliding_window": self.sliding_window,
            "layer_types": kinds,
        }

    def _count(self) -> range:
        return range(1, self.layers + 1)


class ModelEntry(_Strict):
    """One model. Made on the fly for a source given directly; then `id` is the source itself."""

    id: str
    source: str
    aliases: tuple[str, ...] = ()
    sha256: Sha256 | None = None
    download_bytes: int | None = Field(default=None, ge=1)
    licence: str = "not recorded"
    parameters: int | None = Field(default=None, ge=1)
    context: int | None = Field(default=None, ge=1)
    geometry: Shape | None = None
    quantisations: tuple[Literal["none", "fp16", "int8", "nf4"], ...] = ("none", "fp16", "int8", "nf4")
    quirks: tuple[str, ...] = ()
    tool_capable: bool = False
    measured_mib: dict[str, int] = {}
    tested: bool = False
    key_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    key_file: str | None = Field(None, min_length=1)
    """Of a server: the environment variable or the file that holds its key."""

    @property
    def origin(self) -> Source:
        return parse_source(self.source)

    @property
    def size(self) -> str:
        """The download in words."""
        if self.origin.is_server:
            return "on a server"
        if self.origin.kind == "file":
            return "local"
        return format_size(self.download_bytes) if self.download_bytes else "size not recorded"

    @property
    def pull_command(self) -> str:
        return f"assistant models pull {shlex.quote(self.id)}"

    @property
    def server(self) -> ServerSpec | None:
        """The server that runs it, where one does."""
        origin = self.origin
        if not origin.is_server:
            return None
        return ServerSpec(
            url=origin.path, model=origin.name, key_env=self.key_env, key_file=self.key_file, context=self.context
        )

    def where(self, places: Places) -> str:
        """Where it is, for people: its folder, or the server that runs it."""
        return self.origin.path if self.origin.is_server else str(self.folder(places))

    def folder(self, places: Places) -> Path:
        """Where the loadable model lies, or will lie once pulled."""
        origin = self.origin
        if origin.in_place:
            return Path(origin.path)
        return safe_join(places.models, origin.slug if is_source(self.id) else self.id)

    def present(self, places: Places) -> bool:
        """Whether `folder` can be loaded, and came from this entry's source; a server's model needs none."""
        if self.origin.is_server:
            return True
        folder = self.folder(places)
        if not is_model_folder(folder):
            return False
        return self.origin.in_place or self._made_from(read_json(folder / PROVENANCE))

    def shape(self, places: Places) -> Geometry | None:
        """The geometry: from the config.json when the model is here, else as the catalogue states it.

        Raises:
            ModelError: the attention of this model is not supported.
        """
        config = read_json(self.folder(places) / "config.json")
        if not config and self.geometry and self.context:
            config = self.geometry.config(self.context)
        try:
            return Geometry.from_config(config) if config else None
        except UnsupportedModel as error:
            raise ModelError(f"The model {self.id!r} cannot be used. {error}") from error

    def _made_from(self, made: Mapping[str, Any]) -> bool:
        if made.get("source") != str(self.origin):
            return False
        recorded = made.get("stamp")
        return recorded is None or recorded == (file_stamp(Path(self.origin.path)) or recorded)


def is_model_folder(folder: Path) -> bool:
    """Whether transformers could load this folder: configuration, weights, tokenizer."""
    return (
        (folder / "config.json").is_file()
        and any(folder.glob("*.safetensors"))
        and any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when it is missing or not an object."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def file_stamp(path: Path) -> list[int] | None:
    """Size and time of a local source, so that a changed file is converted again; None when it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
