"""A daemon of another protocol (its argument): it holds the lock, answers the greeting, and ends when it is told to."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
import sys

from filelock import FileLock

from assistant.places import find_places


class Greeting(http.server.BaseHTTPRequestHandler):
    """Says which version it is, whatever it is asked."""

    def do_GET(self) -> None:
        body = json.dumps({"version": "0.0.1", "protocol": int(sys.argv[1]), "pid": os.getpid()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def address_string(self) -> str:
        return "unix"


def main() -> None:
    places = find_places()
    places.runtime.mkdir(mode=0o700, exist_ok=True)
    with FileLock(places.lock, timeout=0), socketserver.ThreadingUnixStreamServer(str(places.socket), Greeting) as one:
        one.serve_forever()


if __name__ == "__main__":
    main()
