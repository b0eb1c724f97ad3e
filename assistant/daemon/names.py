"""What stands in paths and queries: names of one segment each, whatever they are made of, and plain numbers."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import unquote

from fastapi import Path, Query
from pydantic import BeforeValidator, Field

from assistant.protocol import LARGEST, Name

_NUMBER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_FLAGS = {"true": True, "false": False}


def exact(path: str, raw: bytes) -> str:
    """The path that is routed: a slash inside a name, which came as %2F, does not end its segment."""
    if b"%" not in raw:
        return path
    return "/".join(unquote(part).replace("%", "%25").replace("/", "%2F") for part in raw.decode("ascii").split("/"))


def _named(value: str) -> str:
    """A segment of such a path as it was meant."""
    return value.replace("%2F", "/").replace("%25", "%")


def _number(value: object) -> object:
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise ValueError("write a whole number in digits")
    return value


def _flag(value: object) -> object:
    if isinstance(value, str) and value not in _FLAGS:
        raise ValueError("write true or false")
    return _FLAGS[value] if isinstance(value, str) else value


DIGITS = BeforeValidator(_number)
"""Beside the bounds of an integer in a path or query: Python would read "1_0" and " 7.0" as well."""
_Id = Annotated[int, Field(ge=1, le=LARGEST), DIGITS]
TrueFalse = Annotated[bool, BeforeValidator(_flag)]
Named = Annotated[Name, BeforeValidator(_named), Path()]
ProgramId = Annotated[str, Path(min_length=1, max_length=32, pattern=r"^[a-z0-9]+$")]
IdInPath = Annotated[_Id, Path()]
IdInQuery = Annotated[_Id, Query()]
