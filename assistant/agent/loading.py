"""A tools file becomes a module. Imports nothing but Python: the host of a tools file uses it too."""

from __future__ import annotations

import hashlib
import sys
from importlib.abc import SourceLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType


class _Loader(SourceLoader):
    """Runs exactly the bytes that were read, and leaves no compiled file beside them."""

    def __init__(self, path: Path, source: bytes) -> None:
        self._path, self._source = path, source

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002  (the signature is importlib's)
        return str(self._path)

    def get_data(self, path: str | bytes) -> bytes:
        if str(path) != str(self._path):
            raise OSError(f"only {self._path} is loaded here")
        return self._source


def load_module(path: Path, source: bytes) -> ModuleType:
    """Run `source`, the content of the file `path`, as a module. The file's folder is the last place that it imports
    from, so that nothing there takes the place of a library.

    Raises whatever the file raises.
    """
    name = f"tools_{digest_of(source)[:16]}"
    loader = _Loader(path, source)
    spec = spec_from_loader(name, loader, origin=str(path))
    assert spec is not None
    module = module_from_spec(spec)
    if (folder := str(path.parent)) not in sys.path:
        sys.path.append(folder)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def line_of(error: BaseException, path: Path) -> int | None:
    """The line of the file `path` in which `error` came up, or that is no Python."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def digest_of(source: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(source).hexdigest()
