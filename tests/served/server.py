"""A server of OpenAI's API on a real socket that answers as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Body = dict[str, Any]
Script = Callable[[Body], "Iterator[str] | tuple[int, Body | str]"]
DONE = "[DONE]"


def chunk(finish: str | None = None, **delta: Any) -> str:
    """One event of a stream."""
    return json.dumps({"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def spent(prompt: int, written: int, cached: int | None = None) -> str:
    """The event with the server's count."""
    details = None if cached is None else {"cached_tokens": cached}
    usage = {"prompt_tokens": prompt, "completion_tokens": written, "prompt_tokens_details": details}
    return json.dumps({"choices": [], "usage": usage})


def saying(*words: str, finish: str = "stop", prompt: int | None = 100, cached: int | None = None) -> Script:
    """A reply in these pieces."""

    def script(body: Body) -> Iterator[str]:
        yield chunk(role="assistant", content="")
        for word in words:
            yield chunk(content=word)
        yield chunk(finish)
        if prompt is not None:
            yield spent(prompt, len(words), cached)
        yield DONE

    return script


class Server:
    """`with Server(script) as server:`; `asked` are the bodies of its requests, `keys` what was in Authorization."""

    def __init__(self, script: Script, *models: Body) -> None:
        self.script = script
        self.models = models or ({"id": "big", "max_model_len": 4000},)
        self.asked: list[Body] = []
        self.keys: list[str | None] = []
        self.left = threading.Event()
        """Set when a client was gone before its reply was written."""
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.keys.append(self.headers["Authorization"])
            self._answer(200, {"object": "list", "data": list(server.models)})

        def do_POST(self) -> None:
            server.keys.append(self.headers["Authorization"])
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.asked.append(body)
            found = server.script(body)
            if isinstance(found, tuple):
                self._answer(*found)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                for data in found:
                    self.wfile.write(f"data: {data}\n\n".encode())
                    self.wfile.flush()
            except OSError:
                server.left.set()

        def _answer(self, status: int, body: Body | str) -> None:
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    return Handler
