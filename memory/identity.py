"""What KV depends on, as the fields of a fingerprint: the same tokens under other fields are other KV."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import transformers
import xxhash
from torch import nn

from memory.attention import NAME
from memory.block import CHUNK
from memory.chunkfile import VERSION

_VOLATILE = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "_attn_implementation_autoset")
_PIECE = 16 * 1024 * 1024


def model_fields(model: nn.Module, dtype: torch.dtype, codec: Sequence[str]) -> dict[str, str]:
    """The fields that a loaded transformers model gives: config, rope, dtype, codec, layout, libraries.

    `dtype` is that of keys and values, `codec` one name a layer. Weights, tokenizer, template and quantisation are the
    caller's to add (`files_digest` helps).
    """
    config: Any = model.config
    values = {key: value for key, value in config.to_dict().items() if key not in _VOLATILE}
    rope = {key: value for key, value in values.items() if "rope" in key}
    return {
        "config": digest(values),
        "rope": json.dumps(rope, sort_keys=True, default=str),
        "dtype": str(dtype).removeprefix("torch."),
        "codec": ",".join(codec),
        "layout": f"{CHUNK}/{VERSION}",
        "attention": NAME,
        "torch": _major(torch.__version__),
        "transformers": _major(transformers.__version__),
        "memory": _own_major(),
    }


def files_digest(paths: Sequence[Path]) -> str:
    """xxh3-128 over the names and contents of files, in the order of their names.

    Raises:
        OSError: one cannot be read.
    """
    total = xxhash.xxh3_128()
    for path in sorted(paths):
        total.update(path.name.encode())
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                total.update(piece)
    return total.hexdigest()


def digest(value: Mapping[str, Any] | str) -> str:
    """Short digest of a text or of anything JSON can hold."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _major(text: str) -> str:
    return text.split(".", 1)[0]


def _own_major() -> str:
    try:
        return _major(version("on-device-assistant"))
    except PackageNotFoundError:
        return "0"
