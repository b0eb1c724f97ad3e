"""Keeping the KV folder true: index against files, left-overs, old foreign KV, and the check of every checksum."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from memory.block import extend
from memory.budget import MIB
from memory.chunkfile import ChunkFile
from memory.errors import DamagedFile, RowDamaged
from memory.fingerprint import Fingerprint
from memory.folder import CHUNKS, PROFILE, QUARANTINE, TAIL, KvFolder, chunks_of, make_private, now
from memory.index import BranchRow
from memory.lineage import borrowed, by_conversation
from memory.names import UnsafeName
from memory.publish import TEMPORARY
from memory.score_store import SCORES_FILE
from memory.tailfile import unpack

QUARANTINE_S, QUARANTINE_BYTES = 7 * 86400, 256 * MIB
FOREIGN_S, FOREIGN_USES = 30 * 86400, 200
"""Unused KV of another fingerprint is removed when its file is this old *and* this many uses of others lie between."""


@dataclass(slots=True)
class SweepReport:
    """What a sweep did: what was removed, and the files that could not be read or removed this time."""

    removed: int = 0
    failed: int = 0


@dataclass(slots=True)
class CheckReport:
    """What a check of every byte found; `problems` are sentences."""

    files: int = 0
    rows_ok: int = 0
    rows_bad: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)
    repaired: bool = False


def sweep(folder: KvFolder, limit_s: float = 2.0, *, keep: str | None = None) -> SweepReport:
    """Make the index say what the files say and remove what nothing needs. Stops after `limit_s` seconds.

    `keep`: digest (hex) of the fingerprint in use, whose KV is never old.
    """
    report, end = SweepReport(), time.monotonic() + limit_s
    known = {row.branch: row for row in folder.index.branches()}
    for path in list(_files(folder.path)):
        if time.monotonic() > end:
            return report
        with _counting_failures(report):
            _reconcile(folder, path, known, report)
    for row in known.values():  # what is left has no file
        _remove(folder, row, report)
    _remove_unreachable(folder, report)
    _remove_unpublished_profiles(folder.path, report)
    _remove_old_foreign(folder, keep, report)
    _remove_old_scores(folder, report)
    _trim_quarantine(folder.path, report)
    _remove_empty(folder.path)
    folder.index.fresh = False
    folder.counters["swept_files"] += report.removed
    folder.counters["sweep_errors"] += report.failed
    return report


def check(folder: KvFolder, *, repair: bool) -> CheckReport:
    """Verify every row and open chunk; with `repair`, cut files at the first bad row and set damaged ones aside."""
    report = CheckReport(repaired=repair)
    for path in sorted(_files(folder.path)):
        with suppress(FileNotFoundError):
            report.bytes += path.stat().st_size
        if path.suffix == CHUNKS:
            report.files += 1
            _check_chunks(path, report, repair=repair)
        elif path.suffix == TAIL:
            report.files += 1
            _check_tail(path, report, repair=repair)
        elif path.name.endswith(TEMPORARY):
            _problem(report, path, "is left over from an interrupted write", repair=repair)
    drift = _drift(folder)
    report.problems += drift
    if repair:
        sweep(folder, limit_s=60.0)
    return report


def _files(root: Path) -> Iterator[Path]:
    """Every file in the conversations' folders, quarantine left out."""
    for conversation in sorted(path for path in root.iterdir() if path.is_dir()):
        yield from sorted(path for path in conversation.iterdir() if path.is_file())


# --- sweeping --------------------------------------------------------------------------------------------------------


def _reconcile(folder: KvFolder, path: Path, known: dict[str, BranchRow], report: SweepReport) -> None:
    if path.name.endswith(TEMPORARY) or (path.suffix == TAIL and not path.with_suffix(CHUNKS).exists()):
        path.unlink(missing_ok=True)
        report.removed += 1
    elif path.suffix == CHUNKS:
        row = known.get(path.stem)
        if row is None or folder.chunks(row) != path:
            _adopt(folder, path, report, used=0)
            if (found := folder.index.branch(path.stem)) is not None and found != row:
                known.pop(path.stem, None)  # it lay elsewhere before
        else:
            del known[path.stem]
            if row.bytes != path.stat().st_size:
                _adopt(folder, path, report, used=row.used)


