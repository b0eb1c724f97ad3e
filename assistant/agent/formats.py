"""How the families of models write calls: each form taken apart strictly, and as a grammar that lets nothing else be
written.

A form is one dataclass with two methods. `take` finds the calls in a reply; `grammar` gives rules for llguidance in
terms of `call` (a JSON object that calls a tool), `rest` (what follows its `"name":`), `free` (text and control tokens
in it) and `head` (the same up to a control token, or nothing).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Protocol

from assistant.agent.arguments import complaints, tool_complaints
from assistant.agent.jsontext import Malformed, read_value, read_values, skip
from assistant.protocol import Call, Calling, ToolSpec, Written

MOST_CALLS = 16
"""Calls that one reply may hold."""

Token = Callable[[str], str | None]
"""From a marker to its name in a grammar when it is one token of the vocabulary, else None."""

_NAMED = r'\{\s*("type"\s*:\s*"function"\s*,\s*)?"name"\s*:'
_FENCE = r"```(json)?[ \t]*\r?\n\s*"
_FENCED, _BARE = (
    re.compile((start + r"(?=\[?\s*" + _NAMED + ")").replace(r"\s*", r"\s*+")) for start in (_FENCE, r"\s*")
)
"""Where JSON that calls begins; possessive, so that white space without end takes no time to speak of."""
THOUGHT = ("<think>", "</think>")
"""What a model puts around what it thinks aloud."""


@dataclass(slots=True)
class Taken:
    """A reply taken apart: text outside of calls, JSON values that should be calls, sentences on what is neither.
    Without `marked` nothing but their looks says that they should."""

    said: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    marked: bool = True


class Format(Protocol):
    """How a family writes calls; `example` shows one to a model whose template does not."""

    @property
    def name(self) -> str: ...

    @property
    def example(self) -> str: ...

    @property
    def key(self) -> str:
        """What the arguments are called."""
        ...

    @property
    def markers(self) -> tuple[str, ...]:
        """What stands around calls and never in text."""
        ...

    def take(self, text: str) -> Taken:
        """Take a whole reply apart. Never raises."""
        ...

    def grammar(self, token: Token, most: int = MOST_CALLS) -> str:
        """Rules `calls` (a reply with calls, from its beginning, at most so many), `beside` (calls without any text,
        where other JSON may stand instead) and `FREE` (text that calls nothing)."""
        ...

    def written(self, calls: Sequence[Call]) -> str:
        """Calls as a model of this family writes them."""
        ...


@dataclass(frozen=True, slots=True)
class Json:
    """JSON objects, in a fence anywhere or as the whole reply; `lead` may stand in front of the latter."""

    name: str
    key: str
    lead: str = ""

    @property
    def example(self) -> str:
        return f'```json\n{{"name": "tool_name", "{self.key}": {{"argument": "value"}}}}\n```'

    @property
    def markers(self) -> tuple[str, ...]:
        return (self.lead,)

    def take(self, text: str) -> Taken:
        taken = Taken(marked=False)
        start = thought_end(text)
        start += len(self.lead) if self.lead and text.startswith(self.lead, start) else 0
        if bare := _BARE.match(text, start):
            at = _take_one(taken, text, bare.end(), "")
            taken.said += [text[:start].removesuffix(self.lead), text[at:]]
        else:
            _take_all(taken, text, _FENCED, "```")
        return taken

    def written(self, calls: Sequence[Call]) -> str:
        return "\n".join(_as_json(call, self.key) for call in calls)

    def grammar(self, token: Token, most: int = MOST_CALLS) -> str:
        lead = f"({token(self.lead) or _quoted(self.lead)})?" if self.lead else ""
        return _JSON_RULES.format(**_repeats(most), named=_NAMED, fence=_FENCE, without="", lead=lead) + _JSON_ONLY


@dataclass(frozen=True, slots=True)
class Tagged:
    """Calls between two markers: one in each pair, or with `many` an array in one. JSON without markers, as small
    models write it all the same, is understood too."""

    name: str
    opening: str
    closing: str
    many: bool = False
    key: str = "arguments"

    @property
    def example(self) -> str:
        call = f'{{"name": "tool_name", "{self.key}": {{"argument": "value"}}}}'
        return f"{self.opening}[{call}]{self.closing}" if self.many else f"{self.opening}\n{call}\n{self.closing}"

    @property
    def markers(self) -> tuple[str, ...]:
        return (self.opening, self.closing)

    def take(self, text: str) -> Taken:
        taken = Taken()
        _take_all(taken, text, re.compile(re.escape(self.opening)), self.closing)
        return taken if taken.values or taken.problems else Json(self.name, self.key).take(text)

    def written(self, calls: Sequence[Call]) -> str:
        each = [_as_json(call, self.key) for call in calls]
        if self.many:
            return f"{self.opening}[{', '.join(each)}]{self.closing}"
        return "\n".join(f"{self.opening}\n{one}\n{self.closing}" for one in each)

    def grammar(self, token: Token, most: int = MOST_CALLS) -> str:
        repeats = _repeats(most)
        marker, opening, closing = re.escape(self.opening), token(self.opening), token(self.closing)
        end = closing or _quoted(self.closing)
        body = f'WS? "[" WS? call {repeats["commas"]} WS? "]" WS? {end}' if self.many else f"WS? call WS? {end}"
        rules = [
            _JSON_RULES.format(**repeats, named=_NAMED, fence=_FENCE, without=f"|(.|\\n)*{marker}(.|\\n)*", lead=""),
            f"marked[lazy]: /(.|\\n)*{marker}/",
            f"opened: head marked{f' | free {opening}' if opening else ''}",
            f"again: {opening or _quoted(self.opening)} {body}",
            f"more: {'' if self.many else _up_to(most - 1, 'WS? again')}",
            f"tagged: opened {body} more",
            "calls: tagged | json_calls",
            "beside: again more | plain",
        ]
        return "\n".join(rules) + "\n"


QWEN = Tagged("qwen", "<tool_call>", "</tool_call>")
SMOLLM2 = Tagged("smollm2", "<tool_call>", "</tool_call>", many=True)
LLAMA3 = Json("llama3", "parameters", lead="<|python_tag|>")
JSON = Json("json", "arguments")

SERVED = QWEN
"""How calls are kept in the history that a server took out of a reply for us."""

FORMATS: dict[str, Format] = {form.name: form for form in (QWEN, SMOLLM2, LLAMA3, JSON)}
"""Every form by its name."""


def format_of(chat_template: str) -> Format:
    """How the model of this chat template writes calls: as the template shows it, else as generic JSON."""
    if "<tool_call>" in chat_template and "<function=" not in chat_template:
        return QWEN
    if "python_tag" in chat_template or "<|start_header_id|>" in chat_template:
        return LLAMA3
    return SMOLLM2 if "SmolLM" in chat_template else JSON


def thought_end(text: str) -> int:
    """Where what a reply says begins: behind the last thought, if there is one."""
    return text.rfind(THOUGHT[1]) + len(THOUGHT[1]) if THOUGHT[1] in text else 0


def parse(text: str, calling: Calling, form: Format) -> Written:
    """Take a reply apart: its text, the calls that can be made, and for the model a sentence on each that cannot.

    Never raises, and never gives a call whose arguments its tool's schema refuses.
    """
    answer = _answer_problems(text, calling) if calling.answer is not None else []
    if not calling.tools or (calling.answer is not None and not answer):
        return Written(text=text, problems=answer)
    taken = form.take(text)
    meant = taken.marked or any(_looks_like_call(value, calling.tools) for value in taken.values)
    if not taken.problems and not (taken.values and meant):
        return Written(text=text, problems=answer)
    written = Written(text="".join(taken.said).strip(), problems=taken.problems)
    for value in taken.values[:MOST_CALLS]:
        call = _call(value, calling.tools)
        written.calls += [call] if isinstance(call, Call) else []
        written.problems += call if isinstance(call, list) else []
    if len(taken.values) > MOST_CALLS:
        written.problems.append(f"At most {MOST_CALLS} calls fit into one reply; the others were left out.")
    return written


def _call(value: Any, tools: list[ToolSpec]) -> Call | list[str]:
    """The call, or sentences on why it cannot be made."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return ['A call must be a JSON object with "name" and "arguments".']
    name = value["name"]
    tool = next((tool for tool in tools if tool.name == name), None)
    if tool is None:
        return [_unknown(name, [tool.name for tool in tools])]
    keys = [key for key in ("arguments", "parameters") if key in value]
    if len(keys) != 1:
        return [f'The call of {name} must have "arguments", a JSON object, once.']
    extra = value.keys() - {"name", keys[0]} - ({"type"} if value.get("type") == "function" else set())
    if extra:
        return [f"The call of {name} has more than a name and arguments: {', '.join(sorted(extra))[:200]}."]
    problems = tool_complaints(tool, value[keys[0]])
    return problems or Call(name=name, arguments=value[keys[0]])


