"""From a Python function to what the model is told of it and to the model that checks its arguments: one and the same.

Only what JSON can say is a type of a parameter, so that the function gets exactly what was checked.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import griffe
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError

from assistant.errors import UsageError
from assistant.protocol import ToolSpec

TYPES = "str, int, float, bool, None, list[...], dict[str, ...], Literal[...], and unions of these"
_PLAIN = (str, float, bool, types.NoneType)
_STYLES: tuple[Literal["google", "sphinx", "numpy"], ...] = ("google", "sphinx", "numpy")
_PARAMETERS = griffe.DocstringSectionKind.parameters
_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


@dataclass(frozen=True, slots=True)
class Signature:
    """What the model is told of a function, and what checks the arguments of a call."""

    spec: ToolSpec
    arguments: type[BaseModel]


class _Unfit(Exception):
    """Why a function is no tool; the text goes on after the function's name."""


def read_signature(function: Callable[..., Any], where: str) -> Signature:
    """What a function is as a tool. `where` names its file and line: "tools.py, line 12".

    Raises:
        UsageError: it has no docstring, a parameter without a type, or one that no JSON can fill.
    """
    try:
        description, told = _docstring(function)
        arguments = _model(function, told)
        schema = _plain(arguments.model_json_schema(by_alias=True))
        schema.setdefault("properties", {})
        spec = ToolSpec(name=function.__name__, description=description, parameters=schema)
    except _Unfit as unfit:
        raise UsageError(f"{where}: the tool {function.__name__} {unfit}.") from None
    except (PydanticUserError, ValueError, TypeError) as error:
        raise UsageError(f"{where}: the tool {function.__name__} cannot be described: {_first_line(error)}.") from None
    return Signature(spec, arguments)


def model_of(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    """A model of arguments that is as strict as those of a tools file; `fields` as `create_model` takes them."""
    return create_model(name, __config__=_CONFIG, **fields)


def _model(function: Callable[..., Any], told: dict[str, str]) -> type[BaseModel]:
    """Fields have names of their own and the parameters' as aliases: a parameter may be called `schema` or `copy`."""
    parameters = inspect.signature(function).parameters
    if unknown := [name for name in told if name not in parameters]:
        raise _Unfit(f"documents the parameter {unknown[0]!r}, which it does not have")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _Unfit("yields values; a tool returns one")
    hints = _hints(function)
    fields = {
        f"p{number}": _field(parameter, hints, told.get(parameter.name))
        for number, parameter in enumerate(parameters.values())
    }
    return model_of(function.__name__, fields)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except Exception as error:
        raise _Unfit(f"has a type that cannot be read: {_first_line(error)}") from None


def _field(parameter: inspect.Parameter, hints: dict[str, Any], told: str | None) -> Any:
    name = parameter.name
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise _Unfit(f"takes {'*' * (1 + (parameter.kind is parameter.VAR_KEYWORD))}{name}; name every parameter")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise _Unfit(f"has the positional-only parameter {name!r}; calls name their arguments")
    if parameter.annotation is parameter.empty:
        raise _Unfit(f"has no type for its parameter {name!r}")
    annotation = _checked(hints[name], name)
    if parameter.default is parameter.empty:
        return annotation, Field(alias=name, description=told)
    try:
        json.dumps(parameter.default, allow_nan=False)
    except (TypeError, ValueError):
        raise _Unfit(f"has a default for {name!r} that is not JSON: {parameter.default!r:.60}") from None
    return annotation, Field(parameter.default, alias=name, description=told)


def _checked(annotation: Any, name: str) -> Any:
    """The same type, where JSON can fill it; an int also takes 17.0, which is the same number to JSON."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is int:
        return Annotated[int, _WHOLE]
    if annotation in _PLAIN:
        return annotation
    if origin is Annotated and inner[0] is int:
        return Annotated[(*inner, _WHOLE)]  # behind its bounds, which are those of the int
    if origin is Annotated:
        return Annotated[(_checked(inner[0], name), *inner[1:])]
    if origin is Literal and all(value is None or isinstance(value, str | int | bool) for value in inner):
        return annotation
    if origin in (Union, types.UnionType):
        return Union[tuple(_checked(one, name) for one in inner)]  # noqa: UP007  (of types known only now)
    if origin is list:
        return list[_checked(inner[0], name)]  # type: ignore[misc]
    if origin is dict and inner[0] is str:
        return dict[str, _checked(inner[1], name)]  # type: ignore[misc]
    shown = getattr(annotation, "__name__", None) if origin is None else None
    raise _Unfit(f"has the type {shown or annotation} for its parameter {name!r}; what can be used: {TYPES}")


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and math.isfinite(value) and value.is_integer() else value


_WHOLE = BeforeValidator(_whole)


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """What it does, and what is said of each parameter, from a docstring in the style of Google, Sphinx or NumPy."""
    text = inspect.getdoc(function)
    if not text or not text.strip():
        raise _Unfit("has no docstring; it is what the model reads to know the tool")
    logging.getLogger("griffe").setLevel(logging.CRITICAL)  # a style that does not fit is no news
    docstring = griffe.Docstring(text)
    parts = max((docstring.parse(style) for style in _STYLES), key=_understood)
    told = [part.value for part in parts if part.kind is griffe.DocstringSectionKind.text]
    if not "".join(told).strip():
        raise _Unfit("has a docstring that does not say what it does")
    described = [one for part in parts if part.kind is _PARAMETERS for one in part.value]
    return "\n\n".join(told), {one.name: " ".join(one.description.split()) for one in described}


def _understood(parts: list[griffe.DocstringSection]) -> tuple[int, int]:
    """How much a reading in one style made of a docstring: parameters first, then other sections."""
    return sum(len(part.value) for part in parts if part.kind is _PARAMETERS), len(parts)


def _plain(schema: Any) -> Any:
    """Without the titles that pydantic makes of names: they cost tokens and tell nothing."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
    if isinstance(named := kept.get("properties"), dict):
        return {**{key: _plain(value) for key, value in kept.items()}, "properties": _each(named)}
    return {key: value if key in ("default", "enum", "const") else _plain(value) for key, value in kept.items()}


def _each(named: dict[str, Any]) -> dict[str, Any]:
    """The schemas of parameters, whatever these are called: one may be a `title`."""
    return {name: _plain(schema) for name, schema in named.items()}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
