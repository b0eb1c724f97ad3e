"""The real daemon with the real worker and the tiny model, in a home of its own."""

from __future__ import annotations

from pathlib import Path

from assistant.places import find_places
from tests.conftest import REAL, RunningDaemon
from tests.worker.tiny import make_model_folder

BUDGET = "64MiB"


def add_tiny(home: Path) -> None:
    """Put the tiny model into the catalogue of `home`."""
    folder = make_model_folder(home / "tiny")
    with (home / "config" / "models.toml").open("a") as catalog:
        catalog.write(f'\n[tiny]\nsource = "file:{folder}"\n')


def real_daemon(**settings: str) -> RunningDaemon:
    """Start it; KV is stored as it is, so that what comes back is what was there."""
    chosen = {"MODEL": "tiny", "BUDGET": BUDGET, "KV_CODEC": "lossless", "TEMPERATURE": "0", "THREADS": "1"} | settings
    return RunningDaemon(find_places(), REAL, **{f"ASSISTANT_{name}": value for name, value in chosen.items()})


def end(daemon: RunningDaemon) -> None:
    """End it with its worker, which would go on writing into the home otherwise."""
    if daemon.process.poll() is None:
        daemon.process.terminate()
        daemon.wait()
    daemon.close()
