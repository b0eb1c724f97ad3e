"""Constrained decoding with llguidance: free text until a call begins, then only tokens that keep the call readable."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from torch import Tensor
from torch.nn.functional import pad

from assistant.agent.arguments import check_schema, closed
from assistant.agent.formats import MOST_CALLS, Format
from assistant.errors import AssistantError, UsageError
from assistant.protocol import Calling, ToolSpec

Aside = Callable[[], AbstractContextManager[None]]
"""Keeps account of memory that is taken inside."""

_JSON: dict[str, Any] = {
    "whitespace_flexible": True,
    "whitespace_pattern": r" |\n {0,12}",
    "json_allowed_escapes": 'nrtbf\\"',  # no \u: half a character can be written with it
    "coerce_one_of": True,
}

_FORBIDDEN = (((torch.arange(256)[:, None] >> torch.arange(8)) & 1) == 0).view(torch.int64).view(-1)
"""For each byte of a mask, eight booleans in one number: which of its eight tokens are not allowed."""


class Constraint:
    """One reply under a grammar: `mask` before each choice, `take` after it."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self._forbidden = _FORBIDDEN

    def mask(self, logits: Tensor) -> Tensor:
        """`logits` [vocabulary] with -inf for what the grammar forbids; stop tokens count as its end.

        Raises:
            AssistantError: the grammar became too large to follow.
        """
        packed = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        self._check()
        self._forbidden = self._forbidden.to(logits.device)
        forbidden = self._forbidden[packed.to(logits.device, torch.int64)].view(torch.bool)[: len(logits)]
        if len(forbidden) < len(logits):  # rows that no token has
            forbidden = pad(forbidden, (0, len(logits) - len(forbidden)), value=True)
        return logits.masked_fill(forbidden, float("-inf"))

    def take(self, token: int) -> None:
        """Go on behind `token`, which `mask` allowed."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = self._matcher.get_error().split("\n")[0]
            raise AssistantError(f"The reply could not be kept to its grammar: {reason}. Use simpler tool schemas.")


_SAID = r"start: /[^\s{\[`<](?s:.*)/"
"""Words that do not begin as a call would."""


class Grammars:
    """Constraints for the replies of one model; a grammar is compiled when its tools first come, inside `aside`."""

    def __init__(self, tokenizer: Any, stops: frozenset[int], aside: Aside = nullcontext) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._aside = aside
        self._words: LLTokenizer | None = None
        self._compiled: tuple[str, LLMatcher] | None = None

    def constraint(self, calling: Calling, form: Format) -> Constraint:
        """A fresh constraint for a reply.

        Raises:
            UsageError: a schema cannot be followed; the sentence names its tool.
        """
        key = f"{form.name} {calling.model_dump_json()}"
        if self._compiled is None or self._compiled[0] != key:
            with self._aside():
                self._compiled = key, self._compile(calling, form)
        return Constraint(self._compiled[1].deep_copy())

    def _compile(self, calling: Calling, form: Format) -> LLMatcher:
        self._words = self._words or from_tokenizer(self._tokenizer, eos_token=sorted(self._stops))
        for tool in calling.tools:
            self._try(tool.parameters, closed(tool.parameters), f"the tool {tool.name!r}")
        if calling.answer is not None:
            self._try(calling.answer, calling.answer, "the answer")
        matcher = LLMatcher(self._words, self._text(calling, form), log_level=0)
        if matcher.is_error():
            reason = matcher.get_error().split("\n")[0]
            raise UsageError(f"These tools together make a grammar that cannot be followed: {reason}. Use fewer tools.")
        return matcher

    def _try(self, schema: Mapping[str, Any], used: Mapping[str, Any], whose: str) -> None:
        check_schema(schema, whose)
        problem = LLMatcher.validate_grammar(f"start: {_json(used)}\n", self._words)
        if problem and not problem.startswith("WARNING"):
            raise UsageError(
                f"Calls cannot be held to the JSON schema of {whose}: {_first_line(problem)}. Use a simpler schema."
            )

    def _text(self, calling: Calling, form: Format) -> str:
        """The grammar of a reply, in llguidance's Lark."""
        if not calling.may_call:
            words = _SAID if calling.answer is None else f"start: {_json(calling.answer)}"
            return f"%llguidance {{}}\n{words}\n"
        start, most = "free" if calling.answer is None else "answer", 1 if calling.one else MOST_CALLS
        lines = ["%llguidance {}"]
        if calling.answer is not None:
            lines.append(f"answer: {_json(calling.answer)}")
        if calling.tools:
            start += " | calls" if calling.answer is None else " | beside"
            start = "beside" if calling.must_call else start
            may = [tool for tool in calling.tools if calling.only is None or tool.name in calling.only]
            lines += [form.grammar(self._name, most), f"rest: {' | '.join(f'tool_{n}' for n in range(len(may)))}"]
            lines += [_tool(number, tool, form.key) for number, tool in enumerate(may)]
            lines += self._free(form)
        return "\n".join([*lines, f"start: {start}"]) + "\n"

    def _name(self, marker: str) -> str | None:
        token = self._tokenizer.added_tokens_encoder.get(marker)
        return None if token is None or not self._is_control(token) else f"<[{token}]>"

    def _is_control(self, token: int) -> bool:
        """Whether llguidance keeps the token apart from the text that it spells."""
        assert self._words is not None
        return self._words.is_special_token(token)

    def _free(self, form: Format) -> list[str]:
        """Rules for what is no call: `free`, and `head`, which ends with a control token that may stand in text."""
        added = self._tokenizer.added_tokens_decoder
        inside = [
            token
            for token, word in added.items()
            if not word.special
            and self._is_control(token)
            and token not in self._stops
            and word.content not in form.markers
        ]
        if not inside:
            return ["free: FREE?", "head: "]
        return [f"other: <[{','.join(map(str, inside))}]>", "head: (FREE? other)*", "free: head FREE?"]


def _tool(number: int, tool: ToolSpec, key: str) -> str:
    """Rules for what follows `"name":` in a call of this tool."""
    schema = _json(closed(tool.parameters))
    name = json.dumps(json.dumps(tool.name))
    return f'tool_{number}: WS? {name} "," WS? "\\"{key}\\":" WS? args_{number} WS? "}}"\nargs_{number}: {schema}'


def _json(schema: Mapping[str, Any]) -> str:
    return "%json " + json.dumps(dict(schema) | {"x-guidance": _JSON})


def _first_line(problem: str) -> str:
    return problem.strip().split("\n")[0].removeprefix("ERROR: ")[:300]
