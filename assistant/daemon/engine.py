"""From what a request and the settings say to the model the worker is asked to load."""

from __future__ import annotations

from dataclasses import dataclass

from assistant import machine
from assistant.catalog import load_catalog
from assistant.entry import ModelEntry
from assistant.errors import BudgetError, ModelError, UsageError
from assistant.fit import Fit, fits, verdict
from assistant.orders import KvSpec, ModelSpec
from assistant.places import Places
from assistant.protocol import Engine
from assistant.reports import MemorySplit, ModelStatus
from assistant.settings import Settings
from memory.budget import PATCH_TOKENS, parse_size
from memory.geometry import Geometry


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
            path="" if entry.server else str(catalog.require(entry, self.places)),
            server=entry.server,
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

    def estimate(self, budget: str) -> MemorySplit:
        """What a budget would come to for the model of the settings, by its shape alone.

        Raises:
            BudgetError: it would not hold the model; the text shows the sum.
            ModelError: the shape of the model is not known before it is pulled.
            UsageError: a server runs it.
        """
        size, here = parse_size(_size(budget) or "0"), machine.look()
        entry = load_catalog(self.places).find(self.settings.model)
        if entry.server is not None:
            raise UsageError(f"{entry.id} runs on a server: a budget here is not for it.")
        if (geometry := entry.shape(self.places)) is None:
            raise ModelError(f"What {entry.id} takes is not known before it is here. Run: {entry.pull_command}")
        found, asked = self._fits(geometry, size, here), self.settings.quant
        chosen = next((one for one in found if one.fits and one.loads(asked)), None)
        if chosen is None:
            raise BudgetError(f"{entry.id}: {verdict(found, size, asked)} (an estimate: no model is loaded).")
        return MemorySplit(
            budget=size,
            **chosen.model_dump(include={"weights", "kv", "staging", "activations", "process"}),
            capacity_tokens=chosen.kv_tokens,
            working_set_tokens=max(0, chosen.kv_tokens - chosen.block - PATCH_TOKENS),
            device=here.device,
            quant=chosen.quantisation,
            estimated=True,
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

    def models(self, *, fit: bool = False, budget: str | None = None) -> list[ModelStatus]:
        """Every model of the catalogue; `fit`: and whether it fits `budget` here, or the one of the settings.

        To find out asks the GPU's driver: slow.

        Raises:
            UsageError: the budget is not a size.
        """
        budget = _size(budget) or self.settings.budget
        catalog = load_catalog(self.places)
        found = catalog.statuses(self.places, self.settings.model)
        if fit:
            here = machine.look()
            for one in found:
                one.verdict = self._verdict(catalog.find(one.id), here, budget)
        return found

    def _verdict(self, entry: ModelEntry, here: machine.Machine, budget: str | None) -> str | None:
        try:
            geometry = entry.shape(self.places)
        except ModelError as error:
            return str(error)
        if geometry is None:
            return None
        size = parse_size(budget) if budget else here.budget
        return verdict(self._fits(geometry, size, here), size)

    def _fits(self, geometry: Geometry, budget: int, here: machine.Machine) -> list[Fit]:
        block, stores = self.settings.block, self.settings.spill
        return fits(geometry, budget, here.itemsize, block, stores=stores, encoder=here.encoder)


def _size(text: str | None) -> str | None:
    try:
        return text if text is None or parse_size(text) else None
    except ValueError as error:
        raise UsageError(str(error)) from None
