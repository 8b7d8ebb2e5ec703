"""A thread that stands in the kernel's queue for a lock, for one that waits only so long."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import weakref
from pathlib import Path

from keybrake.model.waiting import Gate, Native, start_new_thread

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
    other has, so one that was forgotten takes its turn, gives it back, and disturbs nobody. The
    thread that stands there is all that keeps the descriptor open: if it dies, its place is free.

    Attributes:
        is_asked: Whether somebody has waited since ``let_go``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_asked = False
        self._guard = Native()
        # The file that stands in the queue, and the one that has come: they are the lock's.
        self._standing: weakref.ref[io.FileIO] | None = None
        self._has: io.FileIO | None = None
        self._open: weakref.WeakSet[io.FileIO] = weakref.WeakSet()
        # Of the one that wants the lock; it is opened when the lock has come, or cannot be had.
        self._gate: Gate | None = None
        self._error: OSError | None = None

    def wait(self, deadline_s: float) -> bool:
        """
        Wait for the lock; return whether it came within *deadline_s* seconds.

        Whatever happens here, ``let_go`` has to be called afterwards.

        Raises:
            OSError: The system cannot lock this file.
        """
        gate = Gate()
        self.is_asked = True
        with self._guard.lock:
            self._gate, self._error = gate, None
            if self._standing is None or self._standing() is None:
                self._standing = self._stand()
        while deadline_s > 0.0 and not gate.wait(min(deadline_s, _SLICE_S)):
            deadline_s -= _SLICE_S
        if self._error is not None:
            raise self._error
        return self._has is not None

    def let_go(self) -> None:
        """Give the lock back, if it has come, and want it no more."""
        with self._guard.lock:
            self._gate = None
            if self._has is not None:
                # First: what is unlocked twice, or left open, locks nobody out.
                fcntl.flock(self._has, fcntl.LOCK_UN)
                place, self._has = self._has, None
                self._close(place)
            self.is_asked = False

    def inherit(self) -> None:
        """Close in a forked child what is its parent's: an inherited descriptor shares the lock."""
        for place in list(self._open):
            with contextlib.suppress(OSError):
                place.close()

    def _stand(self) -> weakref.ref[io.FileIO]:
        """Have a thread take a place in the queue, and return which."""
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        place = io.FileIO(fd, "r+")
        self._open.add(place)
        try:
            # Not a threading.Thread: that one waits until it runs, and an interrupt may strike then.
            start_new_thread(self._serve, (place,))
        except RuntimeError as error:
            self._close(place)
            raise OSError(errno.EAGAIN, "no thread can be started to wait for it") from error
        return weakref.ref(place)

    def _serve(self, place: io.FileIO) -> None:
        error = None
        try:
            fcntl.flock(place, fcntl.LOCK_EX)
        except OSError as found:
            error = found
        with self._guard.lock:
            gate = None
            if self._standing is not None and self._standing() is place:
                self._standing = None
                gate, self._gate = self._gate, None
            if gate is not None:
                self._error = error
                self._has = place if error is None else None
                gate.open()
            if self._has is not place:
                self._close(place)  # gives it back

    def _close(self, place: io.FileIO) -> None:
        self._open.discard(place)
        place.close()
