"""How a SQLite ledger is reached: one file, one connection to write and one to read."""

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

# Connections that a forked child inherited. They are the parent's: using or even closing one
# would corrupt what the parent does, so they are kept from the garbage collector instead.
_INHERITED: list[sqlite3.Connection] = []

# What the ledger itself can fail with; anything else that comes out of a transaction is the
# answer of somebody above.
FAULTS = (sqlite3.Error, OSError, OverflowError, ledger_files.Unusable)

# Checkpoint every 4 MB, and give the space back when a long reader has let the log grow.
_PRAGMAS = ("journal_mode=WAL", "wal_autocheckpoint=2000", "journal_size_limit=16777216")


# Greenlets look so often whether another program's transaction is over.
_PAUSE_S = 0.01


class Store:
    """
    The file of a ledger, and the only way to read or write it.

    Whoever writes holds the lock: see ``GroupCommit``, which alone begins and ends transactions.

    Args:
        path: Absolute; made if there is nothing there.
        lock_timeout_s: How long a writer waits for its turn.
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
        """Have the next transaction keep to these; see the arguments of the class."""
        self.lock_timeout_s = lock_timeout_s
        self._durable = "FULL" if durability == "power" else "NORMAL"
        self._patient: bool | None = None  # SQLite has to be told anew how long it may wait

    # Reading

    def read(self, statement: str, parameters: tuple[object, ...]) -> list[tuple[Any, ...]]:
        """Read without waiting for writers; one statement is one consistent view."""
        with self.reading() as reader:
            return reader.execute(statement, parameters).fetchall()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Return the connection that reads, for a block; no other thread has it meanwhile."""
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
        Begin a transaction.

        Args:
            durable: A power cut after its end loses nothing, if the ledger is that durable.
            wait: Whether SQLite may wait for a program that does not know our lock.
            check: Look at what is in the file as well: whether it is the newest, say.
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
        """Commit the transaction; its reservations may be sent then."""
        writing.cursor.execute("COMMIT")
        self._chain.committed()
        self._identity.advance(self._chain.seq, durable=self._synchronous == "FULL")
        if not self._identity.learn_log():
            self._hold.take()
        elif not self._hold.is_firm:
            self._identity.check_log()  # nothing may be sent on a reservation in a log that is gone

    def has_committed(self) -> bool:
        """Return whether nothing is open: what was begun has been committed, or never was."""
        return self._writer is None or not self._writer.in_transaction

    def roll_back(self) -> None:
        """Roll back whatever is open."""
        if self._writer is None:
            return
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error:
            # A connection that cannot even roll back is not to be used again.
            with contextlib.suppress(sqlite3.Error):
                self._writer.close()
            self._writer = self._cursor = None

    def unavailable(self, why: object) -> LedgerUnavailable:
        """Return *why* as the refusal it is."""
        message = (
            f"The ledger {self.path} cannot be used: {why}. Nothing was sent. Do not retry; a "
            f"person has to look: keybrake doctor"
        )
        return LedgerUnavailable(message, reason="ledger_unavailable", hint="Run keybrake doctor.")

    def _begin(self, cursor: sqlite3.Cursor, *, wait: bool) -> None:
        """Begin, once no program that does not know our lock is in the middle of a transaction."""
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
            self._synchronous = ""  # until it is done: an error in between must not look like done
            cursor.execute(f"PRAGMA synchronous={level}")
            self._synchronous = level

    def _set_patience(self, cursor: sqlite3.Cursor, *, wait: bool) -> None:
        """Have SQLite wait for another program's transaction, or not: an event loop must not."""
        if self._patient is not wait:
            patience_ms = int(self.lock_timeout_s * 1000) if wait else 0
            self._patient = None
            cursor.execute(f"PRAGMA busy_timeout={patience_ms}")
            self._patient = wait

    # Opening and closing

    def _open(self) -> sqlite3.Cursor:
        """Open the file, making it first."""
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
        """Close the connections, under the lock: the last one to close writes the WAL back."""
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
        """Let go of a ledger that could not be opened."""
        atexit.unregister(self.close)
        self.lock.close()
