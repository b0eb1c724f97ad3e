"""The models that benchmarks run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from assistant.catalog import load_catalog
from assistant.places import find_places
from assistant.template import prepare_tokenizer
from assistant.worker.halves import can_halve, halve
from benchmarks.report import parser_of


def options_of(description: str | None) -> argparse.Namespace:
    """The command line of a benchmark of speed: `model` (a folder), `quick`, `json`."""
    parser = parser_of(description, "shorter texts, fewer rounds (about a minute)")
    parser.add_argument("model", type=Path, nargs="?")
    options = parser.parse_args()
    options.model = options.model or folder_of("smollm2-135m")
    return options


def folder_of(name: str) -> Path:
    """Where a pulled model of the catalogue lies."""
    places = find_places()
    catalog = load_catalog(places)
    return catalog.require(catalog.find(name), places)


def load_model(name: str) -> tuple[Any, Any]:
    """A model of the catalogue in fp32, and its tokenizer."""
    folder = folder_of(name)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    prepare_tokenizer(tokenizer)
    return in_full(folder), tokenizer


def in_full(folder: Path) -> Any:
    """A model in fp32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()


def as_used(folder: Path) -> Any:
    """A model as `--quant auto` has it on a CPU with room: in fp16 where that can be, else in fp32."""
    model = in_full(folder)
    if can_halve(torch.device("cpu")):
        halve(model)
    return model


def some_ids(model: Any, length: int) -> list[int]:
    """The same random tokens each time."""
    return random_ids(length, model.config.vocab_size, length)


def random_ids(length: int, vocabulary: int = 40_000, seed: int = 1) -> list[int]:
    """Random tokens, always the same."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = torch.randint(100, vocabulary, (length,), generator=generator).tolist()
    return ids
