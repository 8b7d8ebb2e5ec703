"""
Group commit: threads that arrive during a commit share the next transaction.

A thread that finds the lock free leads. It locks the file, begins a transaction, does its own work
and the work of all threads that are waiting, commits once, and wakes them. If the work of one thread
fails, the leader rolls back and repeats each piece of work in a transaction for itself.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from keybrake.errors import LedgerUnavailable
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.protocol import Busy, Spoiled
from keybrake.ledger.stores.sqlite.connections import FAULTS, Store
from keybrake.ledger.stores.sqlite.write_lock import NESTED
from keybrake.model.waiting import Gate, monotonic

T = TypeVar("T")

# A larger batch would only make the thread at the head of the queue wait longer.
_LARGEST_BATCH = 128
# A waiting thread counts slices of this length, so a clock that jumps cannot make it give up early.
_SLICE_S = 0.25
_TRIES = 3
# A file system without locks reports one of these.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class _Result:
    """The end of one transaction; all work in that transaction shares the object."""

    __slots__ = ("error", "over")

    def __init__(self) -> None:
        self.over = False
        self.error: Exception | None = None


class _Work:
    """The work of one thread: a function that writes, and later its return value and its result."""

    __slots__ = ("_gate", "check", "durable", "function", "result", "since", "value")

    def __init__(self, function: Callable[[Writing], Any], *, durable: bool, check: bool) -> None:
        self.function = function
        self.durable = durable
        self.check = check
        self.result: _Result | None = None
        self.value: Any = None
        self._gate: Gate | None = None
        self.since: float | None = None

    def is_done(self) -> bool:
        """Return whether its transaction has ended, with success or with an error."""
        return self.result is not None and self.result.over

    def line_up(self) -> None:
        """Prepare for waiting; only a thread that does not lead pays for the gate."""
        self._gate, self.since = Gate(), monotonic()

    def wait(self, timeout_s: float) -> None:
        """Wait until another thread calls ``wake``, or until the time is over."""
        assert self._gate is not None
        self._gate.wait(timeout_s)

    def wake(self) -> None:
        """Wake the waiting thread: its work is done, or it may lead now."""
        assert self._gate is not None
        self._gate.open()


class GroupCommit:
    """The transactions of one ledger in this process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = store.lock
        self._waiting: deque[_Work] = store.lock.waiting  # type: ignore[assignment]  # holds only _Work
        # The transaction of a together() block: has any work in it failed, is any running?
        self._shared: Writing | None = None
        self._spoiled = False
        self._working = False

    def take(
        self,
        function: Callable[[Writing], T],
        *,
        durable: bool = False,
        wait: bool = True,
        check: bool = True,
    ) -> T:
        """
        Call *function* in a transaction, and return its value once that is committed.

        Args:
            function: Writes to the ledger. It is called again after a rollback.
            durable: The transaction must survive a power cut, if ``durability`` is ``power``.
            wait: See ``Ledger``.
            check: Also check the contents of the file: that it is the newest copy, for example.

        Raises:
            LedgerUnavailable: The ledger cannot be locked in time, opened, read or written.
            Busy: *wait* is False and another thread or process holds the lock.
        """
        if self._shared is not None and self._lock.is_mine():
            return self._join(function)
        try:
            if self._lock.enter():
                answer = self._lead(_Work(function, durable=durable, check=check), wait=wait)
            elif wait:
                answer = self._follow(_Work(function, durable=durable, check=check))
            else:
                raise Busy  # noqa: TRY301 -- cleaned up like every other error
        except BlockingIOError as error:
            raise self._store.unavailable(error) from error
        except BaseException:
            # A KeyboardInterrupt may hit anywhere above and leave the lock or a transaction behind.
            self._clean_up()
            raise
        value: T = answer
        return value

    @contextlib.contextmanager
    def together(self, *, durable: bool, wait: bool) -> Iterator[None]:
        """
        Put all work of this thread inside the block into one transaction.

        Raises:
            Spoiled: Some work failed, so the whole transaction was rolled back.
            LedgerUnavailable: As in ``take``; nothing was written.
            Busy: As in ``take``.
        """
        try:
            with self._together(durable=durable, wait=wait):
                yield
        finally:
            self._shared = None
            self._clean_up()

    @contextlib.contextmanager
    def _together(self, *, durable: bool, wait: bool) -> Iterator[None]:
        deadline_s = self._store.lock_timeout_s if wait else 0.0
        try:
            if not self._lock.enter(deadline_s):
                raise self._timed_out() if wait else Busy
            self._lock_file(deadline_s)
            with self._faults(wait=wait):
                writing = self._store.begin(durable=durable, wait=wait, check=True)
            self._shared, self._spoiled, self._working = writing, False, False
            yield
            self._shared = None
            if self._spoiled:
                raise Spoiled
            with self._faults(wait=wait):
                self._store.commit(writing)
        finally:
            self._shared = None
            self._clean_up()

    def _join(self, function: Callable[[Writing], T]) -> T:
        """Call *function* in the transaction of the surrounding ``together`` block."""
        if self._working:
            raise self._store.unavailable(NESTED)
        assert self._shared is not None
        try:
            self._working = True
            return function(self._shared)
        except BaseException:
            self._spoiled = True
            raise
        finally:
            self._working = False

    # Leading

    def _lead(self, work: _Work, *, wait: bool, patience_s: float | None = None) -> Any:
        """Do *work* and the work of all waiting threads; the caller has entered the lock."""
        store, deadline_s = self._store, 0.0
        if wait:
            deadline_s = store.lock_timeout_s if patience_s is None else patience_s
        try:
            self._lock_file(deadline_s)
            # An event loop (wait=False) commits only its own work: a batch may have to wait for SQLite.
            if self._waiting and wait:
                return self._lead_batch(work)
            try:
                writing = store.begin(durable=work.durable, wait=wait, check=work.check)
                value = work.function(writing)
                store.commit(writing)
            except FAULTS as error:
                store.roll_back()
                if not wait and _is_busy(error):
                    raise Busy from None
                raise store.unavailable(error) from error
            return value
        finally:
            self._clean_up()

    def _lead_batch(self, work: _Work) -> Any:
        batch = [work]
        with contextlib.suppress(IndexError):
            while len(batch) < _LARGEST_BATCH:
                batch.append(self._waiting.popleft())
        self._do_batch(batch)
        return self._outcome(work)

    def _do_batch(self, batch: list[_Work]) -> None:
        """Do the work of several threads; on any error each of them is woken or queued again."""
        store = self._store
        try:
            try:
                durable, check = any(w.durable for w in batch), any(w.check for w in batch)
                writing = store.begin(durable=durable, wait=True, check=check)
                values = [work.function(writing) for work in batch]
            except Exception:  # noqa: BLE001 -- _do_alone finds the work that failed
                store.roll_back()
                for work in batch:
                    self._do_alone(work)
            else:
                self._commit(writing, batch, values)
        finally:
            self._wake_or_requeue(batch[1:])

    def _do_alone(self, work: _Work) -> None:
        try:
            writing = self._store.begin(durable=work.durable, wait=True, check=work.check)
            values = [work.function(writing)]
        except Exception as error:  # noqa: BLE001 -- _outcome raises it in the thread of this work
            self._store.roll_back()
            work.result = _Result()
            work.result.error, work.result.over = error, True
        else:
            self._commit(writing, [work], values)

    def _commit(self, writing: Writing, batch: Sequence[_Work], values: Sequence[object]) -> None:
        result = _Result()
        for work, value in zip(batch, values, strict=True):
            work.value, work.result = value, result
        try:
            self._store.commit(writing)
            result.over = True
        except Exception as error:  # noqa: BLE001 -- _outcome raises it in every thread of the batch
            self._store.roll_back()
            result.error, result.over = error, True
        except BaseException:
            # A KeyboardInterrupt hit before or after the COMMIT: only SQLite knows which.
            result.over = self._store.has_committed()
            raise

    def _wake_or_requeue(self, batch: Sequence[_Work]) -> None:
        """Wake the threads with finished work; put unfinished work back at the head of the queue."""
        interrupt = None
        for _ in range(_TRIES):
            try:
                waiting = self._waiting
                for work in reversed(batch):
                    if work.is_done():
                        work.wake()
                    elif work not in waiting:
                        waiting.appendleft(work)
                break
            except BaseException as error:  # noqa: BLE001 -- Ctrl-C must not leave others waiting
                interrupt = error
        if interrupt is not None:
            raise interrupt

    def _outcome(self, work: _Work) -> Any:
        """Return the value of finished work, or raise its error."""
        assert work.result is not None
        error = work.result.error
        if error is None:
            return work.value
        if isinstance(error, FAULTS):
            raise self._store.unavailable(error) from error
        raise error

    # Following

    def _follow(self, work: _Work) -> Any:
        """Wait until a leader has done *work*, or become the leader."""
        work.line_up()
        patience_s = self._store.lock_timeout_s
        try:
            self._waiting.append(work)
            while not work.is_done():
                if self._lock.enter(since=work.since):
                    # No leader is active now, so unfinished work is ours even if an interrupted
                    # leader had already taken it from the queue.
                    self._withdraw(work)
                    if not work.is_done():
                        return self._lead(work, wait=True, patience_s=patience_s)
                    self._clean_up()
                    break
                began = monotonic()
                work.wait(min(patience_s, _SLICE_S))
                patience_s -= min(max(monotonic() - began, 0.0), _SLICE_S)
                if patience_s <= 0.0:
                    if self._withdraw(work):
                        raise self._timed_out()  # noqa: TRY301 -- cleaned up like every other error
                    # A leader has already taken the work: wait for its answer.
                    patience_s = self._store.lock_timeout_s
        except BaseException:
            self._withdraw(work)
            raise
        return self._outcome(work)

    def _withdraw(self, work: _Work) -> bool:
        """Take *work* out of the queue; return whether it was still there."""
        try:
            self._waiting.remove(work)
        except ValueError:
            return False
        return True

    # The lock

    def _lock_file(self, deadline_s: float) -> None:
        try:
            self._lock.lock_file(deadline_s)
        except Busy:
            if deadline_s == 0.0:
                raise
            raise self._timed_out() from None
        except OSError as error:
            why = f"{self._lock.path} cannot be locked ({error.strerror})"
            if error.errno in _NO_LOCKS:
                why += "; put the ledger on a local disk"
            raise self._store.unavailable(why) from error

    def _timed_out(self) -> LedgerUnavailable:
        seconds = self._store.lock_timeout_s
        return self._store.unavailable(
            f"it was not free within {seconds:g} s; another process holds {self._lock.path}"
        )

    @contextlib.contextmanager
    def _faults(self, *, wait: bool) -> Iterator[None]:
        """Turn an error of the store into ``LedgerUnavailable``, or into ``Busy``."""
        try:
            yield
        except FAULTS as error:
            if not wait and _is_busy(error):
                raise Busy from None
            raise self._store.unavailable(error) from error

    def _clean_up(self) -> None:
        """If this thread holds the lock, roll back an open transaction and release the lock."""
        try:
            if self._lock.is_mine():
                self._store.roll_back()
        finally:
            self._lock.let_go()


def _is_busy(error: BaseException) -> bool:
    return (
        isinstance(error, sqlite3.OperationalError)
        and error.sqlite_errorcode == sqlite3.SQLITE_BUSY
    )
