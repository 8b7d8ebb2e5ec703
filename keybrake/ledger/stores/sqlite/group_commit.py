"""
Whose work goes into which transaction: who waits while the disk is busy goes with the next one.

A thread that finds nobody inside leads: it takes the lock of the file, begins a transaction, does
its own work and that of every thread that waits by then, commits once, and wakes them. Each piece
of work decides for itself; if one fails, each is done in a transaction of its own.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

from keybrake.errors import LedgerUnavailable
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.protocol import Busy, Spoiled
from keybrake.ledger.stores.sqlite.connections import FAULTS, Store
from keybrake.ledger.stores.sqlite.write_lock import NESTED
from keybrake.model.waiting import Gate, monotonic

T = TypeVar("T")

# As many as can wait in a process of many threads; more would only make the first wait longer.
_MOST_TOGETHER = 128
# Waiting is counted in slices, so that a clock that jumps makes nobody give up.
_SLICE_S = 0.25
_TRIES = 3
# What a file system says that has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class _Fate:
    """What became of a transaction, shared by all whose work is in it."""

    __slots__ = ("error", "over")

    def __init__(self) -> None:
        self.over = False
        self.error: Exception | None = None


class _Turn:
    """One thread's piece of work."""

    __slots__ = ("_gate", "check", "durable", "fate", "result", "since", "work")

    def __init__(self, work: Callable[[Writing], Any], *, durable: bool, check: bool) -> None:
        self.work = work
        self.durable = durable
        self.check = check
        self.fate: _Fate | None = None
        self.result: Any = None
        self._gate: Gate | None = None
        self.since: float | None = None

    def is_done(self) -> bool:
        """Whether it is over, well or not."""
        return self.fate is not None and self.fate.over

    def line_up(self) -> None:
        """Make it possible to wait."""
        self._gate, self.since = Gate(), monotonic()

    def wait(self, timeout_s: float) -> None:
        """Wait to be woken."""
        assert self._gate is not None
        self._gate.wait(timeout_s)

    def wake(self) -> None:
        """Have the waiting thread look: its work is done, or it may lead."""
        assert self._gate is not None
        self._gate.open()


