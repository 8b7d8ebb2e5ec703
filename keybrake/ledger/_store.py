"""How a SQLite ledger is reached: one file, one lock, one connection to write and one to read."""

from __future__ import annotations

import atexit
import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from keybrake.errors import LedgerUnavailable
from keybrake.ledger import _files, _owners
from keybrake.ledger._hold import Hold
from keybrake.ledger._lock import LedgerLock
from keybrake.ledger.protocol import Busy

# Connections that a forked child inherited. They are the parent's: using or even closing one
# would corrupt what the parent does, so they are kept from the garbage collector instead.
_INHERITED: list[sqlite3.Connection] = []

# What the ledger itself can fail with; anything else that comes out of a transaction is the
# answer of somebody above.
_FAULTS = (sqlite3.Error, OSError, OverflowError, _files.Unusable)


# Checkpoint every 4 MB, and give the space back when a long reader has let the log grow.
_PRAGMAS = ("journal_mode=WAL", "wal_autocheckpoint=2000", "journal_size_limit=16777216")

_DELETED = "the file was deleted while keybrake was using it; put it back, or restart every process"
_LOST_WAL = (
    "its write-ahead log, or the index of it, was removed while this process was using it, after "
    "some code here opened and closed the file by itself, or somebody deleted it. Restart this "
    "process to go on; copy a ledger with sqlite3's .backup, from another process"
)
_REPLACED = (
    "the file was replaced while keybrake was using it; what was spent stands in the old one. Put "
    "it back, or restart every process to begin with the new one"
)


