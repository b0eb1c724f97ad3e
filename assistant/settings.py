"""The settings of the program, and the only place that reads them: flags, environment, two TOML files, defaults.

The first source that names a field wins: flag > environment ASSISTANT_<FIELD> > project file > user file > default.
"""

from __future__ import annotations

import difflib
import pkgutil
import tomllib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from assistant import protocol as wire
from assistant.address import parse_address
from assistant.duration import parse_duration
from assistant.errors import UsageError
from assistant.places import Places, find_places, working_folder
from assistant.protocol import MAX_TEXT, KvCodec, Layers, Mode, Quant, Sampling
from assistant.source import parse_source
from memory.budget import parse_size

HostName = Annotated[str, Field(max_length=255, pattern=r"^[!-~]+:[0-9]{1,5}$")]
OriginName = Annotated[str, Field(max_length=255, pattern=r"^[a-z][a-z0-9+.-]*://[!-.0-~]+$")]
PROJECT_FILE = "assistant.toml"
DEFAULT = "default"


def _wire(name: str) -> Any:
    """The default of a decoding parameter, which the wire type states."""
    return Sampling.model_fields[name].default


class Settings(BaseSettings):
    """All settings. Made by `load_settings`; `Settings()` alone is the defaults."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_", env_ignore_empty=True, extra="forbid", frozen=True)

    model: str = Field(
        "smollm2-135m", min_length=1, max_length=512, description="Model: an id or alias of the catalogue, or a source."
    )
    budget: str | None = Field(
        default=None,
        max_length=32,
        description="Memory for weights, KV, staging, activations and the process; unset: chosen for the device.",
    )
    quant: Quant = Field(
        "auto", description="Weights: none, fp16 (on a CPU), int8, nf4, or auto (the best that fits the budget)."
    )
    policy: str = Field("recall", min_length=1, max_length=40, description="Policy that chooses the working set.")
    block: int = Field(256, ge=1, le=8192, description="Tokens read in one prefill step.")
    mode: Mode = Field(
        "auto",
        description="exact attends to every stored token, bounded to the working set; auto: exact while bearable.",
    )
    layers: Layers = Field(
        "uniform",
        description="How the working set is divided over the layers: all the same, or more for those that need more.",
    )
    alpha: float = Field(
        2.0,
        ge=0.0,
        le=16.0,
        allow_inf_nan=False,
        description="With layers = sensitivity: the power of a layer's sensitivity that its part goes by.",
    )
    spill: bool = Field(
        default=True, description="Keep the KV of conversations on disk, so that nothing is read twice."
    )
    kv_codec: KvCodec = Field("int8", description="How sealed KV is stored: lossless, int8 or int4.")
    ram: str | None = Field(
        default=None,
        max_length=32,
        description="RAM for stored KV; unset: 2 GiB beside a GPU, none without (it would come out of the budget).",
    )
    disk: str = Field("20GiB", max_length=32, description="Disk space for stored KV; the oldest leaves first.")
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="CPU threads of the worker; unset: torch decides."
    )
    temperature: Annotated[float, wire.TEMPERATURE] = Field(
        _wire("temperature"), description="Sampling temperature; 0 always takes the likeliest token."
    )
    top_p: Annotated[float, wire.TOP_P] = Field(
        _wire("top_p"), description="Sample from the likeliest tokens of this total mass."
    )
    top_k: Annotated[int, wire.TOP_K] = Field(
        _wire("top_k"), description="Sample from this many likeliest tokens; 0: no limit."
    )
    min_p: Annotated[float, wire.MIN_P] = Field(
        _wire("min_p"), description="Drop tokens below this share of the likeliest one's mass."
    )
    repetition_penalty: Annotated[float, wire.REPETITION_PENALTY] = Field(
        _wire("repetition_penalty"), description="Above 1 makes repetition less likely."
    )
    seed: Annotated[int, wire.SEED] | None = Field(
        default=None, description="Random seed of a reply; unset: a fresh one each time."
    )
    max_tokens: Annotated[int, wire.MAX_TOKENS] = Field(_wire("max_tokens"), description="Longest reply, in tokens.")
    system: str | None = Field(default=None, max_length=MAX_TEXT, description="System prompt of new conversations.")
    queue: int = Field(
        8, ge=1, le=1024, description="Requests that may wait for the worker before new ones are refused."
    )
    drain_s: float = Field(
        5.0, ge=0.0, le=600.0, allow_inf_nan=False, description="Seconds a stopping daemon waits for the running reply."
    )
    listen: str | None = Field(
        default=None,
        max_length=64,
        description="Loopback address and port at which the daemon listens too, with a token; unset: no TCP at all.",
    )
    hosts: tuple[HostName, ...] = Field(
        (), max_length=32, description="Host headers admitted at `listen` beside its own address, each with its port."
    )
    origins: tuple[OriginName, ...] = Field(
        (), max_length=32, description="Web pages (scheme://host:port) whose requests are admitted; unset: none."
    )

    keep_alive: str = Field(
        "30m",
        max_length=64,
        description="How long the model stays loaded after a reply: 30m, 1h30m, seconds, 0 (not at all), -1 (always).",
    )
    exit_after: str = Field(
        "-1",
        max_length=64,
        description="How long a daemon that nobody asks anything waits before it ends; -1: it does not.",
    )

    theme: str = Field(
        "dark",
        min_length=1,
        max_length=60,
        description="Colours of the chat: dark, light, contrast, ansi, or a theme of Textual.",
    )
    keys: dict[str, str] = Field(
        default_factory=dict, max_length=200, description="Keys of the chat by the id of what they do; F1 shows both."
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @field_validator("model")
    @classmethod
    def _absolute(cls, value: str) -> str:
        """A relative `file:` path means the caller's folder; the daemon, which reads it too, has another."""
        return str(parse_source(value)) if value.startswith("file:") else value

    @field_validator("policy")
    @classmethod
    def _is_a_policy(cls, value: str) -> str:
        if value not in (known := _policies()):
            near = difflib.get_close_matches(value, known, n=1, cutoff=0.0)[0]
            raise ValueError(f"the nearest policy is {near!r}; all of them: {', '.join(known)}")
        return value

    @field_validator("keep_alive", "exit_after", mode="before")
    @classmethod
    def _seconds_as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("keep_alive", "exit_after")
    @classmethod
    def _is_a_duration(cls, value: str) -> str:
        parse_duration(value)
        return value

    @field_validator("budget", "ram", "disk", mode="before")
    @classmethod
    def _bytes_as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("budget", "ram", "disk")
    @classmethod
    def _is_a_size(cls, value: str | None) -> str | None:
        if value is not None:
            parse_size(value)
        return value

    @field_validator("listen")
    @classmethod
    def _is_loopback(cls, value: str | None) -> str | None:
        if value is not None:
            parse_address(value)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  (the signature is pydantic-settings')
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load_settings` hands over: it asks the sources itself, to know who said what."""
        return (init_settings,)

    def origin(self, field: str) -> str:
        """Where the value of `field` comes from: a flag, a variable, a file, or "default"."""
        if field not in type(self).model_fields:
            raise KeyError(field)
        return self._origins.get(field, DEFAULT)

    def sampling(self) -> Sampling:
        """The decoding parameters, as they go over the wire."""
        return Sampling(**{name: getattr(self, name) for name in Sampling.model_fields if hasattr(self, name)})


def load_settings(*, places: Places | None = None, folder: Path | None = None, **flags: Any) -> Settings:
    """The settings in force. A flag that is None was not given; `folder` (default: here) may hold the project file.

    Raises:
        UsageError: an unknown key, an invalid value or an unreadable file; the text says where and what instead.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, found in _sources(places or find_places(), folder or working_folder(), flags):
        for name, value in found.items():
            if name not in values:
                values[name], origins[name] = value, _name_origin(origin, name)
    settings = _validated(values, origins)
    settings._origins.update(origins)
    return settings


def _policies() -> list[str]:
    """Their names are those of their files; the table of them would import torch."""
    found = find_spec("memory.policy")
    assert found is not None
    return [one.name for one in pkgutil.iter_modules(found.submodule_search_locations) if one.name != "base"]


def _sources(places: Places, folder: Path, flags: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every source and what it says, the strongest first."""
    yield "flag", _known({name: value for name, value in flags.items() if value is not None}, "The command line")
    yield "environment", EnvSettingsSource(Settings)()
    for kind, path in (("project file", folder / PROJECT_FILE), ("user file", places.user_settings)):
        yield f"{kind} {path}", _known(_read(path), f"The {kind} {path}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return TomlConfigSettingsSource(Settings, toml_file=path)()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The settings file {path} is not valid TOML: {error}.") from None
    except OSError as error:
        raise UsageError(f"The settings file {path} cannot be read: {error.strerror}.") from None


def _known(values: dict[str, Any], where: str) -> dict[str, Any]:
    names = list(Settings.model_fields)
    for key in values:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1, cutoff=0.0)[0]
            raise UsageError(f"{where} has the unknown key {key!r}; the nearest known key is {near!r}.")
    return values


def _name_origin(origin: str, field: str) -> str:
    if origin == "flag":
        return f"flag --{field.replace('_', '-')}"
    return f"environment ASSISTANT_{field.upper()}" if origin == "environment" else origin


def _validated(values: dict[str, Any], origins: Mapping[str, str]) -> Settings:
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        what = first["msg"].removeprefix("Value error, ").rstrip(".")
        shown = repr(values.get(name))[:80]
        raise UsageError(f"The setting {name} = {shown} ({origins.get(name, DEFAULT)}) is not valid: {what}.") from None
