"""From a model spec to open tiers: which codec, which fingerprint, how much staging, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from assistant.errors import AssistantError, DaemonError
from assistant.orders import KvSpec, ModelSpec
from memory.aside import staging_bytes
from memory.budget import GIB
from memory.chunkfile import Layout
from memory.codec import RowCodec, layer_codecs
from memory.errors import KvLocked
from memory.fingerprint import Fingerprint
from memory.folder import WAIT_S, KvFolder
from memory.geometry import Geometry
from memory.identity import digest, files_digest, model_fields
from memory.spill import Spill, half_bytes
from memory.tier.disk import DiskTier

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def expected_staging(geometry: Geometry, kv: KvSpec, dtype: torch.dtype) -> int:
    """`staging_for` before the model is loaded: as if every layer had keys too large for int4."""
    shapes = [(layer.kv_heads, layer.head_dim) for layer in geometry.layers]
    names = layer_codecs(kv.codec, len(shapes), dtype, protected=range(len(shapes)))
    return staging_for(geometry, RowCodec(shapes, names), dtype)


def staging_for(geometry: Geometry, sealed: RowCodec, dtype: torch.dtype) -> int:
    """Bytes that rows on their way take."""
    return staging_bytes(geometry, dtype.itemsize, half_bytes(Layout(sealed.sections)))


def ram_bytes(kv: KvSpec, device: torch.device) -> int:
    """Bytes of the RAM tier: as set, else 2 GiB beside a GPU and none where it would come out of the budget."""
    return kv.ram if kv.ram is not None else (2 * GIB if device.type == "cuda" else 0)


def open_spill(
    spec: ModelSpec, kv: KvSpec, fingerprint: Fingerprint, codecs: tuple[RowCodec, RowCodec], device: torch.device
) -> Spill:
    """The tiers of a loaded model.

    Raises:
        DaemonError: another process uses the folder.
        AssistantError: the folder cannot be used at all.
    """
    sealed, lossless = codecs

    def open_disk() -> DiskTier:
        folder = KvFolder.open(Path(kv.folder), wait_s=WAIT_S)
        layout = Layout(sealed.sections)
        return DiskTier(folder, fingerprint, layout, sealed.names, sealed.shapes, kv.disk, kv.reserve)

    try:
        return Spill(sealed, lossless, ram_bytes(kv, device), open_disk, pinned=device.type == "cuda")
    except KvLocked as error:
        raise DaemonError(str(error)) from error
    except OSError as error:
        raise AssistantError(f"The memory of {spec.id} cannot be kept in {kv.folder}: {error.strerror}.") from error


def fingerprint_of(
    spec: ModelSpec, model: nn.Module, quant: str, dtype: torch.dtype, sealed: RowCodec, template: Any
) -> Fingerprint:
    """Everything that the KV of a conversation with this model depends on."""
    folder = Path(spec.path)
    fields = model_fields(model, dtype, sealed.names)
    fields["weights"] = files_digest(list(folder.glob("*.safetensors")))
    fields["tokenizer"] = files_digest([folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()])
    fields["template"] = digest(str(template))
    fields["quant"] = quant
    return Fingerprint.of(fields)