def _adopt(folder: KvFolder, path: Path, report: SweepReport, *, used: int) -> None:
    """Record a chunk file from its own headers; one that cannot be read is set aside, a misplaced one goes where it
    belongs, or away if that place is taken or its conversation was removed."""
    try:
        file = ChunkFile.open(path, writable=True)
        home = _home(folder, file)
    except (DamagedFile, UnsafeName):
        _set_aside(folder, path)
        report.removed += 1
        return
    try:
        if path != home and (home.exists() or not home.parent.exists()):
            path.unlink(missing_ok=True)
            report.removed += 1
            return
        if path != home:  # the process ended while the file changed hands
            path.replace(home)
        _record(folder, file, used)
    finally:
        file.close()


def _home(folder: KvFolder, file: ChunkFile) -> Path:
    """Where a chunk file belongs by its own header, which may say anything."""
    try:
        return chunks_of(folder.path, file.header.conversation, file.header.branch)
    except UnsafeName:
        file.close()
        raise


def _record(folder: KvFolder, file: ChunkFile, used: int) -> None:
    chains, header = _sound_chains(file), file.header
    file.truncate(len(chains))
    parent, rows = header.parent or (None, 0)
    root, total = Fingerprint.of(header.fingerprint).digest, header.first_row + len(chains)
    row = BranchRow(header.branch, header.conversation, root, parent, rows, header.first_row, total, file.size, used)
    folder.index.put(row, header.fingerprint, chains)


def _sound_chains(file: ChunkFile) -> list[bytes]:
    """Chained ids of the rows up to the first one whose header is not sound."""
    chains = list[bytes]()
    with suppress(RowDamaged):
        for index in range(file.rows):
            header = file.row_header(index)
            if header.chain != extend(header.parent, header.ids) or (chains and header.parent != chains[-1]):
                break
            chains.append(header.chain)
    return chains


def _set_aside(folder: KvFolder, path: Path) -> None:
    quarantine = path.parent / QUARANTINE
    make_private(quarantine)
    path.replace(quarantine / path.name)
    path.with_suffix(TAIL).unlink(missing_ok=True)
    if (row := folder.index.branch(path.stem)) is not None and folder.chunks(row) == path:
        folder.remove(row)


def _remove(folder: KvFolder, row: BranchRow, report: SweepReport) -> None:
    with _counting_failures(report):
        folder.remove(row)
        report.removed += 1


def _remove_unreachable(folder: KvFolder, report: SweepReport) -> None:
    """Branches whose parent is gone, or no longer has the rows that they build on."""
    branches = {row.branch: row for row in folder.index.branches()}
    for row in branches.values():
        parent = branches.get(row.parent) if row.parent else None
        if row.parent and (parent is None or parent.rows < row.parent_rows):
            _remove(folder, row, report)


def _remove_unpublished_profiles(root: Path, report: SweepReport) -> None:
    """Layer profiles that were being written when a worker was killed; finished ones stay, they are small."""
    for path in root.glob(f"{PROFILE}*{TEMPORARY}"):
        with _counting_failures(report):
            path.unlink(missing_ok=True)
            report.removed += 1


def _remove_old_foreign(folder: KvFolder, keep: str | None, report: SweepReport) -> None:
    branches = folder.index.branches()
    latest = max((row.used for row in branches), default=0)
    parents = {row.parent for row in branches}
    for row in branches:
        if keep is None or row.fingerprint.hex() == keep or latest - row.used < FOREIGN_USES or row.branch in parents:
            continue
        with suppress(OSError):
            if now() - folder.chunks(row).stat().st_mtime > FOREIGN_S:
                _remove(folder, row, report)


def _remove_old_scores(folder: KvFolder, report: SweepReport) -> None:
    """Scores of rows that are stored no more."""
    if not (folder.path / SCORES_FILE).exists():
        return
    with _counting_failures(report):
        report.removed += folder.scores.keep(_chains(folder))


