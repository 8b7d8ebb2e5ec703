"""The connections of a SQLite ledger: one to write and one to read, shared by all threads."""

from __future__ import annotations

import atexit
import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keybrake.errors import LedgerUnavailable
from keybrake.ledger.event_chain import Chain, Rewritten, Writing
from keybrake.ledger.protocol import Busy
from keybrake.ledger.stores.sqlite import ledger_files, owners
from keybrake.ledger.stores.sqlite.identity import Identity, check_index, check_log
from keybrake.ledger.stores.sqlite.wal_hold import Hold
from keybrake.ledger.stores.sqlite.write_lock import LedgerLock
from keybrake.model.waiting import monotonic, pause_of_hub

# Connections that a forked child inherited. Using or closing one would corrupt the parent's work, and
# the garbage collector would close them, so keep a reference.
_INHERITED: list[sqlite3.Connection] = []

# Errors of the store itself. Any other error out of a transaction is an answer to the caller, such as
# a refusal.
FAULTS = (sqlite3.Error, OSError, OverflowError, ledger_files.Unusable)

# Checkpoint every 4 MB; shrink a WAL that grew because a long read held up the checkpoints.
_PRAGMAS = ("journal_mode=WAL", "wal_autocheckpoint=2000", "journal_size_limit=16777216")


# A greenlet polls at this interval while another program has a transaction open.
_PAUSE_S = 0.01


