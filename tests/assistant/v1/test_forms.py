"""How a model writes calls, by its folder alone: a conversation that another model held is shown in its own way."""

from __future__ import annotations

import json
from pathlib import Path

from openai import OpenAI

from assistant.agent.formats import JSON, LLAMA3, QWEN
from assistant.daemon.v1.forms import form_in
from tests.assistant.v1.test_chat import WEATHER, turns_of


def test_the_template_says_it_wherever_it_lies(tmp_path: Path) -> None:
    assert form_in(tmp_path) == JSON
    config = tmp_path / "tokenizer_config.json"
    for text in ("no JSON", "[]", "{}", '{"chat_template": 5}'):
        config.write_text(text)
        assert form_in(tmp_path) == JSON
    config.write_text(json.dumps({"chat_template": "<|start_header_id|>"}))
    assert form_in(tmp_path) == LLAMA3
    several = [{"name": "default", "template": ""}, {"name": "tool_use", "template": "<tool_call>"}]
    config.write_text(json.dumps({"chat_template": several}))
    assert form_in(tmp_path) == QWEN
    (tmp_path / "chat_template.jinja").write_text("python_tag")
    assert form_in(tmp_path) == LLAMA3


def test_calls_of_another_model_are_written_as_this_one_writes_them(openai: OpenAI) -> None:
    arguments = {"town": "Oslo"}
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": json.dumps(arguments)}}
    said = {"role": "assistant", "content": "Let me see.", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c1", "content": ""}
    asked = {"role": "user", "content": "Which town?\n \nturns"}
    turns = turns_of(openai, asked, said, result, tools=[WEATHER])
    written = json.dumps({"name": "weather", "arguments": arguments})
    assert [turn[:2] for turn in turns[1:3]] == [["assistant", f"Let me see.\n{written}"], ["tool", "(nothing)"]]
