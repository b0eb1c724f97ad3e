"""Where a name from outside becomes a path, and the only place where it does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

LONGEST_PART = 255
"""Bytes that a file system takes for one name."""


class UnsafeName(OSError):
    """A name that would lead out of its folder, or that no file can have. To callers it is a disk that refuses."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EINVAL, why)


def safe_join(root: Path, name: str) -> Path:
    """`root / name` for a name (or a relative path) that somebody else chose.

    Nothing on the way below `root` may be a link. What is opened afterwards should be opened with O_NOFOLLOW where
    others can write to `root`: between this look and the opening they could put one there.

    Raises:
        UnsafeName: it is empty, absolute, holds NUL, a backslash or a part of dots, is too long, or meets a link.
    """
    parts = name.split("/")
    if "\0" in name or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise UnsafeName("a name must be a plain one, without dots alone, backslashes or NUL")
    try:
        if any(len(os.fsencode(part)) > LONGEST_PART for part in parts):
            raise UnsafeName(f"a name may hold at most {LONGEST_PART} bytes")
        place = root
        for part in parts:
            place /= part
            if place.is_symlink():
                raise UnsafeName("a link stands where a file or folder of ours belongs")
        inside = place.resolve().is_relative_to(root.resolve())
    except (UnicodeEncodeError, RuntimeError):
        raise UnsafeName("a name must be text that a file system can hold") from None
    if not inside:
        raise UnsafeName("a name must stay in its folder")
    return place
