"""Replay of recorded requests against the daemon, or any server that speaks OpenAI's chat completions.

    python -m benchmarks.serve --trace FILE [--scale S] [--requests N] [--most-read N] [--most-written N]
        [--model ID] [--url URL] [--token TOKEN] [--characters C] [--patience S] [--name NAME] [--json OUT]

Requests are sent when the trace says, `--scale` times as fast, whether or not those before were answered; those of one
session wait for the reply before and send all of it again, as stateless clients do. `benchmarks/serve/trace.py` has the
formats. Without --url it talks to the daemon of this user, over its socket, and starts one when none runs.
`cached_most` is the share of blocks that a cache without a limit would have, where the trace has ids of blocks. A
replay gets a NAME to be recorded under results/ with a picture.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import httpx2

from assistant.daemon import spawn
from assistant.errors import AssistantError
from assistant.places import find_places
from benchmarks.report import RESULTS, device_name, publish
from benchmarks.serve.prompts import CHARACTERS, Prompts, shared_most
from benchmarks.serve.replay import Outcome, Replay
from benchmarks.serve.summary import draw, row
from benchmarks.serve.trace import Request, bounded, faster, load

CONNECTIONS = 60
"""Open at once; the daemon takes 64."""


def main() -> None:
    """Replay, print one row, record it where it has a name."""
    options = _options()
    try:
        requests = faster(bounded(load(options.trace), options.most_read, options.most_written), options.scale)
        requests = requests[: options.requests]
        outcomes = asyncio.run(_replay(options, requests))
    except AssistantError as error:
        sys.exit(f"{error}")
    about = {"trace": options.trace.stem, "scale": options.scale, "model": options.model}
    found = about | row(outcomes, options.patience) | {"cached_most": round(shared_most(requests), 4)}
    publish(f"serve_{options.name}", [found], quick=not options.name, json_path=options.json)
    if options.name:
        draw(outcomes, f"{options.trace.stem}, {options.model}", RESULTS / device_name() / f"serve_{options.name}.png")
    for why in sorted({one.why for one in outcomes if one.why}):
        print(f"not answered: {why}", file=sys.stderr)


async def _replay(options: argparse.Namespace, requests: list[Request]) -> list[Outcome]:
    async with connection(options.url, options.token) as http:
        return await Replay(http, options.model, Prompts(options.characters)).run(requests)


def connection(url: str | None, token: str | None) -> httpx2.AsyncClient:
    """To the server at `url`, else to the daemon of this user.

    Raises:
        DaemonError: none runs and none could be started.
    """
    limits = httpx2.Limits(max_connections=CONNECTIONS)
    if url is not None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.AsyncClient(base_url=url.rstrip("/").removesuffix("/v1"), headers=headers, limits=limits)
    places = find_places()
    spawn.start(places)
    transport = httpx2.AsyncHTTPTransport(uds=str(places.socket), limits=limits)
    return httpx2.AsyncClient(transport=transport, base_url="http://daemon")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="so many times as fast as recorded")
    parser.add_argument("--requests", type=int, help="the first so many")
    parser.add_argument("--most-read", type=int, default=2**20, help="tokens of a prompt at most")
    parser.add_argument("--most-written", type=int, default=2**15, help="tokens of a reply at most")
    parser.add_argument("--model", default="smollm2-135m", help="what requests ask for")
    parser.add_argument("--url", help="of a server, for example http://127.0.0.1:11434/v1")
    parser.add_argument("--token", help="of that server")
    parser.add_argument("--characters", type=float, default=CHARACTERS, help="of a token")
    parser.add_argument("--patience", type=float, default=5.0, help="seconds to the first piece that people bear")
    parser.add_argument("--name", default="", help="record it under this name")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
