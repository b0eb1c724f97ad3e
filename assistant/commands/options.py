"""Flags that several commands share, and what they come to together with the settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError

from assistant.errors import UsageError
from assistant.protocol import Engine, Sampling
from assistant.settings import DEFAULT, Settings

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
In = Annotated[str | None, typer.Option("--conversation", "-c", metavar="NAME", help="Conversation to go on with.")]
Model = Annotated[str | None, typer.Option(metavar="ID", help="Model: an id, an alias or a source.")]
Budget = Annotated[str | None, typer.Option(metavar="SIZE", help="Memory never to exceed, e.g. 900MiB or 6GiB.")]
Quant = Annotated[str | None, typer.Option(metavar="Q", help="Weights: auto, none, fp16, int8 or nf4.")]
Policy = Annotated[str | None, typer.Option(metavar="P", help="How the working set is chosen.")]
Mode = Annotated[str | None, typer.Option(metavar="M", help="Attention to stored tokens: auto, exact or bounded.")]
System = Annotated[str | None, typer.Option(metavar="TEXT", help="System prompt of a new conversation.")]
Temperature = Annotated[float | None, typer.Option(metavar="T", help="0 always takes the likeliest token.")]
TopP = Annotated[float | None, typer.Option(metavar="P", help="Sample from the likeliest tokens of this mass.")]
TopK = Annotated[int | None, typer.Option(metavar="K", help="Sample from this many likeliest tokens; 0: no limit.")]
MinP = Annotated[float | None, typer.Option(metavar="P", help="Drop tokens below this share of the likeliest one.")]
Penalty = Annotated[float | None, typer.Option(metavar="R", help="Above 1 makes repetition less likely.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Random seed of the reply.")]
MaxTokens = Annotated[int | None, typer.Option(metavar="N", help="Longest reply, in tokens.")]
Stop = Annotated[list[str] | None, typer.Option(metavar="TEXT", help="End the reply here; may be given again.")]

ENGINE: dict[str, Any] = {"model": Model, "budget": Budget, "quant": Quant, "policy": Policy, "mode": Mode}
DECODING: dict[str, Any] = {
    "temperature": Temperature,
    "top_p": TopP,
    "top_k": TopK,
    "min_p": MinP,
    "repetition_penalty": Penalty,
    "seed": Seed,
    "max_tokens": MaxTokens,
}

R = TypeVar("R")


def with_flags(shared: Mapping[str, Any]) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command these flags behind its own; what they say comes as one mapping, its argument `flags`."""

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @wraps(command)
        def run(**given: Any) -> R:
            return command(flags={name: given.pop(name) for name in shared}, **given)

        run.__signature__ = _signature(command, shared)  # type: ignore[attr-defined]
        return run

    return decorate


def _signature(command: Callable[..., Any], shared: Mapping[str, Any]) -> inspect.Signature:
    """What typer reads the flags of a command from."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "flags"]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=shared[name])
        for name in shared
    ]
    return signature.replace(parameters=[*own, *more])


def engine_of(settings: Settings) -> Engine:
    """What this caller decided; the rest is left to the daemon's own settings."""
    return Engine(**{name: getattr(settings, name) for name in Engine.model_fields if is_set(settings, name)})


def sampling_of(settings: Settings, stop: list[str] | None) -> Sampling:
    """The decoding parameters with these stop strings."""
    try:
        return Sampling.model_validate(settings.sampling().model_dump() | {"stop": stop or []})
    except ValidationError as error:
        raise UsageError(f"--stop: {error.errors(include_url=False)[0]['msg']}.") from None


def is_set(settings: Settings, name: str) -> bool:
    """Whether anyone but the default says what `name` is."""
    return settings.origin(name) != DEFAULT