def _looks_like_call(value: Any, tools: list[ToolSpec]) -> bool:
    """Whether JSON that somebody wrote is more than JSON with a name in it."""
    if not isinstance(value, dict):
        return False
    return bool({"arguments", "parameters"} & value.keys()) or value.get("name") in [tool.name for tool in tools]


def _unknown(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1, 0.4)
    told = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
    return f"There is no tool {name[:80]!r}. {told}"


def _answer_problems(text: str, calling: Calling) -> list[str]:
    """Sentences on why a reply is not the answer that was asked for."""
    assert calling.answer is not None
    try:
        value, end = read_value(text, 0)
    except Malformed as error:
        return [f"The answer must be JSON: {error}."]
    if skip(text, end) < len(text):
        return ["The answer must be one JSON value with nothing after it."]
    return complaints(calling.answer, value, "the answer")


def _take_all(taken: Taken, text: str, opening: re.Pattern[str], closing: str) -> None:
    at = 0
    while begun := opening.search(text, at):
        taken.said.append(text[at : begun.start()])
        at = _take_one(taken, text, begun.end(), closing)
    taken.said.append(text[at:])


def _take_one(taken: Taken, text: str, at: int, closing: str) -> int:
    """Take the calls that begin at `at`; where they end."""
    try:
        values, end = read_values(text, at)
        end = skip(text, end)
        if not text.startswith(closing, end):
            raise Malformed(f"{closing} is missing", end)
    except Malformed as error:
        taken.problems.append(f"A call cannot be read: {error}. Write the whole call again.")
        after = text.find(closing, error.at) if closing else -1
        return after + len(closing) if after >= 0 else len(text)
    taken.values += values
    return end + len(closing)