class Turns:
    """The transactions of one ledger in this process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = store.lock
        self._waiting: deque[_Turn] = store.lock.waiting  # type: ignore[assignment]  # only turns wait there
        self._shared: Writing | None = None
        self._spoiled = False
        self._joined = False

    def take(
        self,
        work: Callable[[Writing], T],
        *,
        durable: bool = False,
        wait: bool = True,
        check: bool = True,
    ) -> T:
        """
        Do *work* in a transaction, and return its result once that is committed.

        Args:
            work: What to write. It may be called again, if the first time was rolled back.
            durable: A power cut after it loses nothing, if the ledger is that durable.
            wait: See ``Ledger``.
            check: Look at what is in the file as well: whether it is the newest, say.

        Raises:
            LedgerUnavailable: The ledger cannot be locked in time, opened, read or written.
            Busy: *wait* is False and somebody else holds the lock.
        """
        if self._shared is not None and self._lock.is_mine():
            return self._join(work)
        try:
            if self._lock.enter():
                answer = self._lead(_Turn(work, durable=durable, check=check), wait=wait)
            elif wait:
                answer = self._follow(_Turn(work, durable=durable, check=check))
            else:
                self._be_busy()
        except BlockingIOError as error:
            raise self._store.unavailable(error) from error
        except BaseException:
            # An error may strike anywhere in between: what was taken or begun is undone here.
            self._abandon()
            raise
        result: T = answer
        return result

    @contextlib.contextmanager
    def together(self, *, durable: bool, wait: bool) -> Iterator[None]:
        """
        Let everything this thread asks inside the block be one transaction.

        Raises:
            Spoiled: One piece of work failed, so nothing of it was written.
            LedgerUnavailable: As in ``take``; nothing was written.
            Busy: As in ``take``.
        """
        try:
            with self._together(durable=durable, wait=wait):
                yield
        finally:
            self._shared = None
            self._abandon()

    @contextlib.contextmanager
    def _together(self, *, durable: bool, wait: bool) -> Iterator[None]:
        deadline_s = self._store.lock_timeout_s if wait else 0.0
        try:
            if not self._lock.enter(deadline_s):
                raise self._too_late() if wait else Busy
            self._lock_file(deadline_s)
            with self._faults(wait=wait):
                writing = self._store.begin(durable=durable, wait=wait, check=True)
            self._shared, self._spoiled, self._joined = writing, False, False
            yield
            self._shared = None
            if self._spoiled:
                raise Spoiled
            with self._faults(wait=wait):
                self._store.commit(writing)
        finally:
            self._shared = None
            self._abandon()

    def _join(self, work: Callable[[Writing], T]) -> T:
        if self._joined:
            raise self._store.unavailable(NESTED)
        assert self._shared is not None
        try:
            self._joined = True
            return work(self._shared)
        except BaseException:
            self._spoiled = True
            raise
        finally:
            self._joined = False

    # Leading

    def _lead(self, turn: _Turn, *, wait: bool, patience_s: float | None = None) -> Any:
        """Carry out *turn*, and whatever waits by then. This thread keeps the others out."""
        store, deadline_s = self._store, 0.0
        if wait:
            deadline_s = store.lock_timeout_s if patience_s is None else patience_s
        try:
            self._lock_file(deadline_s)
            # An event loop commits nobody else's work: it may not wait for SQLite in their place.
            if self._waiting and wait:
                return self._lead_others(turn)
            try:
                writing = store.begin(durable=turn.durable, wait=wait, check=turn.check)
                result = turn.work(writing)
                store.commit(writing)
            except FAULTS as error:
                store.roll_back()
                if not wait and _is_busy(error):
                    raise Busy from None
                raise store.unavailable(error) from error
            return result
        finally:
            self._abandon()

    def _lead_others(self, turn: _Turn) -> Any:
        batch = [turn]
        with contextlib.suppress(IndexError):
            while len(batch) < _MOST_TOGETHER:
                batch.append(self._waiting.popleft())
        self._carry_out(batch)
        return self._outcome(turn)

    def _carry_out(self, batch: list[_Turn]) -> None:
        """Do the work of several threads; none of them is left waiting, whatever strikes."""
        store = self._store
        try:
            try:
                durable, check = any(t.durable for t in batch), any(t.check for t in batch)
                writing = store.begin(durable=durable, wait=True, check=check)
                results = [turn.work(writing) for turn in batch]
            except Exception:  # noqa: BLE001 -- whose it is shows when each is by itself
                store.roll_back()
                for turn in batch:
                    self._by_itself(turn)
            else:
                self._commit(writing, batch, results)
        finally:
            self._let_go(batch[1:])

    def _by_itself(self, turn: _Turn) -> None:
        try:
            writing = self._store.begin(durable=turn.durable, wait=True, check=turn.check)
            results = [turn.work(writing)]
        except Exception as error:  # noqa: BLE001 -- it is raised in the thread it belongs to
            self._store.roll_back()
            turn.fate = _Fate()
            turn.fate.error, turn.fate.over = error, True
        else:
            self._commit(writing, [turn], results)

    def _commit(self, writing: Writing, batch: Sequence[_Turn], results: Sequence[object]) -> None:
        fate = _Fate()
        for turn, result in zip(batch, results, strict=True):
            turn.result, turn.fate = result, fate
        try:
            self._store.commit(writing)
            fate.over = True
        except Exception as error:  # noqa: BLE001 -- it is raised in each thread it belongs to
            self._store.roll_back()
            fate.error, fate.over = error, True
        except BaseException:
            # An interrupt, before or after it was written: SQLite knows which.
            fate.over = self._store.has_committed()
            raise

    def _let_go(self, batch: Sequence[_Turn]) -> None:
        """Wake the threads whose work is done; what an interrupt kept from that is done by another."""
        interrupt = None
        for _ in range(_TRIES):
            try:
                waiting = self._waiting
                for turn in reversed(batch):
                    if turn.is_done():
                        turn.wake()
                    elif turn not in waiting:
                        waiting.appendleft(turn)
                break
            except BaseException as error:  # noqa: BLE001 -- Ctrl-C must not leave others waiting
                interrupt = error
        if interrupt is not None:
            raise interrupt

    def _outcome(self, turn: _Turn) -> Any:
        assert turn.fate is not None
        error = turn.fate.error
        if error is None:
            return turn.result
        if isinstance(error, FAULTS):
            raise self._store.unavailable(error) from error
        raise error

    # Following

    def _follow(self, turn: _Turn) -> Any:
        """Wait until a leading thread has done the work, or lead."""
        turn.line_up()
        patience_s = self._store.lock_timeout_s
        try:
            self._waiting.append(turn)
            while not turn.is_done():
                if self._lock.enter(since=turn.since):
                    # Nobody is at it now, even if an interrupted leader had taken it already.
                    self._withdraw(turn)
                    if not turn.is_done():
                        return self._lead(turn, wait=True, patience_s=patience_s)
                    self._abandon()
                    break
                began = monotonic()
                turn.wait(min(patience_s, _SLICE_S))
                patience_s -= min(max(monotonic() - began, 0.0), _SLICE_S)
                if patience_s <= 0.0:
                    self._give_up(turn)
                    patience_s = self._store.lock_timeout_s
        except BaseException:
            self._withdraw(turn)
            raise
        return self._outcome(turn)

    @staticmethod
    def _be_busy() -> NoReturn:
        raise Busy

    def _give_up(self, turn: _Turn) -> None:
        """Refuse, unless somebody is at it by now."""
        if self._withdraw(turn):
            raise self._too_late()

    def _withdraw(self, turn: _Turn) -> bool:
        """Leave the queue; return whether the turn was in it still."""
        try:
            self._waiting.remove(turn)
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
            raise self._too_late() from None
        except OSError as error:
            why = f"{self._lock.path} cannot be locked ({error.strerror})"
            if error.errno in _NO_LOCKS:
                why += "; put the ledger on a local disk"
            raise self._store.unavailable(why) from error

    def _too_late(self) -> LedgerUnavailable:
        seconds = self._store.lock_timeout_s
        return self._store.unavailable(
            f"it was not free within {seconds:g} s; another process holds {self._lock.path}"
        )

    @contextlib.contextmanager
    def _faults(self, *, wait: bool) -> Iterator[None]:
        """Turn what the ledger can fail with into the refusal it is."""
        try:
            yield
        except FAULTS as error:
            if not wait and _is_busy(error):
                raise Busy from None
            raise self._store.unavailable(error) from error

    def _abandon(self) -> None:
        """Roll back what is still open and give the lock back, if this thread has it."""
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
