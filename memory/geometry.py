"""KV geometry of a model, read from its configuration: layers, heads, head size, windows, bytes per token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memory.errors import UnsupportedModel

FULL = "full_attention"
SLIDING = "sliding_attention"

# Configuration keys that give away an attention this library does not implement, and how to say so.
_FOREIGN = {
    "kv_lora_rank": "multi-head latent attention",
    "mamba_d_state": "a state-space model",
    "state_size": "a state-space model",
    "linear_num_value_heads": "linear attention layers",
    "attention_chunk_size": "chunked attention",
    "attn_logit_softcapping": "soft-capped attention scores",
    "num_kv_shared_layers": "KV shared between layers",
    "alibi": "ALiBi positions",
    "no_rope_layers": "layers without positions",
}
_INTERLEAVED = {"cohere", "cohere2", "glm", "glm4", "gptj", "ernie4_5", "helium"}


@dataclass(frozen=True, slots=True)
class LayerGeometry:
    """One layer's KV: heads x head size per token, and its sliding window in tokens (None: attends to everything)."""

    kv_heads: int
    head_dim: int
    window: int | None

    def bytes_per_entry(self, itemsize: int) -> int:
        """Bytes of one token's key and value in this layer; `itemsize` is the size of one number in bytes."""
        return 2 * self.kv_heads * self.head_dim * itemsize


@dataclass(frozen=True, slots=True)
class Geometry:
    """The shapes that decide what a model costs.

    `query_heads` of each layer; `hidden` and `intermediate`: numbers of a token between layers and inside the MLP;
    `window`: positions that it was trained for; `tied`: whether the output head is the table of embeddings.
    """

    layers: tuple[LayerGeometry, ...]
    query_heads: int
    hidden: int
    intermediate: int
    vocab: int
    window: int
    tied: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Geometry:
        """Geometry of a parsed config.json (or `PretrainedConfig.to_dict()`).

        Raises:
            UnsupportedModel: the attention is not standard (latent, recurrent, soft-capped, ...) or a key is missing.
        """
        text = config.get("text_config") or config
        _refuse_foreign(text)
        heads = _required(text, "num_attention_heads")
        hidden = _required(text, "hidden_size")
        kv_heads = int(text.get("num_key_value_heads") or heads)
        head_dim = int(text.get("head_dim") or hidden // heads)
        return cls(
            layers=tuple(LayerGeometry(kv_heads, head_dim, window) for window in _windows(text)),
            query_heads=heads,
            hidden=hidden,
            intermediate=int(text.get("intermediate_size") or 4 * hidden),
            vocab=_required(text, "vocab_size"),
            window=_trained_window(text),
            tied=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", True))),
        )

    @property
    def full_layers(self) -> tuple[LayerGeometry, ...]:
        """Layers that attend to everything, whose KV grows with the conversation."""
        return tuple(layer for layer in self.layers if layer.window is None)

    @property
    def sliding_layers(self) -> tuple[LayerGeometry, ...]:
        """Layers bounded by a sliding window, kept whole."""
        return tuple(layer for layer in self.layers if layer.window is not None)

    def kv_bytes_per_token(self, itemsize: int) -> int:
        """KV bytes that one more token costs: every layer without a sliding window, keys and values."""
        return sum(layer.bytes_per_entry(itemsize) for layer in self.full_layers)

    @property
    def linear_parameters(self) -> int:
        """Weights inside linear layers (what a quantiser shrinks): attention projections and the gated MLP."""
        return sum(self._linear_parameters(layer) for layer in self.layers)

    @property
    def other_parameters(self) -> int:
        """Embeddings, output head and norms, which stay in the compute type."""
        tables = self.vocab * self.hidden * (1 if self.tied else 2)
        return tables + self.hidden * (2 * len(self.layers) + 1)

    @property
    def parameters(self) -> int:
        """Estimated number of weights, from the shapes."""
        return self.linear_parameters + self.other_parameters

    def _linear_parameters(self, layer: LayerGeometry) -> int:
        queries = 2 * self.hidden * self.query_heads * layer.head_dim
        keys_values = 2 * self.hidden * layer.kv_heads * layer.head_dim
        return queries + keys_values + 3 * self.hidden * self.intermediate


def _required(text: Mapping[str, Any], key: str) -> int:
    value = text.get(key)
    if not isinstance(value, int) or value < 1:
        kind = text.get("model_type", "unknown")
        raise UnsupportedModel(
            f"The model's configuration (type {kind}) has no {key}: it is not a supported causal LM."
        )
    return value


def _refuse_foreign(text: Mapping[str, Any]) -> None:
    kind = text.get("model_type", "unknown")
    for key, name in _FOREIGN.items():
        if text.get(key):
            raise UnsupportedModel(f"Models of type {kind} use {name}, whose KV this library cannot manage.")
    foreign = set(text.get("layer_types") or ()) - {FULL, SLIDING}
    if foreign or kind in _INTERLEAVED:
        what = ", ".join(sorted(foreign)) or "interleaved rotary positions"
        raise UnsupportedModel(f"Models of type {kind} use {what}, whose KV this library cannot manage.")


def _windows(text: Mapping[str, Any]) -> list[int | None]:
    """Sliding window per layer, by the rules transformers' own caches follow."""
    count = _required(text, "num_hidden_layers")
    window = text.get("sliding_window") if text.get("use_sliding_window", True) else None
    kinds = text.get("layer_types") or [SLIDING if window else FULL] * count
    return [int(window) if window and kind == SLIDING else None for kind in kinds[:count]]


def _trained_window(text: Mapping[str, Any]) -> int:
    window = _required(text, "max_position_embeddings")
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    for entry in [rope, *(value for value in rope.values() if isinstance(value, Mapping))]:
        kind = entry.get("rope_type", entry.get("type"))
        if kind in ("longrope", "dynamic"):  # these change every frequency past the original length
            window = min(window, int(entry.get("original_max_position_embeddings") or window))
    return window
