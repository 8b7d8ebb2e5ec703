"""Whose turn is it to write: one lock for threads, then one for processes."""

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
    """A thread that waits until the lock is free."""

    def wake(self) -> None:
        """Have it look again."""


def _is_nested() -> bool:
    """Return whether the ledger is in use further up this thread's stack."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 -- nothing else shows one's own stack
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
    The lock that every write to a ledger stands under.

    A lock for threads first, then ``flock`` on a descriptor that is kept open: taking and giving
    it back costs two system calls. Never the database file itself: that would break SQLite's own
    locks. The lock file is never deleted.

    Attributes:
        waiting: The threads that want their turn, in order; see ``Turns``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # It knows whether this thread holds it already: nothing here nests, so if it does, an
        # interrupt struck before it could be given back.
        self._mutex = Mutex()
        self._reading = Native()
        self.waiting: deque[Waiter] = deque()
        self._fd: int | None = None
        self._stand_in = StandIn(path)
        _ALL.add(self)

    @property
    def reading(self) -> Any:
        """For the threads that share the connection that reads."""
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
                raise Busy  # noqa: TRY301 -- as all else that goes wrong here
            self.lock_file(deadline_s)
        except BaseException:
            # An interrupt may strike once either is locked: both are given back.
            self.let_go()
            raise

    def enter(self, deadline_s: float = 0.0, *, since: float | None = None) -> bool:
        """
        Keep the other threads of this process out; return whether that was possible in time.

        Args:
            deadline_s: Seconds to wait; 0: do not wait.
            since: See ``Mutex.acquire``.

        Raises:
            BlockingIOError: This thread is inside already, further up its stack.
        """
        if not self._mutex.is_mine():
            return self._mutex.acquire(deadline_s, since=since)
        self.refuse_nested()
        return True

    @staticmethod
    def refuse_nested() -> None:
        """Refuse what a signal handler or a finalizer asks in the middle of our work."""
        if _is_nested():
            raise BlockingIOError(NESTED)

    def lock_file(self, deadline_s: float) -> None:
        """
        Keep the other processes out, too.

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
        """Give the lock back if this thread has it; if something strikes meanwhile, once more."""
        try:
            if self.is_mine():
                self.release()
        except BaseException:
            if self.is_mine():
                self.release()
            raise

    def release(self) -> None:
        """Give the lock back, whatever strikes meanwhile."""
        interrupt = None
        for _ in range(_TRIES):
            try:
                if self._stand_in.is_asked:
                    self._stand_in.let_go()
                if self._fd is not None:
                    unlock_descriptor(self._fd)
                break
            except OSError:
                break  # a descriptor that cannot be unlocked any more locks nothing
            except BaseException as error:  # noqa: BLE001 -- Ctrl-C must not leave others locked out
                interrupt = error
        self._leave()
        if interrupt is not None:
            raise interrupt

    def _leave(self) -> None:
        """Let the next thread in: whoever waits longest is woken, and looks for itself."""
        self._mutex.release()
        # Looked at only now: who joins the queue after this finds the lock free.
        if self.waiting:
            with contextlib.suppress(IndexError):
                self.waiting[0].wake()

    def is_there(self) -> bool:
        """Return whether the file that is locked has its name still: others lock the file by its name."""
        if self._fd is None:
            return True
        try:
            named, held = os.stat(self.path), os.fstat(self._fd)  # noqa: PTH116 -- in the way of calls
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)

    def close(self) -> None:
        """Let go of the descriptor; the next use opens it again."""
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
        """Wait until no thread of this process is inside; return which locks that took."""
        patience = forking.PATIENCE_S
        # A thread that forks from inside has it already, and gives it back itself.
        taken = not self._mutex.is_mine() and self._mutex.acquire(patience)
        return taken, self.reading.acquire(timeout=patience)

    def after_fork(self, taken: tuple[bool, bool], *, child: bool) -> None:
        """Let go again. The child opens its own descriptor: an inherited one shares the lock."""
        if child:
            if self._fd is not None:
                os.close(self._fd)
            # Whoever held these in the parent is not in the child to give them back.
            self._fd, self._mutex, self._reading = None, Mutex(), Native()
            self._stand_in.inherit()
            self._stand_in = StandIn(self.path)
            self.waiting.clear()
            return
        if taken[0]:
            self._leave()
        if taken[1]:
            self.reading.release()


# Forking while another thread is inside SQLite hangs the child for ever, so a fork waits for the
# locks of all ledgers.
_ALL: weakref.WeakSet[LedgerLock] = weakref.WeakSet()
_TAKEN: list[tuple[LedgerLock, tuple[bool, bool]]] = []


def _before_fork() -> None:
    for lock in list(_ALL):
        _TAKEN.append((lock, lock.before_fork()))  # noqa: PERF401 -- one by one: an interrupt may strike


def _after_fork(child: bool) -> None:  # noqa: FBT001 -- called by _forking alone
    if child:
        # All of them: an interrupt may have kept the parent from taking some, and nothing of the
        # parent's may stay with the child.
        _TAKEN.clear()
        for lock in list(_ALL):
            lock.after_fork((True, True), child=True)
    while _TAKEN:
        lock, taken = _TAKEN.pop()
        lock.after_fork(taken, child=False)


forking.also(_before_fork, _after_fork)
