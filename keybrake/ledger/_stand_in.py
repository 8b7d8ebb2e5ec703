"""A thread that stands in the kernel's queue for a lock, for one that waits only so long."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from _thread import start_new_thread
from pathlib import Path

# Waiting is counted in slices that have passed, so that no clock that is set makes anybody give up.
_SLICE_S = 0.25


class StandIn:
    """
    Waits for ``flock`` on a file.

    Waiters that look again every so often keep the machine busy with looking: 32 of them took more
    than half of two cores. The kernel wakes whoever waits there once there is something to be had,
    but knows no deadline. So a thread waits there, on a descriptor of its own; when the lock comes
    and nobody wants it any more, it is given back at once.

    An interrupt may strike between any two steps. Each place in the queue has a descriptor that no
    other has, so one that was forgotten takes its turn, gives it back, and disturbs nobody.

    Attributes:
        is_asked: Whether somebody has waited since ``let_go``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_asked = False
        self._guard = threading.Lock()
        # The descriptor that stands in the queue, and the one that has come: they are the lock's.
        self._standing: int | None = None
        self._has: int | None = None
        self._open: set[int] = set()
        # Of whoever wants the lock; it is opened when the lock has come, or cannot be had.
        self._gate: threading.Lock | None = None
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
            if self._standing is None:
                self._standing = self._stand()
        while deadline_s > 0.0 and not gate.acquire(timeout=min(deadline_s, _SLICE_S)):
            deadline_s -= _SLICE_S
        if self._error is not None:
            raise self._error
        return self._has is not None

    def let_go(self) -> None:
        """Give the lock back, if it has come, and want it no more."""
        with self._guard:
            self._gate = None
            if self._has is not None:
                # First: what is unlocked twice, or left open, locks nobody out.
                fcntl.flock(self._has, fcntl.LOCK_UN)
                fd, self._has = self._has, None
                self._close(fd)
            self.is_asked = False

    def inherit(self) -> None:
        """Close in a forked child what is its parent's: an inherited descriptor shares the lock."""
        for fd in list(self._open):
            with contextlib.suppress(OSError):
                os.close(fd)

    def _stand(self) -> int:
        """Have a thread take a place in the queue, and return its descriptor."""
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._open.add(fd)
        try:
            # Not a threading.Thread: that one waits until it runs, and an interrupt may strike then.
            start_new_thread(self._serve, (fd,))
        except RuntimeError as error:
            self._close(fd)
            raise OSError(errno.EAGAIN, "no thread can be started to wait for it") from error
        return fd

    def _serve(self, fd: int) -> None:
        error = None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as found:
            error = found
        with self._guard:
            gate = None
            if self._standing == fd:
                self._standing = None
                gate, self._gate = self._gate, None
            if gate is not None:
                self._error = error
                self._has = fd if error is None else None
                gate.release()
            if self._has != fd:
                self._close(fd)  # gives it back

    def _close(self, fd: int) -> None:
        self._open.discard(fd)
        os.close(fd)
