"""The catalogue: models.toml and the user's own file over it; finding an entry by id, alias or source.

No torch in here. Fetching is in `pull.py`, what fits in `fit.py`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assistant.entry import PROVENANCE, ModelEntry, Shape, read_json
from assistant.errors import ModelError, UsageError
from assistant.places import Places
from assistant.reports import ModelStatus
from assistant.source import Source, is_source, parse_source

__all__ = ["Catalog", "ModelEntry", "load_catalog"]

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")


@dataclass(frozen=True, slots=True)
class Catalog:
    """All entries by id, the user's over ours."""

    entries: dict[str, ModelEntry]

    def find(self, name: str) -> ModelEntry:
        """The entry with this id, alias or source; a source nobody lists becomes an entry, not tested.

        Raises:
            ModelError: unknown; the text names the nearest ids.
        """
        if name in self.entries:
            return self.entries[name]
        for entry in self.entries.values():
            if name.lower() in (entry.id, *(alias.lower() for alias in entry.aliases)):
                return entry
        if is_source(name):
            return self._of_source(parse_source(name))
        raise ModelError(self._unknown(name))

    def require(self, entry: ModelEntry, places: Places) -> Path:
        """The folder of a model that is here (of a server's model, a folder that nobody makes).

        Raises:
            ModelError: it is not; the text says which command gets it.
        """
        try:
            if entry.present(places):
                return entry.folder(places)
        except OSError as error:
            raise ModelError(f"The model {entry.id!r} cannot be read ({error.strerror}).") from None
        if entry.origin.kind == "file":
            _refuse_missing(entry, Path(entry.origin.path))
            raise ModelError(f"The model {entry.id!r} is not converted yet. Run: {entry.pull_command}")
        raise ModelError(f"The model {entry.id!r} ({entry.size}) is not on this machine. Run: {entry.pull_command}")

    def everything(self, places: Places) -> Iterator[ModelEntry]:
        """All entries, then what lies in the store without being listed."""
        yield from self.entries.values()
        listed = {entry.folder(places).name for entry in self.entries.values()}
        for made in sorted(places.models.glob(f"*/{PROVENANCE}")):
            source = read_json(made).get("source")
            if made.parent.name not in listed and isinstance(source, str) and is_source(source):
                yield self._of_source(parse_source(source))

    def statuses(self, places: Places, default: str) -> list[ModelStatus]:
        """Every model as GET /api/models shows it; `default` is the configured model."""
        return [
            ModelStatus(
                id=entry.id,
                present=entry.present(places),
                download_bytes=entry.download_bytes,
                default=default in (entry.id, entry.source, *entry.aliases),
            )
            for entry in self.everything(places)
        ]

    def _of_source(self, source: Source) -> ModelEntry:
        for entry in self.entries.values():
            if entry.source == str(source):
                return entry
        return ModelEntry(id=str(source), source=str(source))

    def _unknown(self, name: str) -> str:
        names = {alias.lower(): entry.id for entry in self.entries.values() for alias in (entry.id, *entry.aliases)}
        close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.4)
        nearest = list(dict.fromkeys(names[match] for match in close)) or list(self.entries)
        path = f" If it is a path write: file:{name}" if "/" in name or name.startswith(("~", ".")) else ""
        listed = "All of them: assistant models list"
        return f"There is no model {name!r}. The nearest ids: {', '.join(nearest)}. {listed}.{path}"


def load_catalog(places: Places) -> Catalog:
    """Our models.toml with the user's own file over it, by id.

    Raises:
        UsageError: a file that cannot be read, or an entry that is not valid; the text says where.
    """
    own = _read(_shipped(), _shipped().parent)
    return Catalog(own | (_read(places.user_catalog, places.config) if places.user_catalog.exists() else {}))


def _refuse_missing(entry: ModelEntry, path: Path) -> None:
    if not path.exists():
        raise ModelError(f"The model file {path} does not exist.")
    if entry.origin.in_place:
        raise ModelError(f"{path} is not a model folder: it needs config.json, *.safetensors and a tokenizer.")


def _shipped() -> Path:
    """Beside this file in an installed wheel, in the root of the repository in a checkout."""
    packaged = Path(__file__).with_name("models.toml")
    return packaged if packaged.exists() else Path(__file__).parent.parent / "models.toml"


def _read(path: Path, base: Path) -> dict[str, ModelEntry]:
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"The catalogue {path} cannot be read: {error}.") from None
    return {name: _entry(path, base, name, table) for name, table in tables.items()}


def _entry(path: Path, base: Path, name: str, table: object) -> ModelEntry:
    where = f"The catalogue {path}, entry {name!r}"
    if not _ID.fullmatch(name):
        raise UsageError(f"{where}: an id is made of small letters, digits, dots, dashes and underscores.")
    if not isinstance(table, dict) or not isinstance(table.get("source"), str):
        raise UsageError(f'{where}: it needs a line source = "..." (an id with a dot is written in quotes).')
    try:
        return ModelEntry(**table | _places(table, base) | {"id": name})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: {key}: {first['msg']}.{_nearest(str(first['loc'][-1]), first['type'])}") from None
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _places(table: dict[str, Any], base: Path) -> dict[str, str]:
    """What names a file in an entry, with relative paths taken from where the catalogue lies."""
    key = table.get("key_file")
    found = {"key_file": str(base / Path(key).expanduser())} if isinstance(key, str) and key else {}
    return found | {"source": str(parse_source(table["source"], base))}


def _nearest(key: str, problem: str) -> str:
    if problem != "extra_forbidden":
        return ""
    known = [*ModelEntry.model_fields, *Shape.model_fields]
    return f" The nearest known key is {difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]!r}."
