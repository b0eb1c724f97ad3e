"""Tools in a prompt: what the model's own template is given of them, and how they are written for one that knows none.

A tool's description comes from whoever made the tool. What it holds of control tokens is taken out before the template
sees it and put back as ordinary text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

from assistant.agent.formats import Format, format_of
from assistant.protocol import ToolSpec

RESULT = "Result of the call:\n"
"""In front of a tool's result, for a template without a role for it."""

_HOLE = "\ue102{}\ue103"
_HOLES = re.compile("\ue102(\\d+)\ue103")
_OURS = ("\ue100", "\ue101", "\ue102", "\ue103")


class ToolPrompt:
    """The tools of one prompt, in the order given; `encode` turns template text around them into ids."""

    def __init__(self, tokenizer: Any, tools: Sequence[ToolSpec]) -> None:
        self.template = template_of(tokenizer)
        self.format = format_of(self.template)
        self.native = "tools" in self.template
        self._names = [tool.name for tool in tools]
        self._taken: list[str] = []
        self._control = _control_tokens(tokenizer) if tools else re.compile("")
        self.functions = [{"type": "function", "function": self._clean(tool.model_dump())} for tool in tools]

    def written(self) -> str:
        """The tools as part of a system prompt."""
        if not self.functions:
            return ""
        lines = [json.dumps(one["function"], ensure_ascii=False) for one in self.functions]
        return (
            "You can call these tools. Each is described by one line of JSON:\n"
            + "\n".join(lines)
            + "\n\nTo call a tool, write this with its name and its arguments, and nothing after it:\n"
            + self.format.example
            + "\nThen you are told the result. When no tool is needed, answer in words."
        )

    def shown(self, text: str) -> bool:
        """Whether rendered text names every tool, and holds every piece that was taken out, at least once."""
        holes = {int(number) for number in _HOLES.findall(text)}
        return all(name in text for name in self._names) and holes == set(range(len(self._taken)))

    def encode(self, text: str, template: Callable[[str], list[int]], foreign: Callable[[str], list[int]]) -> list[int]:
        """Ids of rendered text: `template` encodes what is the template's, `foreign` what was taken out."""
        ids = []
        for part, is_hole in zip(_HOLES.split(text), cycle((False, True)), strict=False):
            ids += foreign(self._taken[int(part)]) if is_hole else template(part)
        return ids

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._control.sub(self._take, value.encode("utf-8", "replace").decode())
        if isinstance(value, dict):
            return {self._clean(key): self._clean(one) for key, one in value.items()}
        return [self._clean(one) for one in value] if isinstance(value, list) else value

    def _take(self, found: re.Match[str]) -> str:
        self._taken.append(found.group())
        return _HOLE.format(len(self._taken) - 1)


def template_of(tokenizer: Any) -> str:
    """The chat template that is used when there are tools; some tokenizers have one of its own for that."""
    return str(tokenizer.get_chat_template(tools=[{}]))


def call_format(tokenizer: Any) -> Format:
    """How the model writes calls."""
    return format_of(template_of(tokenizer))


def _control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """What must not come through as it is: control tokens, and the marks of placeholders."""
    words = sorted({*(tokenizer.chat_control_tokens or ()), *tokenizer.all_special_tokens}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, [*words, *_OURS])))
