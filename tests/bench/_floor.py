"""What any ledger must cost: two raw transactions that keep a counter and a row."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from filelock import lock_descriptor, unlock_descriptor

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run
    (id INTEGER PRIMARY KEY, cap INTEGER, spent INTEGER, reserved INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS call (id INTEGER PRIMARY KEY, run INTEGER, at INTEGER, endpoint TEXT,
    state INTEGER, reserved INTEGER, cost INTEGER) STRICT;
CREATE INDEX IF NOT EXISTS call_run ON call (run, id);
INSERT OR IGNORE INTO run VALUES (1, 1000000000000000, 0, 0);
"""


class Floor:
    """BEGIN; UPDATE with the cap in WHERE; INSERT; COMMIT / BEGIN; UPDATE; UPDATE; COMMIT."""

    def __init__(self, path: Path, *, durability: str) -> None:
        # Long enough that SQLite's own waiting never gives up in a bench.
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=60)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.executescript(_SCHEMA)
        self._cursor = self._connection.cursor()
        # One connection that switches, as ours is; in process durability nobody has to.
        self._switches = durability == "power"
        self._row: int | None = None
        self.calls = 0

    def call(self) -> None:
        """Record one call of one cent."""
        self.admit()
        self.settle()

    def admit(self) -> None:
        """Reserve a cent, if the cap allows it."""
        cursor = self._cursor
        if self._switches:
            cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute(
            "UPDATE run SET reserved = reserved + ? WHERE id = 1 AND spent + reserved + ? <= cap",
            (10_000, 10_000),
        )
        cursor.execute(
            "INSERT INTO call (run, at, endpoint, state, reserved) VALUES (1, ?, ?, 0, ?)",
            (1, "stripe.payment_intents.create", 10_000),
        )
        self._row = cursor.lastrowid
        cursor.execute("COMMIT")

    def settle(self) -> None:
        """Replace the reservation by its cost."""
        cursor = self._cursor
        if self._switches:
            cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("UPDATE call SET state = 1, cost = ? WHERE id = ?", (10_000, self._row))
        cursor.execute(
            "UPDATE run SET reserved = reserved - ?, spent = spent + ? WHERE id = 1",
            (10_000, 10_000),
        )
        cursor.execute("COMMIT")
        self.calls += 1

    def check(self, calls: int | None = None) -> None:
        """Assert that the totals are exact: those of *calls*, or of its own if nobody else writes."""
        made = (self.calls if calls is None else calls) * 10_000
        totals = self._cursor.execute("SELECT spent, reserved FROM run").fetchone()
        assert totals == (made, 0), (totals, made)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


class Sync:
    """One durable write of 200 bytes: over what is there, as a log in use is, or at the end."""

    def __init__(self, path: Path, *, grows: bool) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        self._grows = grows
        self._at = 0
        if not grows:
            os.write(self._fd, bytes(_ROOM))
            os.fsync(self._fd)

    def call(self) -> None:
        """Write and wait for the disk."""
        os.pwrite(self._fd, _RECORD, self._at)
        _sync(self._fd)
        self._at += len(_RECORD)
        if not self._grows and self._at > _ROOM - len(_RECORD):
            self._at = 0

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


_RECORD = b"r" * 200
_ROOM = 1 << 20
# macOS has no fdatasync.
_sync = getattr(os, "fdatasync", os.fsync)


class Lock:
    """The file lock alone, taken and given back on a descriptor that stays open."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)

    def flock(self) -> None:
        """As the system has it."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def descriptor(self) -> None:
        """As filelock has it, which the ledger uses."""
        lock_descriptor(self._fd, blocking=False)
        unlock_descriptor(self._fd)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


class Empty:
    """A transaction that writes nothing."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._cursor = self._connection.cursor()

    def call(self) -> None:
        """Begin and end it."""
        self._cursor.execute("BEGIN IMMEDIATE")
        self._cursor.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
