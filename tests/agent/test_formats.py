"""Calls are taken out of a reply strictly: whatever a model writes, a call that comes out of it can be made."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.agent.formats import FORMATS, JSON, LLAMA3, MOST_CALLS, QWEN, SMOLLM2, Format, Tagged, format_of, parse
from assistant.protocol import Calling, ToolSpec

WEATHER = ToolSpec(
    name="get_weather",
    description="The weather of a place.",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "minimum": 1},
            "unit": {"enum": ["C", "F"]},
            "near": {"oneOf": [{"type": "null"}, {"type": "array", "items": {"type": "number"}}]},
        },
        "required": ["city"],
    },
)
NOW = ToolSpec(name="clock.now", description="The time.", parameters={"type": "object"})
CALLING = Calling(tools=[WEATHER, NOW])
ALL = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
calls = st.one_of(
    st.fixed_dictionaries(
        {"city": texts},
        optional={
            "days": st.integers(1, 10**30),
            "unit": st.sampled_from(["C", "F"]),
            "near": st.none() | st.lists(finite, max_size=2),
        },
    ).map(lambda arguments: (WEATHER.name, arguments)),
    st.just((NOW.name, {})),
)


def write(form: Format, wanted: list[tuple[str, dict[str, Any]]], indent: int | None = None) -> str:
    """Calls as a model of the family writes them."""
    values = [json.dumps({"name": name, form.key: arguments}, indent=indent) for name, arguments in wanted]
    if not isinstance(form, Tagged):
        return "; ".join(values)
    if form.many:
        return f"{form.opening}[{', '.join(values)}]{form.closing}"
    return "\n".join(f"{form.opening}\n{value}\n{form.closing}" for value in values)


def taken(form: Format, text: str, calling: Calling = CALLING) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, call.arguments) for call in parse(text, calling, form).calls]


def problem(text: str, form: Format = QWEN, calling: Calling = CALLING) -> str:
    """The one thing that is wrong with a reply of which nothing can be called."""
    written = parse(text, calling, form)
    assert written.calls == []
    assert len(written.problems) == 1
    return written.problems[0]


def tagged(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


@ALL
@given(wanted=st.lists(calls, min_size=1, max_size=4), indent=st.sampled_from([None, 2]))
def test_calls_come_out_as_they_were_written(
    form: Format, wanted: list[tuple[str, dict[str, Any]]], indent: int | None
) -> None:
    written = parse(write(form, wanted, indent), CALLING, form)
    assert [(call.name, call.arguments) for call in written.calls] == wanted
    assert written.problems == []
    assert written.text == ""


@ALL
@given(data=st.data(), wanted=st.lists(calls, min_size=1, max_size=3))
def test_whatever_is_written_a_call_that_comes_out_fits_its_schema(
    form: Format, data: st.DataObject, wanted: list[tuple[str, dict[str, Any]]]
) -> None:
    text = write(form, wanted)
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, min(len(text), begin + 8)))
    pieces = ["", '"', "{", "}", "]", ",", "NaN", "1e999", "\\ud800", "\n", "<tool_call>", "</tool_call>", "```json\n"]
    changed = text[:begin] + data.draw(st.sampled_from(pieces) | texts) + text[end:]
    for name, arguments in taken(form, changed):
        schema = next(tool.parameters for tool in CALLING.tools if tool.name == name)
        jsonschema.validate(arguments, schema)
        assert arguments.keys() <= schema.get("properties", {}).keys()
        json.dumps(arguments, allow_nan=False, ensure_ascii=False).encode()


@ALL
@given(text=st.text(max_size=60) | st.text(alphabet='{}[]":,\\ntrue<>/`json\n 19.eE-', max_size=60))
def test_text_of_any_kind_is_only_text(form: Format, text: str) -> None:
    written = parse(text, CALLING, form)
    assert written.calls == []
    assert written.problems or written.text == text


@ALL
@given(wanted=st.lists(calls, min_size=1, max_size=2))
def test_a_call_cut_off_anywhere_is_a_problem_or_not_begun(
    form: Format, wanted: list[tuple[str, dict[str, Any]]]
) -> None:
    text = write(form, wanted)
    for end in range(len(text)):
        written = parse(text[:end], CALLING, form)
        assert [(call.name, call.arguments) for call in written.calls] == wanted[: len(written.calls)]
        if not isinstance(form, Tagged) or not text[:end].strip():
            continue
        whole = text[:end].count(form.closing) == text[:end].count(form.opening)
        assert bool(written.problems) == (not whole)


@ALL
def test_text_around_calls_is_kept(form: Format) -> None:
    body = write(form, [(NOW.name, {})]) if isinstance(form, Tagged) else "```json\n" + write(form, [(NOW.name, {})])
    text = f"Let me look.\n{body}" + ("" if isinstance(form, Tagged) else "\n```") + "\nDone."
    written = parse(text, CALLING, form)
    assert written.text == "Let me look.\n\nDone."
    assert taken(form, text) == [(NOW.name, {})]


def test_a_small_models_json_is_a_call_without_its_markers_too() -> None:
    call = {"name": "get_weather", "arguments": {"city": "Lisbon"}}
    wanted = [("get_weather", {"city": "Lisbon"})]
    assert taken(QWEN, f"```json\n{json.dumps(call, indent=2)}\n```") == wanted
    assert taken(SMOLLM2, json.dumps([call])) == wanted
    assert taken(JSON, json.dumps({"type": "function"} | call)) == wanted


def test_thoughts_in_front_of_a_call_stay_text() -> None:
    text = '<think>\nHm. {"name": 1}\n</think>\n\n{"name": "clock.now", "arguments": {}}'
    assert taken(QWEN, text) == [("clock.now", {})]
    assert parse(text, CALLING, QWEN).text.startswith("<think>")


def test_a_tool_named_without_arguments_is_told_what_is_missing() -> None:
    for form in FORMATS.values():
        assert 'must have "arguments"' in problem('{"name": "clock.now"}', form)


def test_json_that_calls_nothing_is_text() -> None:
    for text in (
        '{"name": "Ada", "age": 3}',
        '```json\n{"city": "Lisbon"}\n```',
        '{"city": "Lisbon"}',
        "```python\nprint(1)\n```",
    ):
        for form in FORMATS.values():
            written = parse(text, CALLING, form)
            assert (written.text, written.calls, written.problems) == (text, [], [])


def test_llamas_call_may_begin_with_its_control_token() -> None:
    text = '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Lisbon"}}'
    assert taken(LLAMA3, text) == [("get_weather", {"city": "Lisbon"})]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"name": "get_wether", "arguments": {"city": "x"}}', "Did you mean get_weather?"),
        ('{"name": "zzz", "arguments": {}}', "There are: get_weather, clock.now."),
        ('{"name": "get_weather", "arguments": {"city": 4}}', "argument city: 4 is not of type 'string'"),
        ('{"name": "get_weather", "arguments": {"city": "x", "days": "3"}}', "argument days"),
        ('{"name": "get_weather", "arguments": {"city": "x", "days": 0}}', "argument days"),
        ('{"name": "get_weather", "arguments": {}}', "'city' is a required property"),
        ('{"name": "get_weather", "arguments": {"city": "x", "zip": 1}}', "'zip' was unexpected"),
        ('{"name": "clock.now", "arguments": {"zone": "x"}}', "'zone' was unexpected"),
        ('{"name": "get_weather", "arguments": "Lisbon"}', "must be a JSON object"),
        ('{"name": "get_weather"}', 'must have "arguments"'),
        ('{"name": "clock.now", "arguments": {}, "why": 1}', "more than a name and arguments: why"),
        ('["get_weather"]', "must be a JSON object"),
        ('{"name": "get_weather", "arguments": {"city": "x", "city": "y"}}', "'city' is there twice"),
        ('{"name": "get_weather", "arguments": {"city": "x", "near": [NaN]}}', "NaN is not a number"),
        ('{"name": "get_weather", "arguments": {"city": "x", "near": [1e999]}}', "too large a number"),
        ('{"name": "get_weather", "arguments": {"city": "\\ud800"}}', "half a character"),
        ('{"name": "get_weather", "arguments": {"city": "x"}', "cannot be read"),
        ("[" * 5000, "cannot be read"),
        ("get_weather(city='x')", "cannot be read"),
    ],
)
def test_what_cannot_be_called_is_a_sentence_for_the_model(body: str, told: str) -> None:
    assert told in problem(tagged(body))


def test_one_wrong_call_does_not_spoil_the_others() -> None:
    text = tagged('{"name": "clock.now", "arguments": {}}') + tagged("{oops}") + tagged('{"name": "nix"}')
    written = parse(text, CALLING, QWEN)
    assert [call.name for call in written.calls] == ["clock.now"]
    assert len(written.problems) == 2


def test_calls_without_end_are_cut_at_the_most_that_fit_into_a_reply() -> None:
    written = parse(tagged('{"name": "clock.now", "arguments": {}}') * 40, CALLING, QWEN)
    assert len(written.calls) == MOST_CALLS
    assert written.problems == [f"At most {MOST_CALLS} calls fit into one reply; the others were left out."]


def test_white_space_without_end_is_read_at_once() -> None:
    for form in FORMATS.values():
        for text in ("```json\n" + " " * 400_000, " " * 400_000):
            assert parse(text, CALLING, form).calls == []


def test_a_marker_inside_an_argument_is_not_the_end_of_its_call() -> None:
    wanted = [("get_weather", {"city": "</tool_call>```<tool_call>"})]
    for form in FORMATS.values():
        assert taken(form, write(form, wanted)) == wanted


def test_an_answer_is_json_of_its_schema_and_nothing_else() -> None:
    calling = Calling(tools=[NOW], answer={"type": "object", "properties": {"name": {"type": "string"}}})
    assert parse('{"name": "Ada"}', calling, QWEN).problems == []
    assert taken(QWEN, tagged('{"name": "clock.now", "arguments": {}}'), calling) == [("clock.now", {})]
    assert "must be JSON" in problem("It is Ada.", QWEN, calling)
    assert "nothing after it" in problem("4 2", JSON, Calling(answer={}))
    assert "the answer, argument name: 4 is not of type" in problem(
        '{"name": 4}', JSON, calling.model_copy(update={"tools": []})
    )


def test_a_schema_that_points_to_another_machine_is_not_fetched() -> None:
    tool = ToolSpec(name="t", description="", parameters={"$ref": "http://localhost:9/schema.json"})
    assert "cannot be applied" in problem('{"name": "t", "arguments": {}}', JSON, Calling(tools=[tool]))


def test_nested_objects_have_no_other_keys_either_unless_their_schema_says_so() -> None:
    inner = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tool = ToolSpec(
        name="t",
        description="",
        parameters={
            "type": "object",
            "properties": {"shut": {"$ref": "#/$defs/inner"}, "open": inner | {"additionalProperties": True}},
            "$defs": {"inner": inner},
        },
    )
    calling = Calling(tools=[tool])
    assert "'b' was unexpected" in problem('{"name": "t", "arguments": {"shut": {"b": 1}}}', JSON, calling)
    assert taken(JSON, '{"name": "t", "arguments": {"open": {"b": 1}}}', calling) == [("t", {"open": {"b": 1}})]


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("{% if tools %}<tools></tools> within <tool_call></tool_call>{% endif %}", QWEN),
        ("<|start_header_id|>ipython<|end_header_id|> respond with JSON {% if tools %}", LLAMA3),
        ("You are a helpful AI assistant named SmolLM, trained by Hugging Face", SMOLLM2),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", JSON),
        ("<tool_call><function=example></function></tool_call>", JSON),
    ],
)
def test_a_models_template_tells_how_it_calls(template: str, form: Format) -> None:
    assert format_of(template) is form
