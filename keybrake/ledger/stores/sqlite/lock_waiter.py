"""Wait for a file lock with a deadline: a helper thread blocks in flock, which has no timeout."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import weakref
from pathlib import Path

from keybrake.model.waiting import Gate, Native, start_new_thread

# A caller counts slices of this length, so a clock that is set cannot make it give up early.
_SLICE_S = 0.25


class StandIn:
    """
    Waits for ``flock`` on a file, in place of a caller with a deadline.

    Polling costs too much: 32 polling processes took more than half of two cores. The kernel wakes
    a thread that blocks in ``flock``, but ``flock`` has no timeout. So a helper thread blocks there
    with a separate descriptor. If it gets the lock after the caller has given up, it releases the
    lock at once.

    A KeyboardInterrupt may hit between any two steps and leave a helper thread behind. That does no
    harm: its descriptor is not shared, so it gets the lock, releases it, and ends. Only the helper
    thread keeps its descriptor open, so the descriptor closes with the thread.

    Attributes:
        is_asked: Whether ``wait`` was called since the last ``let_go``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_asked = False
        self._guard = Native()
        # The open lock file that a helper thread is blocked on, and the one that holds the lock.
        self._queued: weakref.ref[io.FileIO] | None = None
        self._locked: io.FileIO | None = None
        self._open: weakref.WeakSet[io.FileIO] = weakref.WeakSet()
        # The caller waits at this gate; the helper thread opens it on success and on error.
        self._gate: Gate | None = None
        self._error: OSError | None = None

    def wait(self, deadline_s: float) -> bool:
        """
        Wait for the lock; return whether it came within *deadline_s* seconds.

        The caller must call ``let_go`` afterwards, also after False and after any error.

        Raises:
            OSError: The system cannot lock this file.
        """
        gate = Gate()
        self.is_asked = True
        with self._guard.lock:
            self._gate, self._error = gate, None
            if self._queued is None or self._queued() is None:
                self._queued = self._start_helper()
        while deadline_s > 0.0 and not gate.wait(min(deadline_s, _SLICE_S)):
            deadline_s -= _SLICE_S
        if self._error is not None:
            raise self._error
        return self._locked is not None

    def let_go(self) -> None:
        """Release the lock if the helper thread got it; if it gets the lock later, it releases it."""
        with self._guard.lock:
            self._gate = None
            if self._locked is not None:
                # Unlock first. An interrupt after this line does no harm: a file that is unlocked
                # twice, or left open, holds no lock.
                fcntl.flock(self._locked, fcntl.LOCK_UN)
                file, self._locked = self._locked, None
                self._close(file)
            self.is_asked = False

    def inherit(self) -> None:
        """Close the parent's files in a forked child: an inherited descriptor shares the lock."""
        for file in list(self._open):
            with contextlib.suppress(OSError):
                file.close()

    def _start_helper(self) -> weakref.ref[io.FileIO]:
        """Start a thread that blocks in ``flock``; return the file it locks."""
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        file = io.FileIO(fd, "r+")
        self._open.add(file)
        try:
            # threading.Thread.start() waits until the thread runs; an interrupt may hit that wait.
            start_new_thread(self._wait_in_kernel, (file,))
        except RuntimeError as error:
            self._close(file)
            raise OSError(errno.EAGAIN, "no thread can be started to wait for it") from error
        return weakref.ref(file)

    def _wait_in_kernel(self, file: io.FileIO) -> None:
        error = None
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as found:
            error = found
        with self._guard.lock:
            gate = None
            if self._queued is not None and self._queued() is file:
                self._queued = None
                gate, self._gate = self._gate, None
            if gate is not None:
                self._error = error
                self._locked = file if error is None else None
                gate.open()
            if self._locked is not file:
                self._close(file)  # closing releases the lock

    def _close(self, file: io.FileIO) -> None:
        self._open.discard(file)
        file.close()
