"""A thread that stands in the kernel's queue for a lock, for one that waits only so long."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path
from queue import SimpleQueue

# Waiting is counted in slices that have passed, so that no clock that is set makes anybody give up.
_SLICE_S = 0.25


class StandIn:
    """
    Waits for ``flock`` on a file.

    Waiters that look again every so often keep the machine busy with looking: 32 of them took more
    than half of two cores. The kernel wakes whoever waits there once there is something to be had,
    but knows no deadline. So a thread waits there, on a descriptor of its own; when the lock comes
    and nobody wants it any more, it is given back at once.

    Attributes:
        is_asked: Whether somebody has waited since ``let_go``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_asked = False
        self._guard = threading.Lock()
        self._asked: SimpleQueue[int | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._fd: int | None = None
        self._stands = False
        # Of whoever wants the lock; it is opened when the lock has come, or cannot be had.
        self._gate: threading.Lock | None = None
        self._has = False
        self._error: OSError | None = None

    def wait(self, deadline_s: float) -> bool:
        """
        Wait for the lock; return whether it came within *deadline_s* seconds.

        Whatever happens here, ``let_go`` has to be called afterwards.

        Raises:
            OSError: The system cannot lock this file.
        """
        gate = threading.Lock()
        gate.acquire()
        self.is_asked = True
        with self._guard:
            self._gate, self._error = gate, None
            if not self._stands:
                self._stand()
        while deadline_s > 0.0 and not gate.acquire(timeout=min(deadline_s, _SLICE_S)):
            deadline_s -= _SLICE_S
        if self._error is not None:
            raise self._error
        return self._has

    def let_go(self) -> None:
        """Give the lock back, if it has come, and want it no more."""
        with self._guard:
            self._gate = None
            if self._has:
                assert self._fd is not None
                fcntl.flock(self._fd, fcntl.LOCK_UN)
                self._has = False
            self.is_asked = False

    def retire(self) -> None:
        """End the thread, unless it is waiting: a process that forks should have none it can do without."""
        # A handler that forks in the middle of this would wait for itself.
        if not self._guard.acquire(timeout=_SLICE_S):
            return
        try:
            thread = None if self._stands else self._thread
            if thread is not None:
                self._thread = None
                self._asked.put(None)
        finally:
            self._guard.release()
        if thread is not None:
            thread.join()

    def inherit(self) -> None:
        """Close in a forked child what is its parent's: an inherited descriptor shares the lock."""
        if self._fd is not None:
            os.close(self._fd)

    def close(self) -> None:
        """Let go of the descriptor, unless the thread is waiting with it."""
        with self._guard:
            if self._fd is not None and not self._stands:
                os.close(self._fd)
                self._fd = None

    def _stand(self) -> None:
        if self._fd is None:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        if self._thread is None:
            thread = threading.Thread(target=self._serve, name="keybrake-lock", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise OSError(errno.EAGAIN, "no thread can be started to wait for it") from error
            self._thread = thread
        self._stands = True
        self._asked.put(self._fd)

    def _serve(self) -> None:
        while (fd := self._asked.get()) is not None:
            error = None
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
            except OSError as found:
                error = found
            with self._guard:
                self._stands = False
                gate, self._gate = self._gate, None
                if gate is None:
                    if error is None:
                        fcntl.flock(fd, fcntl.LOCK_UN)
                else:
                    self._has, self._error = error is None, error
                    gate.release()
