"""What of the disk a sandboxed tool may read: the system's programs, Python with its libraries, what is declared; never
the user's home as a whole, and never what the assistant itself keeps."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from assistant.places import Places

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of this package, which the child needs."""
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
_ETC = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "passwd", "group", "nsswitch.conf", "localtime"),
    *("timezone", "mime.types", "ssl/certs", "ssl/openssl.cnf", "pki/tls/certs", "ca-certificates"),
)
_NETWORK = ("resolv.conf", "hosts", "gai.conf", "services", "protocols", "host.conf")


def sealed(places: Places) -> list[Path]:
    """What no tool may read, whatever is declared: conversations, KV, logs, sockets, models."""
    kept = (places.data, places.state, places.cache, places.runtime, places.models)
    return [*kept, *(folder.resolve() for folder in kept if folder.resolve() != folder)]


def folder_of(file: Path) -> list[Path]:
    """A file and its folder, or the file alone where the folder holds the user's home."""
    folder = file.parent
    return [file] if _holds_home(folder) else [file, folder]


def readable(declared: Iterable[Path], shut: Sequence[Path], *, network: bool) -> list[Path]:
    """All that can be read, without what is `shut`: a folder that holds some of that is taken apart.

    A file that is declared is kept, wherever it lies; a folder that is the user's home, or holds it, is not.
    """
    declared = [path for path in declared if path.is_file() or not _holds_home(path)]
    etc = [Path("/etc", name) for name in (*_ETC, *(_NETWORK if network else ()))]
    wanted = [*map(Path, _SYSTEM), *etc, *_python(), PACKAGE, *declared]
    there = {path: None for one in wanted for path in (one, one.resolve()) if one.exists()}
    return list(dict.fromkeys(kept for path in there for kept in _without(path, shut)))


def _holds_home(folder: Path) -> bool:
    return Path.home().resolve().is_relative_to(folder.resolve())


def _python() -> Iterator[Path]:
    """Where this Python and its libraries lie."""
    yield from map(Path, (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix))
    yield from (Path(path) for name, path in sysconfig.get_paths().items() if name in ("stdlib", "purelib", "platlib"))


def _without(path: Path, shut: Sequence[Path]) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif any(path.is_relative_to(one) for one in shut):
        return
    elif any(one.is_relative_to(path) for one in shut):
        yield from (kept for child in _children(path) for kept in _without(child, shut))
    else:
        yield path


def _children(path: Path) -> list[Path]:
    try:
        return sorted(child for child in path.iterdir() if not child.is_symlink())
    except OSError:
        return []
