"""Chunk files that are kept open: opening one reads and verifies its header."""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from memory.chunkfile import ChunkFile
from memory.errors import DamagedFile

OPEN_FILES = 32
"""Chunk files kept open at a time."""


class OpenFiles:
    """The chunk files used last, by path."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, ChunkFile] = OrderedDict()
        self._moved: dict[Path, Path] = {}

    def moved(self, places: Mapping[Path, Path]) -> None:
        """These files changed hands: who knew them by their old path goes on reading them."""
        for target in places.values():
            self._moved.pop(target, None)
        self._moved.update(places)

    def where(self, path: Path) -> Path:
        """Where a file that was at `path` lies now."""
        while path in self._moved:
            path = self._moved[path]
        return path

    def get(self, path: Path, *, writable: bool = False) -> ChunkFile:
        """The file, opened if it is not; to be read it may have moved.

        Raises:
            DamagedFile, OSError: as `ChunkFile.open`.
        """
        path = path if writable else self.where(path)
        file = self._files.get(path)
        if file is not None and file.writable >= writable:
            self._files.move_to_end(path)
            return file
        self.close(path)
        return self.keep(path, ChunkFile.open(path, writable=writable))

    def to_write(self, path: Path) -> ChunkFile:
        """The same; what is damaged is a file that cannot be written.

        Raises:
            OSError: it cannot be opened, or its header is damaged.
        """
        try:
            return self.get(path, writable=True)
        except DamagedFile as error:
            raise OSError(errno.EIO, str(error)) from error

    def keep(self, path: Path, file: ChunkFile) -> ChunkFile:
        """Keep a file open, and close the one used longest ago when there are too many."""
        self._files[path] = file
        while len(self._files) > OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return file

    def close(self, path: Path) -> None:
        """Close one file if it is open."""
        file = self._files.pop(path, None)
        if file is not None:
            file.close()

    def close_in(self, folder: Path) -> None:
        """Close the files of a folder."""
        for path in [path for path in self._files if path.parent == folder]:
            self.close(path)

    def close_all(self) -> None:
        """Close every file; each is opened again when it is needed."""
        for path in list(self._files):
            self.close(path)
