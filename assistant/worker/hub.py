"""Download of one repository of the model hub, as a child: `python -m assistant.worker.hub OWNER/REPO REVISION FOLDER`.

Standard output is JSON lines: {"commit"}, {"stage", "done", "total"} when a stage begins, {"done"}, {"error"}.
Interrupted downloads go on where they ended: the hub's library keeps its part files in the folder.
"""

from __future__ import annotations

import fnmatch
import hashlib
import sys
import threading
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils.tqdm import disable_progress_bars

from assistant.errors import Exit
from assistant.worker.parent import end_with_parent, say
from memory.names import safe_join

PATTERNS = (
    "model*.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
    "LICENSE*",
)
"""What a model folder needs; other formats of the same weights are not fetched."""

_EVERY_S = 0.2


def download(repository: str, revision: str, folder: Path) -> None:
    """Fetch the files, then compare each with the checksum the hub has on record."""
    info = HfApi().model_info(repository, revision=revision, files_metadata=True)
    files = [file for file in info.siblings or () if any(fnmatch.fnmatch(file.rfilename, one) for one in PATTERNS)]
    total = sum(file.size or 0 for file in files)
    say(commit=info.sha)
    say(stage="download", done=min(_size(folder), total), total=total)
    ended = threading.Event()
    threading.Thread(target=_report, args=(folder, ended), daemon=True).start()
    snapshot_download(repository, revision=info.sha, local_dir=folder, allow_patterns=list(PATTERNS))
    ended.set()
    _verify(folder, {file.rfilename: file.lfs.sha256 for file in files if file.lfs})


def _verify(folder: Path, sums: dict[str, str]) -> None:
    files = {name: safe_join(folder, name) for name in sums}
    total, done = sum(file.stat().st_size for file in files.values()), 0
    say(stage="verify", done=0, total=total)
    for name, expected in sums.items():
        digest = hashlib.sha256()
        with files[name].open("rb") as source:
            while block := source.read(1 << 22):
                digest.update(block)
                done += len(block)
                say(done=done)
        if digest.hexdigest() != expected:
            files[name].unlink()
            raise ValueError(f"{name} was damaged on the way and is removed")


def _report(folder: Path, ended: threading.Event) -> None:
    while not ended.wait(_EVERY_S):
        say(done=_size(folder))


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _sentence(repository: str, error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        page = f"https://huggingface.co/{repository}"
        return f"{repository} asks you to accept its licence first: do so at {page}, then run: hf auth login"
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError):
        return f"the hub has no {repository} at this revision"
    kind = "" if isinstance(error, HfHubHTTPError | ValueError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())[:300]


def main(argv: list[str]) -> int:
    """Download `argv[0]` at revision `argv[1]` into the folder `argv[2]`."""
    end_with_parent()
    disable_progress_bars()
    try:
        download(argv[0], argv[1], Path(argv[2]))
    except Exception as error:  # whatever the network raises ends here as a sentence
        say(error=_sentence(argv[0], error))
        return Exit.MODEL
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
