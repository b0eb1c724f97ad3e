"""A folder for ASSISTANT_HOME with a model called `fake` in its catalogue; for tests and benchmarks."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path


def make_home() -> Path:
    """A new folder with a short path (sockets), in which the model `fake` is "here"."""
    folder = Path(tempfile.mkdtemp(prefix="a", dir="/tmp"))
    _make_model(folder / "fake")
    (folder / "config").mkdir()
    (folder / "config" / "models.toml").write_text(
        f'[fake]\nsource = "file:{folder / "fake"}"\naliases = ["pretend"]\ntool_capable = true\n'
    )
    return folder


def _make_model(folder: Path) -> None:
    """What the catalogue takes for a model that can be loaded; nobody loads it."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
