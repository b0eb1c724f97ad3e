"""Recorded requests: when each came, how many tokens it read and wrote, and what its prompt shares with others.

Three formats, told apart by their fields:

- lines of `{t, in, out}`: seconds, tokens (the Azure traces of `data/traces`);
- lines of `{timestamp, input_length, output_length, hash_ids}`: milliseconds, tokens, and for each 512 tokens of the
  prompt an id that equal beginnings share (Mooncake);
- CSV with the columns of BurstGPT: Timestamp, Session ID, Elapsed time, Model, Request tokens, Response tokens,
  Total tokens, Log Type (the session and the elapsed time may be missing). Requests that failed (no response) are
  left out.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assistant.errors import UsageError

BLOCK = 512
"""Tokens of a prompt that one id of a Mooncake trace stands for."""

COLUMNS = (
    "Timestamp",
    "Session ID",
    "Elapsed time",
    "Model",
    "Request tokens",
    "Response tokens",
    "Total tokens",
    "Log Type",
)
"""Of BurstGPT, the newest release."""

SYNTHETIC = "synthetic"
"""The model that a generated trace names."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: seconds since the first, tokens read and written. `session`: those of one come after each other;
    `blocks`: ids of the prompt's blocks."""

    at: float
    prompt: int
    reply: int
    session: str | None = None
    blocks: tuple[int, ...] = ()


def load(path: Path) -> list[Request]:
    """The requests of a trace, by their times, the first one at 0.

    Raises:
        UsageError: the file cannot be read, or a line is no request; it names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The trace {path} cannot be read: {error}.") from error
    rows = _json_rows(text) if text.lstrip().startswith("{") else _csv_rows(text)
    requests = sorted(_requests(path, rows), key=lambda request: request.at)
    if not requests:
        raise UsageError(f"The trace {path} holds no requests.")
    return [replace(request, at=request.at - requests[0].at) for request in requests]


def bounded(requests: Sequence[Request], most_read: int, most_written: int) -> list[Request]:
    """The requests with at most so many tokens each."""
    return [
        replace(
            one,
            prompt=min(one.prompt, most_read),
            reply=min(one.reply, most_written),
            blocks=one.blocks[: -(-most_read // BLOCK)],
        )
        for one in requests
    ]


def faster(requests: Sequence[Request], scale: float) -> list[Request]:
    """The requests `scale` times as fast after each other."""
    return [replace(one, at=one.at / scale) for one in requests]


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield number, row if isinstance(row, dict) else {}


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    yield from enumerate(csv.DictReader(io.StringIO(text)), start=2)


def _requests(path: Path, rows: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[Request]:
    for number, row in rows:
        try:
            request = _request(row)
        except (KeyError, TypeError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
            raise UsageError(f"Line {number} of the trace {path} is no request ({what}).") from error
        if request.reply > 0:
            yield request


def _request(row: dict[str, Any]) -> Request:
    if "Timestamp" in row:
        session = row.get("Session ID") or None
        found = Request(float(row["Timestamp"]), int(row["Request tokens"]), int(row["Response tokens"]), session)
    elif "hash_ids" in row:
        blocks = tuple(int(one) for one in row["hash_ids"])
        found = Request(row["timestamp"] / 1000, int(row["input_length"]), int(row["output_length"]), None, blocks)
    else:
        found = Request(float(row["t"]), int(row["in"]), int(row["out"]))
    if not (0 <= found.at < float("inf") and found.prompt >= 0 and found.reply >= 0):
        raise ValueError("a number is out of range")
    return found
