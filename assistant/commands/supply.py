"""Before a request: the model it needs, fetched when that is what the user would expect."""

from __future__ import annotations

import sys

from assistant.catalog import load_catalog
from assistant.client import Client, pull
from assistant.commands.options import is_set
from assistant.commands.progress import progress_reporter
from assistant.commands.terminal import say
from assistant.places import find_places
from assistant.settings import Settings


async def supply_model(client: Client, settings: Settings) -> None:
    """Fetch the model when it is missing: the default one always, another when someone sees the progress.

    Raises:
        ModelError: unknown, or missing and not to be fetched unasked; the text says what to run.
    """
    places, chosen = find_places(), is_set(settings, "model")
    defaults = [] if chosen else [model.id for model in await client.models() if model.default]
    catalog = load_catalog(places)
    entry = catalog.find(next(iter(defaults), settings.model))
    if entry.present(places):
        return
    if chosen and not sys.stderr.isatty():
        catalog.require(entry, places)
    say(f"the model {entry.id} ({entry.size}) is not on this machine; fetching it now")
    with progress_reporter(entry, as_json=False) as report:
        async for progress in pull(entry.id):
            report(progress)