class Store:
    """
    The file of a ledger, and the only way to read or write it.

    Args:
        path: Absolute; made if there is nothing there.
        lock_timeout_s: How long a writer waits for its turn.
        durability: ``power`` or ``process``; see ``Config``.
    """

    def __init__(self, path: Path, *, lock_timeout_s: float, durability: str) -> None:
        self.path = path
        self._side_files = _files.side_files(path)
        self._hold = Hold(path, self._side_files[1])
        self.lock = LedgerLock(_files.lock_path(path))
        self._lock_timeout_s = lock_timeout_s
        self._durable = "FULL" if durability == "power" else "NORMAL"
        self._synchronous = ""
        self._patient = True
        self._writer: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor | None = None
        self._reader: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._sides: tuple[_Id, _Id] | None = None
        self._pid = os.getpid()
        atexit.register(self.close)
        try:
            _files.prepare_folder(path)
        except OSError as error:
            raise self._unavailable(error) from error
        try:
            with self.transaction():
                pass  # opens, makes or refuses the file now rather than at the first call
        except BaseException:
            atexit.unregister(self.close)
            self.lock.close()
            raise

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
                self._refuse_lost_wal()
                if self._reader is None:
                    self._reader = _files.connect(self.path, read_only=True)
                yield self._reader
        except _FAULTS as error:
            raise self._unavailable(error) from error

    def transaction(
        self, *, durable: bool = False, wait: bool = True, check: bool = True
    ) -> _Transaction:
        """
        Return a block that is one transaction under the lock.

        Args:
            durable: A power cut after its end loses nothing, if the ledger is that durable.
            wait: See ``Ledger``.
            check: Look first whether the file behind the path is still the one it was.

        Raises:
            LedgerUnavailable: The ledger cannot be locked in time, opened, read or written.
            Busy: *wait* is False and somebody else holds the lock.
        """
        return _Transaction(self, durable=durable, wait=wait, check=check)

    def begin(self, *, durable: bool, wait: bool, check: bool) -> sqlite3.Cursor:
        """
        Take the lock and begin a transaction.

        Raises:
            LedgerUnavailable: The ledger cannot be locked in time or opened.
            Busy: *wait* is False and somebody else holds the lock.
        """
        try:
            self.lock.acquire(self._lock_timeout_s if wait else 0.0)
            cursor = self._open_cursor(check=check)
            self._set_synchronous(cursor, self._durable if durable else "NORMAL")
            self._set_patience(cursor, wait=wait)
            cursor.execute("BEGIN IMMEDIATE")
        except Busy:
            if not wait:
                raise
            msg = f"it was not free within {self._lock_timeout_s:g} s; another process holds {self.lock.path}"
            raise self._unavailable(msg) from None
        except BlockingIOError as error:
            raise self._unavailable(error) from error
        except BaseException as error:
            # An interrupt may strike anywhere in between: what was taken or begun is undone here.
            self.undo()
            if not wait and _is_busy(error):
                raise Busy from None
            if isinstance(error, _FAULTS):
                raise self._unavailable(error) from error
            raise
        return cursor

    def commit(self, cursor: sqlite3.Cursor) -> None:
        """Commit the transaction and give the lock back."""
        try:
            cursor.execute("COMMIT")
            if self._sides is None:
                self._sides = self._side_ids()
                self._hold.take()
            elif not self._hold.is_firm:
                self._refuse_lost_wal()  # nothing may be sent on a reservation in a log that is gone
            self.lock.release()
        except BaseException as error:
            self.undo()
            if isinstance(error, _FAULTS):
                raise self._unavailable(error) from error
            raise

    def undo(self) -> None:
        """Roll back whatever is open and give the lock back, if this thread has it."""
        if not self.lock.is_mine():
            return
        try:
            self._roll_back()
        finally:
            self.lock.release()

    def fault(self, error: BaseException) -> LedgerUnavailable | None:
        """Return *error* as a refusal if it is the ledger's own; None: it is not."""
        return self._unavailable(error) if isinstance(error, _FAULTS) else None

    def _set_synchronous(self, cursor: sqlite3.Cursor, level: str) -> None:
        if self._synchronous != level:
            cursor.execute(f"PRAGMA synchronous={level}")
            self._synchronous = level

    def _set_patience(self, cursor: sqlite3.Cursor, *, wait: bool) -> None:
        """Have SQLite wait for another program's transaction, or not: an event loop must not."""
        if self._patient is not wait:
            patience_ms = int(self._lock_timeout_s * 1000) if wait else 0
            cursor.execute(f"PRAGMA busy_timeout={patience_ms}")
            self._patient = wait

    def _open_cursor(self, *, check: bool) -> sqlite3.Cursor:
        self._notice_fork()
        self._refuse_lost_wal()
        if self._cursor is None:
            self._cursor = self._open()
        if not check:
            return self._cursor
        try:
            found = os.stat(self.path)  # noqa: PTH116 -- a third of the price of Path.stat()
        except FileNotFoundError:
            raise _files.Unusable(_DELETED) from None
        if (found.st_dev, found.st_ino) != self._identity:
            raise _files.Unusable(_REPLACED)
        if found.st_size == 0:
            msg = "the file was emptied while keybrake was using it; put it back from a copy"
            raise _files.Unusable(msg)
        return self._cursor

    def _open(self) -> sqlite3.Cursor:
        """Open the file, making or upgrading it first. The caller holds the lock."""
        if self._identity is None and not os.path.lexists(self.path):
            _files.create(self.path)
        try:
            _files.check_file(self.path)
        except FileNotFoundError:
            raise _files.Unusable(_DELETED) from None
        writer = _files.connect(self.path, timeout_s=self._lock_timeout_s)
        try:
            self._set_up(writer)
        except BaseException:
            writer.close()
            raise
        self._writer, self._synchronous, self._patient = writer, "", True
        return writer.cursor()

    def _set_up(self, writer: sqlite3.Connection) -> None:
        if _files.check_schema(writer, self.path) < _files.SCHEMA_VERSION:
            _files.migrate(writer)
        _owners.sweep(self.path)
        for pragma in _PRAGMAS:
            writer.execute(f"PRAGMA {pragma}")
        found = self.path.stat()
        # A forked child opens the file anew: it has to be the one its parent knew.
        if self._identity not in (None, (found.st_dev, found.st_ino)):
            raise _files.Unusable(_REPLACED)
        self._identity = (found.st_dev, found.st_ino)

    def _notice_fork(self) -> None:
        if self._pid == os.getpid():
            return
        _INHERITED.extend(c for c in (self._writer, self._reader) if c is not None)
        self._writer = self._cursor = self._reader = self._sides = None
        self._hold.inherit()
        self._pid = os.getpid()

    def _refuse_lost_wal(self) -> None:
        """
        Refuse if the write-ahead log is not the one this process writes to.

        Code that opens and closes the file by itself (a copy, a hash) drops this process's locks
        on it; the next process to leave then takes the log for its own and removes it. What was
        written so far is in the file by then, but this process would go on writing into a log
        that nobody reads, and SQLite cannot open another beside it.
        """
        if self._sides is not None and self._side_ids() != self._sides:
            raise _files.Unusable(_LOST_WAL)

    def _side_ids(self) -> tuple[_Id, _Id]:
        log, index = self._side_files
        return _id_of(log), _id_of(index)

    def _roll_back(self) -> None:
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

    def _unavailable(self, why: object) -> LedgerUnavailable:
        message = (
            f"The ledger {self.path} cannot be used: {why}. Nothing was sent. Do not retry; a "
            f"person has to look: keybrake doctor"
        )
        return LedgerUnavailable(message, reason="ledger_unavailable", hint="Run keybrake doctor.")

    def close(self) -> None:
        """Close the connections, under the lock: the last one to close writes the WAL back."""
        lost = self._sides is not None and self._side_ids() != self._sides
        if self._pid != os.getpid() or self._writer is None or lost:
            return
        with contextlib.suppress(Busy, OSError, sqlite3.Error), self.lock.held(1.0):
            self._hold.loosen()
            if self._reader is not None:
                self._reader.close()
            self._writer.close()
            self._hold.drop()
            self._writer = self._cursor = self._reader = self._sides = None


def _is_busy(error: BaseException) -> bool:
    return (
        isinstance(error, sqlite3.OperationalError)
        and error.sqlite_errorcode == sqlite3.SQLITE_BUSY
    )


_Id = tuple[int, int] | None


def _id_of(path: Path) -> _Id:
    try:
        found = os.stat(path)  # noqa: PTH116 -- a third of the price of Path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class _Transaction:
    """One transaction under the ledger's lock: committed whole, or as if it had never been."""

    # A class rather than a generator: it stands twice in the way of every call.
    __slots__ = ("_check", "_cursor", "_durable", "_store", "_wait")

    def __init__(self, store: Store, *, durable: bool, wait: bool, check: bool) -> None:
        self._check = check
        self._store = store
        self._durable = durable
        self._wait = wait

    def __enter__(self) -> sqlite3.Cursor:
        store = self._store
        try:
            self._cursor = store.begin(durable=self._durable, wait=self._wait, check=self._check)
        except Exception:
            raise
        except BaseException:
            # An interrupt on the way out of begin(): nobody else would end what it began.
            store.undo()
            raise
        return self._cursor

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._store.commit(self._cursor)
            return
        self._store.undo()
        fault = self._store.fault(error)
        if fault is not None:
            raise fault from error
