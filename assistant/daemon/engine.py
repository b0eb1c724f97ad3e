"""From what a request and the settings say to the model the worker is asked to load."""

from __future__ import annotations

from dataclasses import dataclass

from assistant import machine
from assistant.catalog import load_catalog
from assistant.entry import ModelEntry
from assistant.errors import ModelError, UsageError
from assistant.fit import fits, verdict
from assistant.places import Places
from assistant.protocol import Engine, KvSpec, ModelSpec, ModelStatus
from assistant.settings import Settings
from memory.budget import parse_size


@dataclass(frozen=True, slots=True)
class Engines:
    """The daemon's settings, and how a request departs from them."""

    places: Places
    settings: Settings

    def spec(self, asked: Engine, loaded: ModelSpec | None = None) -> ModelSpec:
        """What the worker loads for a request.

        What the request leaves open stays as the `loaded` model has it, so that nothing is loaded or read again
        because a flag was left out; without one, as the settings say.

        Raises:
            ModelError: the model is unknown or not on this machine.
            UsageError: the budget is not a size.
        """
        catalog = load_catalog(self.places)
        entry = catalog.find(asked.model or self.settings.model)
        base = loaded if loaded is not None and loaded.id == entry.id else self.settings
        return ModelSpec(
            id=entry.id,
            path=str(catalog.require(entry, self.places)),
            quant=asked.quant or base.quant,
            budget=_size(asked.budget) or base.budget,
            policy=asked.policy or base.policy,
            block=self.settings.block,
            threads=self.settings.threads,
            mode=asked.mode or base.mode,
            layers=self.settings.layers,
            alpha=self.settings.alpha,
            kv=self._kv(),
        )

    def disk_limit(self) -> int | None:
        """Bytes that stored KV may take on disk; None when none is stored."""
        return parse_size(self.settings.disk) if self.settings.spill else None

    def _kv(self) -> KvSpec | None:
        settings = self.settings
        if not settings.spill:
            return None
        return KvSpec(
            folder=str(self.places.kv),
            codec=settings.kv_codec,
            ram=parse_size(settings.ram) if settings.ram else None,
            disk=parse_size(settings.disk),
        )

    def models(self, *, fit: bool = False) -> list[ModelStatus]:
        """Every model of the catalogue; `fit`: and whether it fits this machine (asks the GPU's driver: slow)."""
        catalog = load_catalog(self.places)
        found = catalog.statuses(self.places, self.settings.model)
        if fit:
            here = machine.look()
            for one in found:
                one.verdict = self._verdict(catalog.find(one.id), here)
        return found

    def _verdict(self, entry: ModelEntry, here: machine.Machine) -> str | None:
        try:
            geometry = entry.shape(self.places)
        except ModelError as error:
            return str(error)
        if geometry is None:
            return None
        budget = parse_size(self.settings.budget) if self.settings.budget else here.budget
        return verdict(fits(geometry, budget, here.itemsize, self.settings.block), budget)


def _size(text: str | None) -> str | None:
    try:
        return text if text is None or parse_size(text) else None
    except ValueError as error:
        raise UsageError(str(error)) from None
