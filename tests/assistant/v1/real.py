"""The daemon as it is, with its real worker, for tests with a tiny model or the default one."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from assistant.places import Places
from tests.assistant.v1.conftest import open_client
from tests.conftest import REAL, RunningDaemon

LOADING_S = 120
"""How long a reply may take whose model is loaded first, on a busy machine."""


class Real(RunningDaemon):
    """`assistant daemon run`, a client of it, and what a client asks it."""

    def __init__(self, places: Places, model: str, **environment: str) -> None:
        super().__init__(places, REAL, **environment)
        self.model = model
        self.client = open_client(places, LOADING_S)

    def __enter__(self) -> Real:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.client.close()
        self.process.terminate()
        try:
            self.wait()
        finally:
            self.close()

    def ask(self, *messages: Any, **fields: Any) -> Any:
        """A reply; messages that are text are the user's and the assistant's in turns."""
        said = [
            {"role": ("user", "assistant")[at % 2], "content": one} if isinstance(one, str) else one
            for at, one in enumerate(messages)
        ]
        chosen: dict[str, Any] = {"temperature": 0, "max_tokens": 24} | fields
        return self.client.chat.completions.create(model=self.model, messages=said, **chosen)


def text_of(reply: Any) -> str:
    """What it says."""
    return str(reply.choices[0].message.content)


def cached(reply: Any) -> int:
    """Tokens of its prompt that were not read again."""
    return int(reply.usage.prompt_tokens_details.cached_tokens)
