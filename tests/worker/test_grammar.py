"""Under a constraint nothing but readable calls can be written, whoever writes; text that calls nothing stays free."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.agent.formats import FORMATS, LLAMA3, QWEN, SMOLLM2, Format, parse
from assistant.errors import UsageError
from assistant.protocol import Call, Calling, Sampling, ToolSpec
from assistant.template import prepare_tokenizer
from assistant.worker.grammar import Constraint, Grammars
from assistant.worker.sampling import Sampler
from tests.worker.tiny import SPECIAL, make_tokenizer

STOP = SPECIAL.index("<|im_end|>")
ADD = ToolSpec(
    name="math.add",
    description="",
    parameters={
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "how": {"enum": ["fast", "slow"]},
            "note": {"type": "string"},
            "list": {"type": "array", "items": {"oneOf": [{"type": "number"}, {"type": "null"}]}},
        },
        "required": ["a"],
    },
)
NOW = ToolSpec(name="now", description="", parameters={"type": "object"})
CALLING = Calling(tools=[ADD, NOW])
ALL = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)


def make_grammars(tokenizer: Any) -> Grammars:
    prepare_tokenizer(tokenizer)
    return Grammars(tokenizer, frozenset([0, STOP]))


TOKENIZER = make_tokenizer()
GRAMMARS = make_grammars(TOKENIZER)


def takes(constraint: Constraint, ids: list[int]) -> bool:
    """Whether a reply of these tokens can be written, and ended there."""
    for token in [*ids, STOP]:
        if constraint.mask(torch.zeros(300))[token] < 0:
            return False
        if token != STOP:
            constraint.take(token)
    return True


def encode(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False))


def begin(form: Format) -> str:
    """How a reply that calls begins."""
    return form.example[: form.example.index('"tool_name"')]


def scribble(constraint: Constraint, seed: int, ids: list[int], limit: int = 600) -> list[int] | None:
    """What a model that knows nothing writes after `ids`, up to its end; None when it does not come to one. Quotes,
    brackets and the end are as likely as all letters together, so that it does come to one."""
    sampler = Sampler(
        Sampling(temperature=1, top_p=1, repetition_penalty=1, seed=seed, max_tokens=limit),
        [0],
        torch.device("cpu"),
        constraint,
    )
    for token in ids:
        constraint.take(token)
    torch.manual_seed(seed)
    bias = torch.zeros(len(TOKENIZER))
    bias[[*encode('"}],'), STOP]] = 4
    for _ in range(limit):
        token = sampler.next(torch.randn(len(TOKENIZER)) + bias)
        if token == STOP:
            return ids
        ids = [*ids, token]
    return None


@ALL
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_a_call_that_anybody_begins_can_be_made(form: Format, seed: int) -> None:
    ids = scribble(GRAMMARS.constraint(CALLING, form), seed, encode(begin(form)))
    if ids is None:
        return
    written = parse(TOKENIZER.decode(ids), CALLING, form)
    assert written.problems == []
    assert written.calls


@ALL
@pytest.mark.parametrize("one", [False, True])
def test_a_reply_that_must_call_is_calls_of_what_may_be_called_and_nothing_else(form: Format, one: bool) -> None:
    name = CALLING.tools[-1].name
    calling = CALLING.model_copy(update={"must_call": True, "only": [name], "one": one})
    replies = [scribble(GRAMMARS.constraint(calling, form), seed, []) for seed in range(12)]
    read = [parse(TOKENIZER.decode(ids, skip_special_tokens=True), calling, form) for ids in replies if ids is not None]
    assert read, "none came to an end"
    for written in read:
        assert {call.name for call in written.calls} == {name}
        assert (written.text, written.problems) == ("", [])
        assert len(written.calls) == 1 or not one


@ALL
def test_calls_are_written_as_they_are_read(form: Format) -> None:
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    tools = [tool.model_copy(update={"parameters": schema}) for tool in CALLING.tools]
    calls = [Call(name=tool.name, arguments={"text": '"}]\n</tool_call> ü'}) for tool in tools]
    for some in (calls, calls[:1]):
        text = form.written(some)
        assert parse(text, Calling(tools=tools), form).calls == some


@ALL
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_no_reply_at_all_is_unreadable(form: Format, seed: int) -> None:
    ids = scribble(GRAMMARS.constraint(CALLING, form), seed, [])
    assert ids is None or parse(TOKENIZER.decode(ids), CALLING, form).problems == []


@ALL
def test_calls_as_the_family_writes_them_pass(form: Format) -> None:
    for name, arguments in (("math.add", {"a": 1, "note": 'é\n"', "list": [1.5, None]}), ("now", {})):
        for indent in (None, 2):
            call = json.dumps({"name": name, form.key: arguments}, indent=indent, ensure_ascii=False)
            text = f"{begin(form)}{call[call.index(chr(34) + name) :]}"
            text += form.example[form.example.rindex("}") + 1 :]
            assert takes(GRAMMARS.constraint(CALLING, form), encode(text)), text
            assert len(parse(text, CALLING, form).calls) == 1


@ALL
@pytest.mark.parametrize(
    "rest",
    [
        '"mu',
        '"math.add", "{key}": {"b',
        '"math.add", "{key}": {"a": "',
        '"math.add", "{key}": {"a": 1, "how": "m',
        '"now", "{key}": {"',
        '"now"}',
        " ",
        '"math.add", "{key}": {"a": 1, "note": "\\u',
    ],
)
def test_what_no_tool_takes_cannot_be_written(form: Format, rest: str) -> None:
    constraint = GRAMMARS.constraint(CALLING, form)
    ids = encode(begin(form) + rest.replace("{key}", form.key))
    for token in ids[:-1]:
        assert constraint.mask(torch.zeros(300))[token] == 0
        constraint.take(token)
    assert constraint.mask(torch.zeros(300))[ids[-1]] < 0


@ALL
@pytest.mark.parametrize(
    "text", ["", "It is 12 °C.", "a <tool", '```json\n{"a": 1}\n```\nThat is it.', '{"a": 1}', "```python\nf()\n```"]
)
def test_text_that_calls_nothing_is_free(form: Format, text: str) -> None:
    assert takes(GRAMMARS.constraint(CALLING, form), encode(text))


def test_several_calls_fit_into_one_reply_and_nothing_behind_them() -> None:
    call = '{"name": "now", "arguments": {}}'
    pair = f"<tool_call>\n{call}\n</tool_call>"
    for form, text in (
        (QWEN, f"Wait.\n{pair}\n{pair}"),
        (SMOLLM2, f"<tool_call>[{call}, {call}]</tool_call>"),
        (LLAMA3, f"{call}; {call}".replace("arguments", "parameters")),
        (QWEN, f"```json\n{call}\n{call}\n```"),
    ):
        assert takes(GRAMMARS.constraint(CALLING, form), encode(text))
        assert len(parse(text, CALLING, form).calls) == 2
        assert not takes(GRAMMARS.constraint(CALLING, form), encode(text + " So"))


def test_a_marker_spelled_in_letters_begins_a_call_too() -> None:
    spelled = [TOKENIZER.convert_tokens_to_ids(letter) for letter in "<tool_call>"]
    body = encode('\n{"name": "now", "arguments": {}}\n</tool_call>')
    assert takes(GRAMMARS.constraint(CALLING, QWEN), spelled + body)
    assert not takes(GRAMMARS.constraint(CALLING, QWEN), spelled + encode(" x"))


def test_thoughts_between_control_tokens_are_free() -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<think>", "</think>"])
    grammars = make_grammars(tokenizer)
    ids = tokenizer.encode('<think>Hm.</think>\n{"name": "now", "arguments": {}}', add_special_tokens=False)
    assert len(SPECIAL) + 256 in ids
    assert takes(grammars.constraint(CALLING, QWEN), ids)


def test_rows_of_the_model_that_no_token_has_are_never_drawn() -> None:
    constraint = GRAMMARS.constraint(CALLING, QWEN)
    scores = constraint.mask(torch.zeros(1000))
    assert scores.isfinite().sum() > 100
    assert scores[len(TOKENIZER) :].isinf().all()
    assert constraint.mask(torch.zeros(50)).shape == (50,)


def test_an_answer_is_held_to_its_schema() -> None:
    answer = {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
        "additionalProperties": False,
    }
    for calling in (Calling(answer=answer), Calling(tools=[NOW], answer=answer)):
        assert takes(GRAMMARS.constraint(calling, QWEN), encode('{"name": "Ada"}'))
        assert not takes(GRAMMARS.constraint(calling, QWEN), encode("Ada"))
        assert not takes(GRAMMARS.constraint(calling, QWEN), encode('{"age": 3}'))
    call = encode('<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>')
    assert takes(GRAMMARS.constraint(Calling(tools=[NOW], answer=answer), QWEN), call)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "dict"}}},
        {"type": "object", "properties": {"a": {"not": {"type": "string"}}}},
        {"$ref": "#/$defs/nowhere"},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused_by_the_name_of_its_tool(schema: dict[str, Any]) -> None:
    wrong = ToolSpec(name="odd_one", description="", parameters=schema)
    with pytest.raises(UsageError, match="'odd_one'"):
        GRAMMARS.constraint(Calling(tools=[NOW, wrong]), QWEN)


def test_nothing_is_compiled_twice() -> None:
    grammars = make_grammars(TOKENIZER)
    first = grammars.constraint(CALLING, QWEN)
    for token in encode("hello <tool_call>"):
        first.take(token)
    again = grammars.constraint(CALLING.model_copy(deep=True), QWEN)
    assert again.mask(torch.zeros(300))[STOP] == 0
    assert first.mask(torch.zeros(300))[STOP] < 0


@ALL
def test_a_reply_that_may_call_nothing_is_words(form: Format) -> None:
    last = CALLING.model_copy(update={"may_call": False})

    def can(text: str) -> bool:
        return takes(GRAMMARS.constraint(last, form), TOKENIZER.encode(text, add_special_tokens=False))

    assert can("It is 391, and {sunny} in [Lisbon].")
    for call in ('{"name": "now", "arguments": {}}', '```json\n{"name": "now"}', "<tool_call>", ' {"name"', "[1]", ""):
        assert not can(call), call


def test_the_last_answer_still_follows_its_schema() -> None:
    shape = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    last = CALLING.model_copy(update={"may_call": False, "answer": shape})
    assert takes(GRAMMARS.constraint(last, QWEN), TOKENIZER.encode('{"n": 3}', add_special_tokens=False))
    assert not takes(GRAMMARS.constraint(last, QWEN), TOKENIZER.encode("It is 3.", add_special_tokens=False))
