"""The policy of an installation: rules in TOML that allow, deny or ask for the calls of tools.

    [[rule]]
    tool = "read_*"                       # a name or a glob
    arguments = { path = "notes/*" }   # a glob per argument; an argument without one is not looked at
    decision = "allow"                    # or "ask", or "deny"
    priority = 10                         # default 0; the highest wins, and at equal priority deny > ask > allow
    reason = "my notes"                   # optional, shown with the decision

A glob is matched on text: `*` also matches `/` and `;`. A path that climbs (`..`) never fits a rule that allows, and
fits one that restricts also by where it leads. Links are not followed here: what a tool reaches is the sandbox's.
"""

from __future__ import annotations

import difflib
import json
import posixpath
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.errors import UsageError
from assistant.places import Places

Verdict = Literal["allow", "ask", "deny"]
POLICY_FILE = "agent-policy.toml"
_CLIMBS = re.compile(r"(?<![\w.])\.\.(?![\w.])")
_STRICTNESS: dict[Verdict, int] = {"allow": 0, "ask": 1, "deny": 2}


class Rule(BaseModel):
    """One rule; `where` names the file and the rule's number in it."""

    model_config = ConfigDict(frozen=True, strict=True)

    tool: str = Field(min_length=1, max_length=200)
    arguments: dict[str, str] = Field(default_factory=dict, max_length=100)
    decision: Verdict
    priority: int = 0
    reason: str = Field("", max_length=1000)
    where: str = Field("the policy", exclude=True)

    def fits(self, tool: str, arguments: Mapping[str, Any]) -> bool:
        """Whether the rule speaks of this call."""
        cautious = self.decision == "allow"
        return fnmatchcase(tool, self.tool) and all(
            name in arguments and fits(pattern, arguments[name], cautious=cautious)
            for name, pattern in self.arguments.items()
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules of all files together."""

    rules: tuple[Rule, ...] = ()

    def rule_for(self, tool: str, arguments: Mapping[str, Any]) -> Rule | None:
        """The rule that decides this call, or None where none speaks of it."""
        fitting = [rule for rule in self.rules if rule.fits(tool, arguments)]
        return max(fitting, key=lambda rule: (rule.priority, _STRICTNESS[rule.decision]), default=None)


def load_policy(places: Places, project: Path | None = None) -> Policy:
    """The user's policy, if there is one, and the one a flag names.

    Raises:
        UsageError: a file cannot be read or is not a policy; a file that was named is not there.
    """
    own = places.config / POLICY_FILE
    rules = _read(own) if own.exists() else ()
    return Policy(rules + (_read(project) if project else ()))


def fits(pattern: str, value: object, *, cautious: bool) -> bool:
    """Whether a glob matches an argument: every reading of it where `cautious`, else any."""
    text = canonical(value)
    if cautious:
        return not _CLIMBS.search(text) and fnmatchcase(text, pattern)
    return any(fnmatchcase(reading, pattern) for reading in (text, _resolved(text)))


def canonical(value: object) -> str:
    """What a pattern is matched on: a string itself, anything else as compact JSON with sorted keys."""
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _resolved(text: str) -> str:
    return posixpath.normpath(f"/{text.lstrip('/')}" if text.startswith("/") else text)


def _read(path: Path) -> tuple[Rule, ...]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The policy {path} is not valid TOML: {error}.") from None
    except OSError as error:
        raise UsageError(f"The policy {path} cannot be read: {error.strerror}.") from None
    _known(content, ["rule"], f"The policy {path}")
    tables = content.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"The policy {path} must write each rule under a line [[rule]].")
    return tuple(_rule(table, f"{path}, rule {number}") for number, table in enumerate(tables, 1))


def _rule(table: dict[str, Any], where: str) -> Rule:
    _known(table, [name for name in Rule.model_fields if name != "where"], f"The policy {where},")
    try:
        return Rule(**table, where=where)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"The policy {where}, is not valid at {key}: {first['msg']}.") from None


def _known(table: Mapping[str, Any], names: list[str], where: str) -> None:
    for key in table:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1, cutoff=0.0)[0]
            raise UsageError(f"{where} has the unknown key {key!r}; the nearest known key is {near!r}.")
