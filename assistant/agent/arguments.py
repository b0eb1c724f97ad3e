"""The arguments of a call against the JSON schema of its tool."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry

from assistant.errors import UsageError
from assistant.protocol import ToolSpec

LONGEST = 300
"""Characters of a sentence about one argument."""

_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "prefixItems")
_ONE = ("items", "additionalProperties")
_COMPOSE = {"anyOf", "oneOf", "allOf", "$ref"}
_OPEN = {"additionalProperties", "patternProperties", "unevaluatedProperties"}
_SAY_WHICH_KEYS = _COMPOSE | _OPEN | {"properties"}


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a tool's arguments: of an object, with no other keys than those it names where it does not say
    otherwise, and with alternatives of which several may fit at once (`oneOf` as `anyOf`)."""
    result: dict[str, Any] = {"type": "object"} | _closed(schema, close='"allOf"' not in json.dumps(schema))
    if not _SAY_WHICH_KEYS & result.keys():
        result |= {"properties": {}, "additionalProperties": False}
    return result


def check_schema(schema: Mapping[str, Any], whose: str) -> None:
    """Refuse what is no JSON schema, before anything is written by it.

    Raises:
        UsageError: naming whose schema it is.
    """
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(dict(schema))
    except SchemaError as error:
        raise UsageError(f"The JSON schema of {whose} is not one: {error.message[:LONGEST]}") from error


def complaints(schema: Mapping[str, Any], value: Any, whose: str) -> list[str]:
    """Sentences on how `value` differs from the schema; none when it fits. Never raises."""
    try:
        errors = sorted(_validator(schema).iter_errors(value), key=lambda error: str(error.absolute_path))
    except Exception as error:  # the schema is somebody else's: a reference to nowhere or to itself, a wrong pattern
        return [f"The JSON schema of {whose} cannot be applied ({type(error).__name__})."]
    return list(dict.fromkeys(_sentence(error, whose) for error in errors))


def tool_complaints(tool: ToolSpec, arguments: Any) -> list[str]:
    """Sentences on what is wrong with the arguments of a call of `tool`; none when it can be called."""
    if not isinstance(arguments, dict):
        return [f"The arguments of {tool.name} must be a JSON object."]
    return complaints(closed(tool.parameters), arguments, tool.name)


def _validator(schema: Mapping[str, Any]) -> Validator:
    """With an empty registry: a schema that points somewhere else is never fetched."""
    return validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())


def _sentence(error: ValidationError, whose: str) -> str:
    cause = best_match(error.context) if error.context and len(error.context) == 1 else error
    place = ".".join(str(part) for part in error.absolute_path)
    told = f"{whose}, argument {place}" if place else whose
    return f"{told}: {(cause or error).message[:LONGEST]}."


def _closed(schema: Any, close: bool) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    composed = "properties" in schema and bool(_COMPOSE & schema.keys())  # its parts name each other's keys
    result = dict(_parts(schema, close and not composed))
    if close and not composed and isinstance(result.get("properties"), dict) and not _OPEN & result.keys():
        result["additionalProperties"] = False
    return result


def _parts(schema: Mapping[str, Any], close: bool) -> Iterator[tuple[str, Any]]:
    for key, part in schema.items():
        if key in _OF_SCHEMAS and isinstance(part, Mapping):
            yield key, {name: _closed(one, close) for name, one in part.items()}
        elif key in _LISTS and isinstance(part, list):
            name = "anyOf" if key == "oneOf" and "anyOf" not in schema else key
            yield name, [_closed(one, close) for one in part]
        else:
            yield key, _closed(part, close) if key in _ONE else part
