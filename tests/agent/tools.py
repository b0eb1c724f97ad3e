"""Tools of an ordinary program, as definitions; and what to call them with."""

from __future__ import annotations

from typing import Any

from assistant.agent.definition import Tool, Traits
from assistant.protocol import ToolSpec


def make_tool(name: str, *, origin: str = "tools.py", description: str = "Do it.", **traits: bool) -> Tool:
    """A tool that has only the traits named here."""
    parameters = {"type": "object", "properties": {"text": {"type": "string"}}}
    values = {key: traits.get(key, False) for key in Traits.__slots__}
    return Tool(ToolSpec(name=name, description=description, parameters=parameters), Traits(**values), origin)


READ_FILE = make_tool("read_file", reads_private=True)
SEARCH_HISTORY = make_tool("search_history", reads_private=True, brings_untrusted=True)
FETCH = make_tool("fetch", brings_untrusted=True, can_send=True)
SEND_MAIL = make_tool("send_mail", can_send=True)
WRITE_FILE = make_tool("write_file", can_write=True)
SHELL = make_tool("shell", reads_private=True, brings_untrusted=True, can_write=True, can_exec=True)
PYTHON = make_tool("python", can_exec=True)
UNDECLARED = Tool(SEND_MAIL.spec.model_copy(update={"name": "post_issue"}), Traits(), "mcp:tracker")

TOOLS: dict[str, Tool] = {
    tool.spec.name: tool
    for tool in (READ_FILE, SEARCH_HISTORY, FETCH, SEND_MAIL, WRITE_FILE, SHELL, PYTHON, UNDECLARED)
}
CALL: dict[str, Any] = {"text": "hello"}