class Store:
    """
    The only way to read or write a ledger's file.

    Only ``GroupCommit`` begins and ends transactions, and it holds the lock meanwhile.

    Args:
        path: Absolute path; the file is made if it does not exist.
        lock_timeout_s: How long a writer waits for the lock.
        durability: ``power`` or ``process``; see ``Config``.
    """

    def __init__(self, path: Path, *, lock_timeout_s: float, durability: str) -> None:
        self.path = path
        self.lock = LedgerLock(ledger_files.lock_path(path))
        self.configure(lock_timeout_s=lock_timeout_s, durability=durability)
        self._hold = Hold(path, *ledger_files.side_files(path))
        self._identity = Identity(path)
        self._chain = Chain()
        self._synchronous = ""
        self._writer: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor | None = None
        self._reader: sqlite3.Connection | None = None
        self._pid = os.getpid()
        try:
            ledger_files.prepare_folder(path)
        except OSError as error:
            raise self.unavailable(error) from error
        atexit.register(self.close)

    def configure(self, *, lock_timeout_s: float, durability: str) -> None:
        """Change the settings, from the next transaction on; see the arguments of the class."""
        self.lock_timeout_s = lock_timeout_s
        self._durable = "FULL" if durability == "power" else "NORMAL"
        self._patient: bool | None = None  # None: busy_timeout must be set again

    # Reading

    def read(self, statement: str, parameters: tuple[object, ...]) -> list[tuple[Any, ...]]:
        """Return the rows of one statement, which sees one snapshot and never waits for writers."""
        with self.reading() as reader:
            return reader.execute(statement, parameters).fetchall()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend the read connection to one thread for a block."""
        try:
            with self.lock.reading:
                self._notice_fork()
                self._identity.check_log()
                check_index(self._hold)
                if self._reader is None:
                    self._reader = ledger_files.connect(self.path, read_only=True)
                yield self._reader
        except FAULTS as error:
            raise self.unavailable(error) from error

    # Writing, under the lock

    def begin(self, *, durable: bool, wait: bool, check: bool) -> Writing:
        """
        Begin a transaction, after checks that the files are still the ones this process knows.

        Args:
            durable: The transaction must survive a power cut, if ``durability`` is ``power``.
            wait: Whether SQLite may wait for a program that does not use our lock.
            check: Also check the contents of the file: that it is the newest copy, for example.
        """
        self._notice_fork()
        if self._identity.check() and not self.lock.is_there():
            raise self._identity.lost_lock(self.lock.path)
        check_index(self._hold)
        if check:
            check_log(self._hold)
        cursor = self._cursor if self._cursor is not None else self._open()
        self._set_synchronous(cursor, self._durable if durable else "NORMAL")
        self._begin(cursor, wait=wait)
        try:
            self._chain.catch_up(cursor)
        except Rewritten:
            raise self._identity.rewritten() from None
        if check:
            file = self._hold.file()
            self._identity.check_contents(file.st_size, self._chain.seq, names=file.st_nlink)
        return Writing(cursor, self._chain)

    def commit(self, writing: Writing) -> None:
        """Commit the transaction; after this the calls it reserved for may be sent."""
        writing.cursor.execute("COMMIT")
        self._chain.committed()
        self._identity.advance(self._chain.seq, durable=self._synchronous == "FULL")
        if not self._identity.learn_log():
            self._hold.take()
        elif not self._hold.is_firm:
            # Without OFD locks the WAL may be gone, and this reservation with it: then send nothing.
            self._identity.check_log()

    def has_committed(self) -> bool:
        """Return whether no transaction is open: the last one was committed, or none was begun."""
        return self._writer is None or not self._writer.in_transaction

    def roll_back(self) -> None:
        """Roll back the open transaction, if there is one."""
        if self._writer is None:
            return
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error:
            # Do not use a connection again that cannot even roll back.
            with contextlib.suppress(sqlite3.Error):
                self._writer.close()
            self._writer = self._cursor = None

    def unavailable(self, why: object) -> LedgerUnavailable:
        """Return the refusal of a call because of *why*."""
        message = (
            f"The ledger {self.path} cannot be used: {why}. Nothing was sent. Do not retry; a "
            f"person has to look: keybrake doctor"
        )
        return LedgerUnavailable(message, reason="ledger_unavailable", hint="Run keybrake doctor.")

    def _begin(self, cursor: sqlite3.Cursor, *, wait: bool) -> None:
        """Begin a write transaction; wait for a program that has one open and does not use our lock."""
        pause = pause_of_hub() if wait else None
        self._set_patience(cursor, wait=wait and pause is None)
        until = monotonic() + self.lock_timeout_s
        while True:
            try:
                cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
                if pause is None or not is_busy or monotonic() >= until:
                    raise
                pause(_PAUSE_S)
            else:
                return

    def _set_synchronous(self, cursor: sqlite3.Cursor, level: str) -> None:
        if self._synchronous != level:
            self._synchronous = ""  # unknown until the PRAGMA has succeeded
            cursor.execute(f"PRAGMA synchronous={level}")
            self._synchronous = level

    def _set_patience(self, cursor: sqlite3.Cursor, *, wait: bool) -> None:
        """Set whether SQLite waits for another program's transaction; an event loop must not wait."""
        if self._patient is not wait:
            patience_ms = int(self.lock_timeout_s * 1000) if wait else 0
            self._patient = None
            cursor.execute(f"PRAGMA busy_timeout={patience_ms}")
            self._patient = wait

    # Opening and closing

    def _open(self) -> sqlite3.Cursor:
        """Open the file, and make it first if there is none; return a cursor to write with."""
        if not self._identity.is_known and not os.path.lexists(self.path):
            self._identity.refuse_to_begin_anew()
            ledger_files.refuse_network(self.path)
            ledger_files.create(self.path)
        try:
            ledger_files.check_file(self.path)
            if (words := ledger_files.second_name(self.path)) is not None:
                raise ledger_files.Unusable(words)
        except FileNotFoundError:
            raise self._identity.deleted() from None
        writer = ledger_files.connect(self.path, timeout_s=self.lock_timeout_s)
        try:
            self._set_up(writer)
        except BaseException:
            writer.close()
            raise
        self._writer, self._cursor = writer, writer.cursor()
        self._synchronous, self._patient = "", None
        return self._cursor

    def _set_up(self, writer: sqlite3.Connection) -> None:
        ledger_files.refuse_network(self.path)
        ledger_files.check_schema(writer, self.path)
        self._identity.learn(*writer.execute(ledger_files.NAME).fetchone())
        owners.sweep(self.path)
        for pragma in _PRAGMAS:
            writer.execute(f"PRAGMA {pragma}")

    def _notice_fork(self) -> None:
        if self._pid == os.getpid():
            return
        _INHERITED.extend(c for c in (self._writer, self._reader) if c is not None)
        self._writer = self._cursor = self._reader = None
        self._identity.forget_log()
        self._hold.inherit()
        self._pid = os.getpid()

    def close(self) -> None:
        """Close the connections under the lock, because SQLite's last close checkpoints the WAL."""
        if self._pid != os.getpid() or self._writer is None or self._identity.has_lost_log():
            return
        with contextlib.suppress(Busy, OSError, sqlite3.Error), self.lock.held(1.0):
            self._hold.loosen()
            if self._reader is not None:
                self._reader.close()
            self._writer.close()
            self._hold.drop()
            self._writer = self._cursor = self._reader = None
            self._identity.forget_log()

    def give_up(self) -> None:
        """Close the lock file of a ledger that could not be opened."""
        atexit.unregister(self.close)
        self.lock.close()
