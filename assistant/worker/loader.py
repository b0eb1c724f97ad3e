"""From a model folder to a model in memory: which quantisation fits, what it will take, and loading it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from assistant.errors import ModelError, UsageError
from assistant.orders import ModelSpec
from assistant.template import encode_text, prepare_tokenizer, sentence_ends
from assistant.worker.calling import Caller
from assistant.worker.device import Gauge, compute_dtype, pick_device, standard_budget
from assistant.worker.division import Division
from assistant.worker.episodes import open_episodes
from assistant.worker.halves import HalfLinear, can_halve, halve
from assistant.worker.layers import layer_shares
from assistant.worker.tiers import expected_staging, fingerprint_of, open_spill, ram_bytes, staging_for
from assistant.worker.weights import restore_vectors, stored_dtype
from assistant.worker.words import caller
from memory.aside import choosing_bytes
from memory.attention import NAME, register
from memory.budget import parse_size
from memory.codec import make_codecs
from memory.episode import Episodes
from memory.errors import UnsupportedModel
from memory.geometry import Geometry
from memory.minilm import encoder_room
from memory.policy import POLICIES, Policy
from memory.store import Memory, make_policy

LoadProgress = Callable[[int, int], None]
"""Called with (bytes loaded, bytes to load)."""


@dataclass(slots=True)
class Loaded:
    """A model ready to answer, and its memory."""

    spec: ModelSpec
    model: nn.Module
    tokenizer: Any
    stops: frozenset[int]
    quant: str
    memory: Memory
    gauge: Gauge
    budget: int
    episodes: Episodes
    division: Division
    caller: Caller
    patches: dict[tuple[str, int], Sequence[int]] = field(default_factory=dict)
    """The last patch of each conversation's episode that was scored."""


def load(spec: ModelSpec, progress: LoadProgress) -> Loaded:
    """Plan first, then load, then allocate the working set.

    Raises:
        BudgetError: the weights and the smallest working set do not fit the budget.
        ModelError: the folder is incomplete or of an unsupported kind, or its layers cannot share a budget.
        UsageError: the budget or the policy of `spec` is not one.
    """
    device = pick_device()
    if spec.threads:
        torch.set_num_threads(spec.threads)
    policy, budget = _policy(spec.policy), _budget(spec, device)
    config = _config(spec)
    geometry = _geometry(spec, config)
    dtype = compute_dtype(device)
    choosing = _choosing(policy, geometry, device)
    division = _division(spec, geometry, dtype, device, choosing)
    quant = division.choose(budget)
    tokenizer = _tokenizer(spec)
    model = _weights(spec, config, quant, dtype, device, progress)
    codecs = make_codecs(geometry, spec.kv.codec, dtype, model) if spec.kv else None
    try:
        _settle(spec, model, quant)
    except OverflowError as error:
        del model
        return _in_full(spec, progress, error)
    progress(_file_bytes(spec), _file_bytes(spec))
    weights = loaded_bytes(model)
    gauge = Gauge(device)
    gauge.loaded(weights)
    staging = staging_for(geometry, codecs[0], dtype) + choosing if codecs else 0
    fingerprint = fingerprint_of(spec, model, quant, dtype, codecs[0], tokenizer.chat_template) if codecs else None
    shares = layer_shares(spec, model, tokenizer, geometry, dtype, budget - weights, fingerprint)
    division = replace(division, staging=staging, shares=shares)
    plan, room = division.divide(budget, weights)
    spill = None
    if spec.kv is not None and codecs is not None and fingerprint is not None:
        spill = open_spill(spec, spec.kv, fingerprint, codecs, device)
    patch = encode_text(tokenizer, policy.patch) if policy.patch else []
    ends = sentence_ends(tokenizer) if policy.unit == "sentence" else frozenset[int]()
    memory = Memory(model, plan, policy, patch, geometry=geometry, dtype=dtype, spill=spill, mode=spec.mode, ends=ends)
    memory.call_token = caller(tokenizer)
    episodes = open_episodes(spec, room, device)
    stops = stop_tokens(model, tokenizer)
    calls = Caller(tokenizer, stops, gauge.libraries)
    return Loaded(spec, model, tokenizer, stops, quant, memory, gauge, budget, episodes, division, calls)


def _division(spec: ModelSpec, geometry: Geometry, dtype: torch.dtype, device: torch.device, choosing: int) -> Division:
    """How the budget will be divided, as far as that is known before anything is loaded."""
    return Division(
        geometry,
        dtype.itemsize,
        spec.block,
        spec.quant,
        expected=expected_staging(geometry, spec.kv, dtype) + choosing if spec.kv else 0,
        staging=0,
        ram=ram_bytes(spec.kv, device) if spec.kv and device.type == "cpu" else 0,
        encoder=encoder_room() if device.type == "cpu" else 0,
        halves=can_halve(device),
    )


