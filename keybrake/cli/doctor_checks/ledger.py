"""Check a ledger for ``keybrake doctor``: its file, seal, file modes, lock and clock."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from keybrake.cli.doctor_checks.environment import Finding
from keybrake.cli.ui.ledger_pages import Book
from keybrake.config import settings
from keybrake.errors import KeybrakeError, PolicyError
from keybrake.ledger import Busy
from keybrake.ledger.audit import repair
from keybrake.ledger.stores.sqlite import ledger_files
from keybrake.ledger.stores.sqlite.write_lock import LedgerLock
from keybrake.model import clock

_LOCK_PATIENCE_S = 2.0
_CLOCK_TOLERANCE = 2 * clock.SECOND
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def ledger(url: str) -> Iterator[Finding]:
    """Check the ledger at *url*, if there is one yet."""
    try:
        path = ledger_files.path_of(url)
    except PolicyError as error:
        yield Finding("ledger", "wrong", str(error))
        return
    yield from _file_system(path)
    if not os.path.lexists(path):
        found = list(_troubles(path))
        yield from found or [_absent(path)]
        return
    try:
        with Book(url) as book:
            yield from _contents(book)
        yield from _troubles(path)
    except (KeybrakeError, sqlite3.Error, OSError) as error:
        yield Finding("ledger", "wrong", str(error))
    yield _rights(path)
    yield _lock(path)


def _troubles(path: Path) -> Iterator[Finding]:
    """Report the problems that ``--repair`` can fix."""
    for trouble in repair.troubles(path):
        check, verdict = _TROUBLES[trouble.what]
        words = f"{trouble.words}. keybrake doctor --repair {_REMEDIES[trouble.what]}"
        yield Finding(check, verdict, words)


_TROUBLES = {
    "seal": ("seal", "wrong"),
    "gone": ("seal", "wrong"),
    "rights": ("rights", "wrong"),
    "leftovers": ("leftovers", "note"),
}
_REMEDIES = {
    "seal": "makes a new one and takes the ledger as it is; if there is a newer copy, put that back",
    "gone": "lets a new one begin; if there is a copy, put that back",
    "rights": "closes them (chmod 600)",
    "leftovers": "removes them",
}


def _absent(path: Path) -> Finding:
    folder = next(parent for parent in path.parents if os.path.lexists(parent))
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return Finding("ledger", "ok", f"{path} is not there yet; the first run makes it")
    return Finding(
        "ledger", "wrong", f"{path} cannot be made: {folder} is not a folder to write to"
    )


def _contents(book: Book) -> Iterator[Finding]:
    """Read the whole file once, so that a damaged page is found here and not during a run."""
    damage = book.connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        yield Finding("ledger", "wrong", f"{book.path} is damaged: {damage}")
        return
    version = book.connection.execute("PRAGMA user_version").fetchone()[0]
    yield Finding(
        "ledger",
        "ok",
        f"{book.path}, application id {ledger_files.APPLICATION_ID:#x}, schema {version}, "
        f"calls: {book.newest():,}",
    )
    yield _clock_finding(book)


def _clock_finding(book: Book) -> Finding:
    row = book.connection.execute("SELECT at FROM call ORDER BY seq DESC LIMIT 1").fetchone()
    ahead = 0 if row is None else int(row[0]) - clock.now()
    if ahead <= _CLOCK_TOLERANCE:
        return Finding("clock", "ok", f"{clock.iso(clock.now())}, not before the newest call")
    detail = (
        f"the newest call is {ahead // clock.SECOND:,} s in the future of this clock; until then "
        f"ledger time stands still, so windows and expiries last longer. Set the clock right"
    )
    return Finding("clock", "wrong", detail)


def _rights(path: Path) -> Finding:
    folder = path.parent.stat().st_mode
    if folder & _OTHERS_WRITE and not folder & stat.S_ISVTX:
        detail = f"others may replace files in {path.parent}: chmod go-w {path.parent}"
        return Finding("rights", "wrong", detail)
    return Finding("rights", "ok", f"nobody else may replace files in {path.parent}")


def _lock(path: Path) -> Finding:
    file = ledger_files.lock_path(path)
    if not file.is_file():
        return Finding("lock", "ok", f"nobody has needed {file} yet")
    try:
        with LedgerLock(file).held(_LOCK_PATIENCE_S):
            return Finding("lock", "ok", f"{file} is free")
    except Busy:
        detail = f"{file} was not free within {_LOCK_PATIENCE_S:g} s; it is held by {_holder(file)}"
        return Finding("lock", "wrong", detail)
    except OSError as error:
        return Finding("lock", "wrong", f"{file} cannot be locked: {error}")


def _holder(file: Path) -> str:
    """Return the process that holds the lock, if the operating system tells."""
    inode = str(file.stat().st_ino)
    try:
        held = [line.split() for line in Path("/proc/locks").read_text("ascii").splitlines()]
        # "1: FLOCK ADVISORY WRITE 4711 08:01:131104 0 EOF"; a waiting process has "->" before FLOCK.
        pids = [line[4] for line in held if line[1] == "FLOCK" and line[5].endswith(f":{inode}")]
        names = [Path(f"/proc/{pid}/comm").read_text("utf-8").strip() for pid in pids]
    except (OSError, IndexError, ValueError):
        return "a process that this system does not name"
    found = [f"process {pid} ({name})" for pid, name in zip(pids, names, strict=True)]
    return ", ".join(found) or "a process of another machine or container"


def _file_system(path: Path) -> Iterator[Finding]:
    try:
        ledger_files.refuse_network(path)
    except ledger_files.Unusable as error:
        yield Finding("file system", "wrong", str(error))
        return
    if settings.current().durability == "process":
        yield Finding("file system", "note", "durability is process: a power cut may lose calls")