def _chains(folder: KvFolder) -> dict[str, set[str]]:
    """The chained ids (hex) of all rows that each conversation uses, its own and those that it builds on."""
    branches, chains = folder.index.branches(), folder.index.chains()
    first = {row.branch: row.first_row for row in branches}
    found = {
        name: {chain for row in rows for chain in chains.get(row.branch, [])}
        for name, rows in by_conversation(branches).items()
    }
    for name, lent in borrowed(branches).items():
        for branch, rows in lent.items():
            found[name].update(chains.get(branch, [])[: rows - first[branch]])
    return found


def _trim_quarantine(root: Path, report: SweepReport) -> None:
    """Rows put aside stay 7 days and take 256 MiB at most, the newest ones."""
    found = [(path.stat().st_mtime, path) for path in root.glob(f"*/{QUARANTINE}/*")]
    kept = 0
    for changed, path in sorted(found, reverse=True):
        kept += path.stat().st_size
        if now() - changed > QUARANTINE_S or kept > QUARANTINE_BYTES:
            with _counting_failures(report):
                path.unlink(missing_ok=True)
                report.removed += 1


def _remove_empty(root: Path) -> None:
    """Folders of conversations (and their quarantines) in which nothing is left."""
    for folder in [*root.glob(f"*/{QUARANTINE}"), *(path for path in root.iterdir() if path.is_dir())]:
        with suppress(OSError):  # most are not empty
            folder.rmdir()


@contextmanager
def _counting_failures(report: SweepReport) -> Iterator[None]:
    """One file that cannot be read or removed keeps no other one from being swept."""
    try:
        yield
    except OSError:
        report.failed += 1


# --- checking --------------------------------------------------------------------------------------------------------


def _check_chunks(path: Path, report: CheckReport, *, repair: bool) -> None:
    try:
        file = ChunkFile.open(path, writable=repair)
    except (OSError, DamagedFile) as error:
        _problem(report, path, _cannot(error), repair=repair and isinstance(error, DamagedFile))
        return
    try:
        _check_rows(file, path, report, repair=repair)
    finally:
        file.close()


def _check_rows(file: ChunkFile, path: Path, report: CheckReport, *, repair: bool) -> None:
    buffer = memoryview(bytearray(file.layout.stride))
    for index in range(file.rows):
        try:
            file.read_rows(index, 1, buffer)
            report.rows_ok += 1
        except (RowDamaged, OSError) as damage:
            lost = file.rows - index
            report.rows_bad += lost
            report.problems.append(f"{_name(path)}: {damage} {lost} rows from there are unusable.")
            if repair:
                file.truncate(index)
            return


def _check_tail(path: Path, report: CheckReport, *, repair: bool) -> None:
    try:
        unpack(path.read_bytes())
    except (OSError, DamagedFile) as error:
        _problem(report, path, _cannot(error), repair=repair and isinstance(error, DamagedFile))


def _cannot(error: Exception) -> str:
    return f"cannot be used ({(getattr(error, 'strerror', None) or str(error)).rstrip('.')})"


def _problem(report: CheckReport, path: Path, what: str, *, repair: bool) -> None:
    report.problems.append(f"{_name(path)} {what}.")
    if repair:
        path.unlink(missing_ok=True)


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _drift(folder: KvFolder) -> list[str]:
    """Where index and files do not say the same."""
    rows = {row.branch: row for row in folder.index.branches()}
    files = {path.stem: path for path in _files(folder.path) if path.suffix == CHUNKS}
    problems = [f"The index lists {name}, which has no file." for name in sorted(rows.keys() - files.keys())]
    problems += [f"The file of {name} is not in the index." for name in sorted(files.keys() - rows.keys())]
    for row in rows.values():
        if row.parent and (row.parent not in rows or rows[row.parent].rows < row.parent_rows):
            problems.append(f"The rows that {row.branch} builds on are gone.")
    for name in sorted(rows.keys() & files.keys()):
        if rows[name].bytes != files[name].stat().st_size:
            problems.append(f"The index says {name} has {rows[name].bytes} bytes, its file has another size.")
    return problems