def loaded_bytes(model: nn.Module) -> int:
    """Bytes of a loaded model's tensors, shared ones once, quantisation states included."""
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]}
    states = [getattr(parameter, "quant_state", None) for parameter in model.parameters()]
    scales = [int(state.absmax.nbytes) for state in states if state is not None]
    halves = [module.nbytes for module in model.modules() if isinstance(module, HalfLinear)]
    return sum(tensors.values()) + sum(scales) + sum(halves)


def _choosing(policy: Policy, geometry: Geometry, device: torch.device) -> int:
    """Bytes that choosing among what is stored takes, where the tiers lie in the same memory as everything else."""
    return choosing_bytes(geometry, policy.queries, policy.base) if device.type == "cpu" else 0


def _policy(name: str) -> Policy:
    if name not in POLICIES:
        raise UsageError(f"There is no policy {name!r}. Choose one of: {', '.join(POLICIES)}.")
    return make_policy(name)


def _budget(spec: ModelSpec, device: torch.device) -> int:
    if spec.budget is None:
        return standard_budget(device)
    try:
        return parse_size(spec.budget)
    except ValueError as error:
        raise UsageError(f"--budget: {error}") from error


def _config(spec: ModelSpec) -> Any:
    folder = Path(spec.path)
    if not (folder / "config.json").is_file():
        raise ModelError(f"The model {spec.id!r} is incomplete on disk. Run: assistant models pull {spec.id}")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"The configuration of the model {spec.id!r} cannot be read: {error}") from error


def _geometry(spec: ModelSpec, config: Any) -> Geometry:
    try:
        return Geometry.from_config(config.to_dict())
    except UnsupportedModel as error:
        raise ModelError(f"The model {spec.id!r} cannot be used. {error}") from error


def _tokenizer(spec: ModelSpec) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(spec.path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"The tokenizer of the model {spec.id!r} cannot be read: {error}") from error
    prepare_tokenizer(tokenizer)
    return tokenizer


def _weights(
    spec: ModelSpec, config: Any, quant: str, dtype: torch.dtype, device: torch.device, progress: LoadProgress
) -> nn.Module:
    register()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it logs a line per layer and step on a CPU
    total = _file_bytes(spec)
    progress(0, total)
    previous = transformers_logging.set_tqdm_hook(_bar(progress, total))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = AutoModelForCausalLM.from_pretrained(
                spec.path,
                config=config,
                dtype=stored_dtype(Path(spec.path)) if quant == "fp16" else dtype,
                device_map={"": device},
                attn_implementation=NAME,
                quantization_config=_quantisation(quant, dtype),
                use_safetensors=True,
                local_files_only=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"The model {spec.id!r} cannot be loaded ({error}). Run: assistant models rm {spec.id}, then pull it again."
        ) from error
    finally:
        transformers_logging.set_tqdm_hook(previous)
    loaded: nn.Module = model.eval().requires_grad_(False)
    return loaded


def _file_bytes(spec: ModelSpec) -> int:
    return sum(file.stat().st_size for file in Path(spec.path).glob("*.safetensors"))


def _settle(spec: ModelSpec, model: nn.Module, quant: str) -> None:
    """The weights take the form and the room that they have from now on; what is only memory-mapped is read."""
    if quant == "fp16":
        restore_vectors(model, Path(spec.path))
        halve(model)
    else:
        _touch(model)


def _in_full(spec: ModelSpec, progress: LoadProgress, error: OverflowError) -> Loaded:
    """Load a model in fp32 whose weights fp16 does not hold, unless fp16 was asked for."""
    if spec.quant != "auto":
        raise ModelError(f"The model {spec.id!r} cannot be held in fp16: {error}. Use --quant none.") from error
    loaded = load(spec.model_copy(update={"quant": "none"}), progress)
    loaded.spec = spec
    return loaded


def _touch(model: nn.Module) -> None:
    """Read one number of every page of memory-mapped weights."""
    for parameter in model.parameters():
        if parameter.device.type == "cpu":
            parameter.detach().view(-1)[::1024].sum()


def _quantisation(quant: str, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    if quant == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    if quant == "nf4":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return None


def _bar(progress: LoadProgress, total: int) -> Any:
    """A hook that turns transformers' "Loading weights" bar into byte progress, at most 20 reports."""

    def count(items: list[Any]) -> Iterator[Any]:
        step = max(1, len(items) // 20)
        for index, item in enumerate(items):
            if index % step == 0:
                progress(total * index // len(items), total)
            yield item

    return lambda _, args, kwargs: count(list(args[0] if args else kwargs["iterable"]))


def stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end a reply: those of the generation configuration and the tokenizer's own."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in [*ids, tokenizer.eos_token_id] if token is not None)
