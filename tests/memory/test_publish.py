"""Publishing: the file is there as written or as it was before, whatever call of the system fails."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from memory.publish import TEMPORARY, publish
from tests.memory.failing import failing

PARTS = [b"one ", memoryview(b"two "), b"", b"three"]
WHOLE = b"one two three"
CALLS = ["open", "write", "fsync", "replace", "close"]
ERRORS = [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EDQUOT]


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(TEMPORARY)]


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_written_whole_and_private(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    before = os.umask(0)
    try:
        publish(path, PARTS, durable=durable)
    finally:
        os.umask(before)
    assert path.read_bytes() == WHOLE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not left_over(tmp_path)


def test_a_file_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"much longer than what comes next, and gone afterwards")
    publish(path, PARTS, durable=False)
    assert path.read_bytes() == WHOLE


def test_a_system_that_takes_few_bytes_at_a_time_gets_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with failing(monkeypatch, "write", 0, 0, short=2) as calls:
        publish(tmp_path / "file", PARTS, durable=False)
    assert calls.count == 7
    assert (tmp_path / "file").read_bytes() == WHOLE


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("name", CALLS)
def test_any_call_that_fails_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    path, nth, failed = tmp_path / "file", 0, True
    while failed:
        nth += 1
        publish(path, [b"old"], durable=False)
        with failing(monkeypatch, name, nth, number) as calls:
            try:
                publish(path, PARTS, durable=True)
            except OSError as error:
                assert error.errno == number
            else:
                assert path.read_bytes() == WHOLE
        failed = calls.count >= nth
        assert path.read_bytes() in (b"old", WHOLE)
        assert not left_over(tmp_path)
    assert nth > 1


def test_the_old_file_stays_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    publish(path, [b"old"], durable=False)
    with failing(monkeypatch, "write", 2, errno.ENOSPC, short=1), pytest.raises(OSError, match="No space"):
        publish(path, PARTS, durable=False)
    assert path.read_bytes() == b"old"


def test_the_first_error_is_told_when_cleaning_up_fails_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        failing(monkeypatch, "unlink", 1, errno.EROFS),
        failing(monkeypatch, "fsync", 1, errno.EIO),
        pytest.raises(OSError, match="Input/output"),
    ):
        publish(tmp_path / "file", PARTS, durable=True)
    assert len(left_over(tmp_path)) == 1
    assert not (tmp_path / "file").exists()


def test_durable_syncs_the_file_before_it_gets_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def recorded(name: str) -> Any:
        real = getattr(os, name)

        def call(*args: Any) -> Any:
            order.append(name)
            return real(*args)

        return call

    for name in ("write", "fsync", "replace"):
        monkeypatch.setattr(os, name, recorded(name))
    publish(tmp_path / "file", [b"x"], durable=True)
    publish(tmp_path / "file", [b"x"], durable=False)
    assert order == ["write", "fsync", "replace", "fsync", "write", "replace"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        publish(tmp_path / "no" / "file", PARTS, durable=False)
