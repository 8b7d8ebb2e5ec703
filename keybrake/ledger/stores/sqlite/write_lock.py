"""The lock for writers: a mutex for the threads of this process, then a file lock for processes."""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from filelock import lock_descriptor, unlock_descriptor

from keybrake.ledger.protocol import Busy
from keybrake.ledger.stores.sqlite import forking
from keybrake.ledger.stores.sqlite.lock_waiter import StandIn
from keybrake.model.waiting import Mutex, Native

_TRIES = 3
NESTED = "this thread is in the middle of using it (a signal handler, or a finalizer)"


class Waiter(Protocol):
    """A queued thread that waits until the lock is free."""

    def wake(self) -> None:
        """Wake the thread, so that it tries the lock again."""


def _is_nested() -> bool:
    """Return whether a frame further up this thread's stack belongs to an outer ledger call."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 -- inspect.currentframe() calls it too
    left = False
    while frame is not None:
        inside = frame.f_globals.get("__name__", "").startswith("keybrake.ledger.")
        if inside and left:
            return True
        left = left or not inside
        frame = frame.f_back
    return False


class LedgerLock:
    """
    The lock that a thread must hold for every write to a ledger.

    It is a mutex for threads, then ``flock`` on a descriptor that stays open: lock and unlock cost
    two system calls. The locked file is a separate file, because locking the database file would
    break SQLite's own locks. It is never deleted.

    Attributes:
        waiting: The queue of threads that want to write, in order; see ``GroupCommit``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # The mutex knows its owner. We never nest, so if this thread already owns it, either a
        # KeyboardInterrupt hit before release, or a signal handler or finalizer runs inside.
        self._mutex = Mutex()
        self._reading = Native()
        self.waiting: deque[Waiter] = deque()
        self._fd: int | None = None
        self._stand_in = StandIn(path)
        _ALL.add(self)

    @property
    def reading(self) -> Any:
        """Return the lock of the one read connection that all threads share."""
        return self._reading.lock

    def acquire(self, deadline_s: float) -> None:
        """
        Take the lock.

        Args:
            deadline_s: Seconds to wait; 0: do not wait.

        Raises:
            Busy: It was not free in time.
            OSError: The system cannot lock this file.
        """
        try:
            if not self.enter(deadline_s):
                raise Busy  # noqa: TRY301 -- cleaned up like every other error
            self.lock_file(deadline_s)
        except BaseException:
            # A KeyboardInterrupt may hit when the mutex, or both locks, are held: release both.
            self.let_go()
            raise

    def enter(self, deadline_s: float = 0.0, *, since: float | None = None) -> bool:
        """
        Take the mutex for threads; return whether it was free in time.

        Args:
            deadline_s: Seconds to wait; 0: do not wait.
            since: See ``Mutex.acquire``.

        Raises:
            BlockingIOError: This thread is already using the ledger, further up its stack.
        """
        if not self._mutex.is_mine():
            return self._mutex.acquire(deadline_s, since=since)
        self.refuse_nested()
        return True

    @staticmethod
    def refuse_nested() -> None:
        """Refuse a call by a signal handler or a finalizer that interrupted a ledger call."""
        if _is_nested():
            raise BlockingIOError(NESTED)

    def lock_file(self, deadline_s: float) -> None:
        """
        Take the file lock, which keeps other processes out; the caller holds the mutex.

        Raises:
            Busy: It was not free in time.
            OSError: The system cannot lock this file.
        """
        fd = self._fd if self._fd is not None else self._open()
        if lock_descriptor(fd, blocking=False):
            return
        if not (deadline_s > 0.0 and self._stand_in.wait(deadline_s)):
            raise Busy

    def is_mine(self) -> bool:
        """Return whether this thread holds the lock."""
        return self._mutex.is_mine()

    def let_go(self) -> None:
        """Release the lock if this thread holds it; try again if an interrupt hits meanwhile."""
        try:
            if self.is_mine():
                self.release()
        except BaseException:
            if self.is_mine():
                self.release()
            raise

    def release(self) -> None:
        """Release the file lock and the mutex, even if interrupts hit meanwhile."""
        interrupt = None
        for _ in range(_TRIES):
            try:
                if self._stand_in.is_asked:
                    self._stand_in.let_go()
                if self._fd is not None:
                    unlock_descriptor(self._fd)
                break
            except OSError:
                break  # a descriptor that cannot be unlocked is closed, so it holds no lock
            except BaseException as error:  # noqa: BLE001 -- Ctrl-C must not leave others locked out
                interrupt = error
        self._release_mutex()
        if interrupt is not None:
            raise interrupt

    def _release_mutex(self) -> None:
        """Release the mutex and wake the thread at the head of the queue, which then tries it."""
        self._mutex.release()
        # Look at the queue after the release: a thread that joins later finds the mutex free.
        if self.waiting:
            with contextlib.suppress(IndexError):
                self.waiting[0].wake()

    def is_there(self) -> bool:
        """Return whether the path still names our lock file: other processes open it by that path."""
        if self._fd is None:
            return True
        try:
            named, held = os.stat(self.path), os.fstat(self._fd)  # noqa: PTH116 -- in the way of calls
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)

    def close(self) -> None:
        """Close the descriptor; the next use opens the file again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @contextlib.contextmanager
    def held(self, deadline_s: float) -> Iterator[None]:
        """Hold the lock for a block; see ``acquire``."""
        try:
            self.acquire(deadline_s)
            yield
        finally:
            self.let_go()

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        self._fd = os.open(self.path, flags, 0o600)
        return self._fd

    def before_fork(self) -> tuple[bool, bool]:
        """Take the mutex and the reading lock, so no thread is inside SQLite; return which we got."""
        patience = forking.PATIENCE_S
        # If the forking thread itself holds the mutex, it also releases it, after the fork.
        taken = not self._mutex.is_mine() and self._mutex.acquire(patience)
        return taken, self.reading.acquire(timeout=patience)

    def after_fork(self, taken: tuple[bool, bool], *, child: bool) -> None:
        """Release both; a child starts with new locks and a new descriptor."""
        if child:
            # An inherited descriptor shares the file lock with the parent.
            if self._fd is not None:
                os.close(self._fd)
            # The threads that held these in the parent do not exist in the child.
            self._fd, self._mutex, self._reading = None, Mutex(), Native()
            self._stand_in.inherit()
            self._stand_in = StandIn(self.path)
            self.waiting.clear()
            return
        if taken[0]:
            self._release_mutex()
        if taken[1]:
            self.reading.release()


# A fork takes the locks of all ledgers first. Otherwise another thread could be inside SQLite, and
# the child would wait for ever for SQLite's internal mutex, which that thread held.
_ALL: weakref.WeakSet[LedgerLock] = weakref.WeakSet()
_TAKEN: list[tuple[LedgerLock, tuple[bool, bool]]] = []


def _before_fork() -> None:
    for lock in list(_ALL):
        _TAKEN.append((lock, lock.before_fork()))  # noqa: PERF401 -- an interrupt must not lose entries


def _after_fork(child: bool) -> None:  # noqa: FBT001 -- called only by forking
    if child:
        # Reset every lock, not only those in _TAKEN: an interrupt may have hit while the parent was
        # taking them, and the child must not keep any lock or descriptor of the parent.
        _TAKEN.clear()
        for lock in list(_ALL):
            lock.after_fork((True, True), child=True)
    while _TAKEN:
        lock, taken = _TAKEN.pop()
        lock.after_fork(taken, child=False)


forking.also(_before_fork, _after_fork)
