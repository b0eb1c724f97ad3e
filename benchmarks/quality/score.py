"""What is measured of one answer, and what is told of many."""

from __future__ import annotations

import math
import re
import statistics
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

Record = dict[str, Any]
METRICS = ("kl32", "top1", "kl", "nll", "f1")


def divergence(full: Tensor, logits: Tensor) -> float:
    """Mean KL(full || other) over tokens, nats; both [tokens, vocabulary]."""
    reference, other = full.log_softmax(-1), logits.log_softmax(-1)
    return float((reference.exp() * (reference - other)).sum(-1).mean())


def agreement(full: Tensor, logits: Tensor) -> float:
    """Share of tokens whose most likely successor is the same."""
    return float((full.argmax(-1) == logits.argmax(-1)).to(torch.float32).mean())


def likelihood(logits: Tensor, ids: Sequence[int]) -> float:
    """Mean negative log-likelihood of `ids`, nats a token."""
    return float(-logits.log_softmax(-1)[torch.arange(len(ids)), torch.tensor(list(ids))].mean())


def f1(reply: str, golds: Sequence[str]) -> float:
    """Token F1 with the best of the accepted answers, articles and punctuation aside."""
    return max(_f1(_words(reply), _words(gold)) for gold in golds)


def _f1(said: list[str], gold: list[str]) -> float:
    both = sum((Counter(said) & Counter(gold)).values())
    return 2 * both / (len(said) + len(gold)) if both else 0.0


def _words(text: str) -> list[str]:
    plain = re.sub(r"\b(a|an|the|and)\b", " ", text.lower().translate(str.maketrans("", "", string.punctuation)))
    return plain.split()


def summary(records: Sequence[Record]) -> list[Record]:
    """One row a policy and budget over the questions that have an answer, the one with the fullest budget first."""
    rows = [_row(key, some) for key, some in _grouped(records, lambda one: (one["policy"], one["budget"])).items()]
    return sorted(rows, key=lambda row: (row["policy"] != "full", -share_of(row["budget"]), row["kl32"] or 0))


def by_category(records: Sequence[Record]) -> list[Record]:
    """Per policy, budget and category, those without an answer as a category of their own."""
    grouped = _grouped(records, lambda one: (one["policy"], one["budget"], one["category"]))
    return [
        {"policy": policy, "budget": budget, "category": category, "questions": len(some), **_means(some)}
        for (policy, budget, category), some in sorted(grouped.items())
    ]


def paired(records: Sequence[Record]) -> list[Record]:
    """`kl32` of every two policies at one budget on the questions both have: the mean difference, its standard error,
    and the quotient of the means."""
    groups = _grouped([one for one in records if one["category"] != "adversarial"], lambda one: one["budget"])
    return [_pair(budget, *two) for budget, some in groups.items() for two in permutations(_by_policy(some).items(), 2)]


def _by_policy(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    grouped = _grouped(records, lambda one: one["policy"])
    return {policy: {one["qid"]: one["kl32"] for one in some} for policy, some in grouped.items()}


def _pair(budget: str, one: tuple[str, dict[str, float]], other: tuple[str, dict[str, float]]) -> Record:
    shared = [(value, other[1][qid]) for qid, value in one[1].items() if qid in other[1]]
    differences = [left - right for left, right in shared]
    below = sum(right for _, right in shared)
    return {
        "budget": budget,
        "policy": one[0],
        "against": other[0],
        "questions": len(shared),
        "difference": _rounded(statistics.fmean(differences)) if shared else None,
        "difference_se": _error(differences),
        "ratio": _rounded(sum(left for left, _ in shared) / below) if below else None,
    }


def _row(key: tuple[str, str], records: Sequence[Record]) -> Record:
    answered = [one for one in records if one["category"] != "adversarial"]
    others = [one for one in records if one["category"] == "adversarial"]
    grouped = _grouped(answered, lambda one: one["talk"]).values()
    talks = [statistics.fmean(one["kl32"] for one in some) for some in grouped]
    return {
        "policy": key[0],
        "budget": key[1],
        "questions": len(answered),
        **_means(answered),
        "kl32_se": _error([one["kl32"] for one in answered]),
        "kl32_talks": f"{min(talks):.4f}-{max(talks):.4f}" if talks else "",
        "kl32_adversarial": _rounded(_mean(others, "kl32")),
        "missed": _rounded(_mean(answered, "missed")),
        "exact_steps": _rounded(_mean(answered, "exact_steps")),
        "entries": _rounded(_mean(records, "entries"), 0),
        "stored_mib": _rounded((_mean(records, "stored_bytes") or 0) / 2**20, 2),
        "seconds": _rounded(_mean(records, "seconds"), 2),
    }


def _means(records: Sequence[Record]) -> Record:
    return {name: _rounded(_mean(records, name)) for name in METRICS}


def _mean(records: Sequence[Record], name: str) -> float | None:
    found = [one[name] for one in records if one.get(name) is not None]
    return statistics.fmean(found) if found else None


def _error(values: Sequence[float]) -> float | None:
    return _rounded(statistics.stdev(values) / math.sqrt(len(values))) if len(values) > 1 else None


def _rounded(value: float | None, digits: int = 5) -> float | None:
    return None if value is None else round(value, digits)


def _grouped(records: Sequence[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    groups = defaultdict[Any, list[Record]](list)
    for one in records:
        groups[key(one)].append(one)
    return groups


def share_of(budget: str) -> float:
    """ "1/8" as a number."""
    above, _, below = budget.partition("/")
    return int(above) / int(below or 1)
