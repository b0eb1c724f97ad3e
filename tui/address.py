"""The text of a web address that a message names. Nothing else in the app asks the network for anything."""

from __future__ import annotations

from html.parser import HTMLParser

import httpx2

from assistant.errors import UsageError
from tui.figures import size

TIMEOUT_S = 20.0
_UNSEEN = {"script", "style", "title", "template", "noscript", "svg"}
_BREAKS = {"p", "br", "div", "li", "tr", "section", "article", "pre", "table", "h1", "h2", "h3", "h4", "h5", "h6"}


def fetched(address: str, room: int) -> str:
    """What stands at an address, without the tags of a page; at most `room` bytes travel.

    Raises:
        UsageError: it cannot be reached, answers with an error, is larger, or is no text.
    """
    try:
        with (
            httpx2.Client(follow_redirects=True, timeout=TIMEOUT_S) as client,
            client.stream("GET", address) as response,
        ):
            response.raise_for_status()
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if not (kind.startswith("text/") or kind in ("", "application/json", "application/xml")):
                raise UsageError(f"{address} is {kind}, no text, so it cannot be attached.")
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > room:
                    raise UsageError(f"{address} has more than the {size(room)} that can be attached.")
            text = body.decode(response.encoding or "utf-8", "replace")
    except httpx2.HTTPStatusError as error:
        raise UsageError(f"{address} cannot be read: its server answers {error.response.status_code}.") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise UsageError(f"{address} cannot be read: {error or type(error).__name__}.") from None
    return seen(text) if kind == "text/html" else text


def seen(page: str) -> str:
    """The words of an HTML page, a line for each of its blocks."""
    reader = _Words()
    reader.feed(page)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.words).split("\n"))
    return "\n".join(line for line in lines if line)


class _Words(HTMLParser):
    """Collects what a reader sees."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self._unseen += tag in _UNSEEN
        if tag in _BREAKS:
            self.words.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in _UNSEEN and self._unseen > 0
        if tag in _BREAKS:
            self.words.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.words.append(data)
