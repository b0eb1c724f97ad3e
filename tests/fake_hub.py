"""The few answers of a model hub that its client library asks for, over real HTTP, from a folder of files."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Serves `folder` as the repository `name`. `stop_after` bytes of a weight file, once, the connection breaks."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.stop_after: int | None = None
        self.wrong_sums = False
        self.ranges: list[str] = []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler: http.server.BaseHTTPRequestHandler, *, body: bool) -> None:
        path = unquote(urlsplit(handler.path).path)
        files = sorted(self.folder.iterdir())
        if re.fullmatch(rf"/api/models/{self.name}/revision/\w+", path):
            facts = {"id": self.name, "sha": COMMIT, "siblings": [self._sibling(file) for file in files]}
            _send(handler, json.dumps(facts).encode())
        elif path == f"/api/models/{self.name}/tree/{COMMIT}":
            _send(handler, json.dumps([self._leaf(file) for file in files]).encode())
        elif path.startswith(f"/{self.name}/resolve/"):
            self._send_file(handler, self.folder / path.rpartition("/")[2], body=body)
        else:
            _send(handler, b'{"error": "Repository not found"}', 404, {"X-Error-Code": "RepoNotFound"})

    def _sibling(self, file: Path) -> dict[str, object]:
        sum_ = "0" * 64 if self.wrong_sums else _sum(file)
        lfs = {"sha256": sum_, "size": file.stat().st_size, "pointerSize": 130}
        return {"rfilename": file.name, "size": file.stat().st_size, "lfs": lfs if _is_large(file) else None}

    def _leaf(self, file: Path) -> dict[str, object]:
        leaf: dict[str, object] = {
            "type": "file",
            "path": file.name,
            "size": file.stat().st_size,
            "oid": _sum(file)[:40],
        }
        if _is_large(file):
            leaf["lfs"] = {"oid": _sum(file), "size": file.stat().st_size, "pointerSize": 130}
        return leaf

    def _send_file(self, handler: http.server.BaseHTTPRequestHandler, file: Path, *, body: bool) -> None:
        content, start = file.read_bytes(), 0
        if match := re.match(r"bytes=(\d+)-", handler.headers.get("Range", "")):
            self.ranges.append(handler.headers["Range"])
            start = int(match[1])
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", f'"{_sum(file)}"')
        handler.send_header("X-Repo-Commit", COMMIT)
        handler.send_header("Content-Length", str(len(content) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        if body and self.stop_after is not None and _is_large(file):
            handler.wfile.write(content[start : self.stop_after])
            handler.wfile.flush()
            handler.connection.close()
        elif body:
            handler.wfile.write(content[start:])


def _is_large(file: Path) -> bool:
    return file.suffix == ".safetensors"


def _sum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _send(
    handler: http.server.BaseHTTPRequestHandler, body: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> None:
    handler.send_response(status)
    for name, value in (
        {"Content-Type": "application/json", "Content-Length": str(len(body))} | (headers or {})
    ).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
