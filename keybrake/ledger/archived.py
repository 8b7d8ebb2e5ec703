"""The file that runs are moved to: a ledger's tables, for reading, without a seal."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from keybrake.errors import LedgerError
from keybrake.ledger.audit import event_reader
from keybrake.ledger.audit.event_reader import PAGE
from keybrake.ledger.audit.verify import ARCHIVED, is_archive
from keybrake.ledger.movable import Family
from keybrake.ledger.stores.sqlite import ledger_files

_SCHEMA = """
SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite~_%' ESCAPE '~'
ORDER BY rowid
"""
_WHOSE = "SELECT uid, created_at FROM ledger"


def open_to_add(ledger: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """
    Open the archive of a ledger to write to it, making it if there is nothing there.

    Raises:
        LedgerError: Something else is there, or the archive of another ledger.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    if not os.path.lexists(path):
        os.close(os.open(path, flags, 0o600))
    if not stat.S_ISREG(path.lstat().st_mode):
        msg = f"{path} is no ordinary file; name another one for the archive"
        raise LedgerError(msg)
    if path.stat().st_size:
        _refuse_another(ledger, path)
    archive = ledger_files.connect(path)
    try:
        # Not in WAL mode: one file, which can be kept where nobody may write.
        archive.execute("PRAGMA synchronous=EXTRA")
        if archive.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            _make(ledger, archive)
    except BaseException:
        archive.close()
        raise
    return archive


def _refuse_another(ledger: sqlite3.Connection, path: Path) -> None:
    with closing(ledger_files.connect(path, read_only=True)) as archive:
        try:
            if archive.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                return  # a crash while it was made
            version = ledger_files.check_schema(archive, path)
            whose = archive.execute(_WHOSE).fetchone()[0]
            fits = version == ledger_files.SCHEMA_VERSION and is_archive(archive, path)
        except (sqlite3.Error, ledger_files.Unusable):
            fits, whose = False, ""
    if not fits or whose != ledger.execute(_WHOSE).fetchone()[0]:
        msg = f"{path} is there already and is no archive of this ledger; name another file"
        raise LedgerError(msg)


def _make(ledger: sqlite3.Connection, archive: sqlite3.Connection) -> None:
    archive.execute("PRAGMA page_size=2048")
    archive.execute("BEGIN IMMEDIATE")
    for (statement,) in ledger.execute(_SCHEMA).fetchall():
        archive.execute(statement)
    uid, created_at = ledger.execute(_WHOSE).fetchone()
    archive.execute("INSERT INTO ledger VALUES (1, ?, ?, ?)", (uid, created_at, ARCHIVED))
    archive.execute(f"PRAGMA application_id={ledger_files.APPLICATION_ID}")
    archive.execute(f"PRAGMA user_version={ledger_files.SCHEMA_VERSION}")
    archive.execute("COMMIT")


def copy(ledger: sqlite3.Connection, archive: sqlite3.Connection, family: Family) -> None:
    """
    Copy everything of a family, in one transaction; what is there already is written over.

    Raises:
        LedgerError: What is to be copied is not what was written.
    """
    archive.execute("BEGIN IMMEDIATE")
    _put(archive, "scope", _scopes(ledger, family))
    for run in family.runs:
        for calls in _calls_of(ledger, run):
            _put(archive, "call", calls)
    _put(archive, "position", _positions(ledger, archive, family))
    seqs = [seq for seqs, _ in family.events.values() for seq in seqs]
    events = event_reader.intact(ledger, [*seqs, *family.scope_events])
    _put(archive, "event", ((*event[:8], event.digested(), event.hash) for event in events))
    _count(archive, family.runs)
    archive.execute("COMMIT")


def _put(archive: sqlite3.Connection, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    width = len(archive.execute(f"PRAGMA table_info({table})").fetchall())
    places = ", ".join("?" * width)
    archive.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({places})", rows)  # noqa: S608 -- constants


def _scopes(ledger: sqlite3.Connection, family: Family) -> Iterator[tuple[Any, ...]]:
    """Yield the family's runs and their tools, with nothing counted yet."""
    columns = [row[1] for row in ledger.execute("PRAGMA table_info(scope)").fetchall()]
    counted = ("spent", "reserved", "calls", "refused")
    selected = ", ".join("0" if column in counted else column for column in columns)
    for run in family.runs:
        for which in ("id = ?", "kind = 'tool' AND parent = ?"):
            rows = ledger.execute(f"SELECT {selected} FROM scope WHERE {which}", (run,))  # noqa: S608 -- constants
            yield from rows.fetchall()


def _calls_of(ledger: sqlite3.Connection, run: int) -> Iterator[list[tuple[Any, ...]]]:
    after = 0
    page = "SELECT * FROM call WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?"
    while calls := ledger.execute(page, (run, after, PAGE)).fetchall():
        yield calls
        after = calls[-1][0]


def _positions(
    ledger: sqlite3.Connection, archive: sqlite3.Connection, family: Family
) -> Iterator[tuple[Any, ...]]:
    """Yield the positions whose newest call is one of the family's."""
    for run in family.runs:
        for (key,) in archive.execute(_MOVED_BY, (run,)).fetchall():
            found = ledger.execute(_POSITION, (key,)).fetchone()
            if found is not None and found[0] in family.runs:
                yield found[1:]


_MOVED_BY = "SELECT DISTINCT position FROM call WHERE run = ? AND position IS NOT NULL"
_POSITION = """
SELECT call.run, position.* FROM position JOIN call ON call.seq = position.last_call
WHERE position.key = ?
"""


def _count(archive: sqlite3.Connection, runs: Iterable[int]) -> None:
    """Have the totals be those of the calls in the archive."""
    among = ", ".join(map(str, runs))
    archive.execute(_COUNT_BUCKETS.format(among))
    archive.executemany(_COUNTED, archive.execute(_COUNT_SCOPES.format(among)).fetchall())


_COUNTED = "UPDATE scope SET spent = ?, calls = ?, refused = ? WHERE id = ?"
# As the ledger counts: an admitted call carries the process that made it.
_COUNT_SCOPES = """
SELECT sum(coalesce(call.cost, 0)), sum(call.process IS NOT NULL), sum(call.state = 'refused'),
    charged.value
FROM call, json_each(call.scopes) AS charged
WHERE call.run IN ({}) GROUP BY charged.value
"""
_COUNT_BUCKETS = """
INSERT OR REPLACE INTO bucket (scope, rule, at, spent, reserved, calls)
SELECT json_extract(charged.value, '$[0]'), json_extract(charged.value, '$[1]'),
    json_extract(charged.value, '$[2]'), sum(coalesce(call.cost, 0)), 0, count(*)
FROM call, json_each(call.buckets) AS charged
WHERE call.run IN ({}) AND call.buckets IS NOT NULL GROUP BY 1, 2, 3
"""
