"""Where the budget goes, as the wire tells it: of the loaded model, and of it under another budget."""

from __future__ import annotations

from assistant.errors import UsageError
from assistant.orders import Plan
from assistant.reports import MemorySplit
from assistant.worker.loader import Loaded
from memory.budget import Plan as Division
from memory.budget import parse_size


def split_of(loaded: Loaded) -> MemorySplit:
    """The plan in force with what was measured of it."""
    memory = loaded.memory
    split = _planned(memory.plan, loaded.quant, str(loaded.gauge.device))
    split.peak = loaded.gauge.peak()
    split.resident_tokens, split.stored_tokens = memory.resident, len(memory.tokens)
    return split


def preview(loaded: Loaded | None, request: Plan) -> MemorySplit:
    """What the budget of `request` would come to, without allocating anything; all 0 when no model is loaded.

    Raises:
        BudgetError: the model does not fit; the text shows the sum.
        UsageError: it is no size.
    """
    if loaded is None:
        return MemorySplit()
    try:
        budget = parse_size(request.budget)
    except ValueError as error:
        raise UsageError(str(error)) from error
    quant, plan = loaded.division.preview(budget, loaded.quant, loaded.memory.plan.weights)
    return _planned(plan, quant, str(loaded.gauge.device))


def _planned(plan: Division, quant: str, device: str) -> MemorySplit:
    return MemorySplit(
        budget=plan.budget,
        weights=plan.weights,
        kv=plan.kv,
        staging=plan.staging,
        activations=plan.activations,
        capacity_tokens=plan.capacity,
        working_set_tokens=max(0, plan.working_set),
        device=device,
        quant=quant,
        ram=plan.ram,
        process=plan.process,
    )
