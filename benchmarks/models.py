"""The models that benchmarks run."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from assistant.catalog import load_catalog
from assistant.places import find_places
from assistant.template import prepare_tokenizer


def load_model(name: str) -> tuple[Any, Any]:
    """A model of the catalogue in fp32, and its tokenizer."""
    places = find_places()
    catalog = load_catalog(places)
    path = catalog.require(catalog.find(name), places)
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    prepare_tokenizer(tokenizer)
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True).eval(), tokenizer
