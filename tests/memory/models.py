"""Tiny random models of every supported kind, built in memory, and what the tests compare them with."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from memory.budget import MIB, Plan, plan
from memory.geometry import Geometry
from memory.policy import Policy
from memory.store import Memory, make_policy

VOCABULARY = 97
WINDOW = 512

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": WINDOW,
    "initializer_range": 0.3,
    "tie_word_embeddings": True,
}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention"]

CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_SHAPE),
    "qwen2": Qwen2Config(**_SHAPE),
    "qwen3": Qwen3Config(**_SHAPE),
    "mistral": MistralConfig(**_SHAPE, sliding_window=None),
    "mistral_sliding": MistralConfig(**_SHAPE, sliding_window=24),
    "gemma3": Gemma3TextConfig(**_SHAPE, sliding_window=16, layer_types=_MIXED),
}
KINDS = list(CONFIGS)


@cache
def model_pair(kind: str) -> tuple[Any, Any]:
    """(model for our path, the same weights on transformers' own path)."""
    torch.manual_seed(1)
    ours = AutoModelForCausalLM.from_config(deepcopy(CONFIGS[kind])).eval()
    theirs = AutoModelForCausalLM.from_config(deepcopy(CONFIGS[kind]), attn_implementation="sdpa").eval()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def make_plan(kind: str, capacity: int, block: int, patch: int = 16, capacities: tuple[int, ...] = ()) -> Plan:
    """A plan with exactly this many entries per head, whatever a budget would allow; `capacities`: of each layer."""
    geometry = Geometry.from_config(CONFIGS[kind].to_dict())
    kv = geometry.kv_bytes_per_token(4) * capacity + MIB
    return Plan(64 * MIB, 0, kv, MIB, 8 * MIB, capacity, block, patch, waiting=2, capacities=capacities)


def roomy_plan(kind: str, block: int) -> Plan:
    """A plan in which nothing has to be evicted inside the trained window."""
    divided = plan(Geometry.from_config(CONFIGS[kind].to_dict()), 64 * MIB, 0, 4, 256)
    return make_plan(kind, divided.capacity, block)


def make_memory(kind: str, division: Plan, policy: Policy | str = "sinks_recent", patch: int = 12) -> Memory:
    """A memory over the tiny model of `kind`, with a random patch of `patch` tokens and a small recent window."""
    chosen = make_policy(policy) if isinstance(policy, str) else policy
    return Memory(model_pair(kind)[0], division, chosen, tokens(patch, seed=99))


def tokens(count: int, seed: int = 0) -> list[int]:
    """`count` random token ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (count,), generator=generator).tolist()


def full_logits(kind: str, ids: list[int]) -> torch.Tensor:
    """Logits [tokens, vocabulary] of transformers' DynamicCache path, read in one go."""
    with torch.inference_mode():
        return model_pair(kind)[1](torch.tensor([ids]), use_cache=True).logits[0]
