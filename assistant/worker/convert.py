"""One-time conversion of a GGUF file into a folder that transformers loads in seconds.

Run as a child: `python -m assistant.worker.convert FILE.gguf FOLDER`. Standard output is JSON lines, either
{"done": n, "total": n} in bytes of the GGUF file or, at the end of a failure, {"error": "a sentence"}.

Weights are written in fp32, exactly as the GGUF says: rounded to half precision, the logits of the default model
move by up to 0.04. Where fp32 would take more than 4 GiB the matrices are written in half precision, because such a
model runs on a GPU in half precision anyway; norms, biases and what half precision cannot hold stay in fp32.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import psutil
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from assistant.errors import Exit, ModelError
from assistant.pull import EXACT_UP_TO
from assistant.worker.parent import end_with_parent, say
from memory.errors import UnsupportedModel
from memory.geometry import Geometry

Progress = Callable[[float], None]
"""Called with the share that is done, 0 to 1."""

_TURN_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<|end|>",
    "<eos>",
    "</s>",
)
"""Control tokens after which a reply is over. A GGUF records one of them, replies may end with another."""

_SINGLE_DIGITS = {"smollm", "starcoder", "refact"}
"""Vocabularies (`tokenizer.ggml.pre`) that split numbers into digits, which transformers' GGUF reader leaves out."""

_TOKENIZER_SHARE, _WEIGHTS_SHARE = 0.25, 0.9


def convert(source: Path, folder: Path, progress: Progress) -> None:
    """Write config, weights, generation config and tokenizer of `source` into `folder`.

    Raises:
        ModelError: not a readable GGUF, or of an architecture that cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fields = _fields(source)
        config = AutoConfig.from_pretrained(source.parent, gguf_file=source.name)
        Geometry.from_config(config.to_dict())
        progress(_TOKENIZER_SHARE / 2)
        tokenizer = _tokenizer(source, fields)
        tokenizer.save_pretrained(folder)
        progress(_TOKENIZER_SHARE)
        model = _model(source, progress)
    except (ValueError, KeyError, IndexError, ImportError, UnsupportedModel) as error:
        raise ModelError(f"{source.name} cannot be converted: {_one_line(error)}") from error
    dtype = _save(model, folder)
    _save_config(model, dtype, folder)
    _save_generation(model.config, tokenizer, folder)
    progress(1.0)


def _fields(source: Path) -> dict[str, Any]:
    """The metadata that decides how text is split. The reader checks that the file is whole."""
    reader = gguf.GGUFReader(source)
    wanted = reader.fields.get("tokenizer.ggml.pre")
    return {"pre": wanted.contents() if wanted else None}


def _tokenizer(source: Path, fields: dict[str, Any]) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    if fields["pre"] in _SINGLE_DIGITS:
        digits = pre_tokenizers.Digits(individual_digits=True)
        rest = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, rest])
    return tokenizer


def _model(source: Path, progress: Progress) -> Any:
    """The model in memory, dequantised; half precision when the RAM does not hold it in full."""
    ample = psutil.virtual_memory().available > 16 * source.stat().st_size
    with contextlib.redirect_stderr(_Meter(progress)):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            dtype=torch.float32 if ample else torch.float16,
            output_loading_info=True,
        )
    model, report = loaded
    if lost := sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"]):
        raise ValueError(f"{len(lost)} tensors are missing or of another shape, first {lost[0]}")
    if not all(tensor.is_floating_point() for tensor in model.parameters()):
        raise ValueError("its weights were not dequantised")
    return model


def _save(model: nn.Module, folder: Path) -> str:
    """Write the weights, tied ones once, and return the name of the type the matrices are in."""
    tensors = {tensor.data_ptr(): (name, tensor) for name, tensor in reversed(model.state_dict().items())}
    exact = 4 * sum(tensor.numel() for _, tensor in tensors.values()) <= EXACT_UP_TO
    written = {name: _stored(tensor, exact) for name, tensor in tensors.values()}
    save_file(written, folder / "model.safetensors", metadata={"format": "pt"})
    return "float32" if exact else "float16"


def _stored(tensor: Tensor, exact: bool) -> Tensor:
    if exact or tensor.ndim < 2:
        return tensor.detach().to(torch.float32).contiguous()
    half = tensor.detach().to(torch.float16).contiguous()
    return half if torch.isfinite(half).all() else tensor.detach().to(torch.float32).contiguous()


def _save_config(model: Any, dtype: str, folder: Path) -> None:
    known = model.config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        known.pop(key, None)
    known |= {"architectures": [type(model).__name__], "dtype": dtype}
    (folder / "config.json").write_text(json.dumps(known, indent=1, default=str), "utf-8")


def _save_generation(config: Any, tokenizer: Any, folder: Path) -> None:
    """The ids that end a reply: the recorded one first, then the other turn ends this vocabulary has."""
    vocabulary = tokenizer.get_added_vocab()
    ends = [tokenizer.eos_token_id, *(vocabulary[token] for token in _TURN_ENDS if token in vocabulary)]
    ids = list(dict.fromkeys(end for end in ends if end is not None))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else next(iter(ids), None)
    GenerationConfig(bos_token_id=config.bos_token_id, eos_token_id=ids or None, pad_token_id=pad).save_pretrained(
        folder
    )


class _Meter(io.TextIOBase):
    """A standard error that reads the percentage out of transformers' own bar over the tensors."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def write(self, text: str, /) -> int:
        for match in re.finditer(r"quantiz\w+ GGUF.*?(\d+)%", text):
            self._progress(_TOKENIZER_SHARE + (_WEIGHTS_SHARE - _TOKENIZER_SHARE) * int(match[1]) / 100)
        return len(text)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") + "."


def main(argv: list[str]) -> int:
    """Convert `argv[0]` into the folder `argv[1]`, saying how far we are."""
    source, folder = Path(argv[0]), Path(argv[1])
    end_with_parent()
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    total = source.stat().st_size
    try:
        convert(source, folder, lambda share: say(done=int(share * total), total=total))
    except ModelError as error:
        say(error=str(error))
        return error.exit_code
    say(about={"transformers": transformers.__version__})
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
