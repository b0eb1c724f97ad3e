"""How a budget is divided for a model: what loading does first, and what another budget would come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assistant.errors import BudgetError, ModelError, UsageError
from assistant.fit import automatic, weight_bytes, with_encoder
from memory.budget import PROCESS, Plan, plan
from memory.errors import BudgetTooSmall, UnsupportedModel
from memory.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Division:
    """What a plan depends on beside the budget. Sizes in bytes.

    `expected` is staging before the model is loaded, `staging` after; `encoder` is what the embedding model would take.
    `halves`: whether the device multiplies matrices that are kept in fp16 with fp32 numbers.
    """

    geometry: Geometry
    itemsize: int
    block: int
    asked: str
    expected: int
    staging: int
    ram: int
    encoder: int
    halves: bool = False
    shares: Sequence[float] = ()

    def choose(self, budget: int) -> str:
        """The quantisation asked for, or for "auto" the first that fits, before anything is loaded.

        Raises:
            BudgetError: none fits; the text is that of the smallest.
            UsageError: the device has no such thing.
        """
        if self.asked == "fp16" and not self.halves:
            raise UsageError("--quant fp16 is for CPUs of the x86 kind; here --quant none is what comes nearest.")
        for name in automatic(halves=self.halves) if self.asked == "auto" else (self.asked,):
            try:
                self._plan(budget, weight_bytes(self.geometry, name, self.itemsize), PROCESS, self.expected, ())
                return name
            except BudgetError as error:
                problem = error
        hint = "" if self.asked in ("auto", "nf4") else " --quant nf4 takes less."
        raise BudgetError(f"{problem}{hint}")

    def divide(self, budget: int, weights: int) -> tuple[Plan, int]:
        """The plan for weights of this size with room for the embedding model, and that room; or without it, where it
        would take too much.

        Raises:
            BudgetError: the weights and the smallest working set do not fit.
            ModelError: the layers of this model cannot share a budget as asked.
        """
        return with_encoder(
            lambda process: self._plan(budget, weights, process, self.staging, self.shares), self.encoder
        )

    def preview(self, budget: int, quant: str, weights: int) -> tuple[str, Plan]:
        """Quantisation and plan of another budget; `quant` and `weights` are those of the loaded model.

        Raises:
            BudgetError: no quantisation that may be used fits.
        """
        chosen = self.choose(budget)
        size = weights if chosen == quant else weight_bytes(self.geometry, chosen, self.itemsize)
        return chosen, self.divide(budget, size)[0]

    def _plan(self, budget: int, weights: int, process: int, staging: int, shares: Sequence[float]) -> Plan:
        chosen = {"staging": staging, "ram": self.ram, "process": process}
        try:
            return plan(self.geometry, budget, weights, self.itemsize, self.block, shares=shares, **chosen)
        except BudgetTooSmall as error:
            raise BudgetError(str(error)) from error
        except UnsupportedModel as error:
            raise ModelError(f"{error} Set layers = uniform.") from error