def _as_json(call: Call, key: str) -> str:
    return json.dumps({"name": call.name, key: call.arguments}, ensure_ascii=False)


def _repeats(most: int) -> dict[str, str]:
    """Rules for the calls after the first of at most so many, in a row and in an array."""
    return {"seps": _up_to(most - 1, "SEP call"), "commas": _up_to(most - 1, 'WS? "," WS? call')}


def _up_to(count: int, rule: str) -> str:
    return f"({rule}){{0,{count}}}" if count else ""


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_JSON_ONLY = "calls: json_calls\nbeside: plain\n"
_JSON_RULES = r"""
WS: / |\n {{0,12}}/
call: "{{" WS? (/"type": ?"function"/ "," WS?)? "\"name\"" ":" rest
plain: call {seps}
json_calls: bare | fenced
bare: head {lead} (bare_one rest {seps} | bare_list rest {commas} WS? "]")
fenced: head (fenced_one rest {seps} | fenced_list rest {commas} WS? "]") WS? "```"
SEP: /[,;]( |\n)?|\n/
bare_one[lazy]: /\s*{named}/
bare_list[lazy]: /\s*\[\s*{named}/
fenced_one[lazy]: /(.|\n)*{fence}{named}/
fenced_list[lazy]: /(.|\n)*{fence}\[\s*{named}/
FREE: /(.|\n)+/ & ~/\s*\[?\s*{named}(.|\n)*|(.|\n)*{fence}\[?\s*{named}(.|\n)*{without}/
"""
