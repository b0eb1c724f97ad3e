"""How the model of a request writes calls, from the chat template in its folder: no tokenizer is loaded for that."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from assistant.agent.formats import Format, format_of


def form_in(folder: Path) -> Format:
    """The form that the chat template of the model in `folder` shows; generic JSON where there is none."""
    with suppress(OSError):
        return format_of((folder / "chat_template.jinja").read_text())
    with suppress(OSError, ValueError):
        return format_of(_template(json.loads((folder / "tokenizer_config.json").read_text())))
    return format_of("")


def _template(config: Any) -> str:
    """The template for tools where a tokenizer has several."""
    found = config.get("chat_template") if isinstance(config, dict) else None
    if isinstance(found, list):
        named = {one["name"]: one["template"] for one in found if isinstance(one, dict)}
        found = named.get("tool_use", named.get("default"))
    return found if isinstance(found, str) else ""
