"""Why nobody removes the write-ahead log of a living process: a lock no other code here can drop."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

# SQLite holds its files by locks that belong to the process: they are dropped when any code of
# this process closes any descriptor of the file (a copy, a hash), and a forked child does not have
# them. The next process to leave then takes itself for the last, and removes the log under us.
# A lock of an open file description (Linux 3.15) stays until that descriptor is closed, here and
# in forked children. On systems without them only the check of the inodes is left.
_SET = getattr(fcntl, "F_OFD_SETLK", None)

# Where SQLite's locks are (os_unix.c, the same since 2010): every reader holds the shared bytes
# of the database, every user of the index of the log holds its dead-man switch.
_SHARED = (0x40000002, 510)
_DEAD_MAN = (128, 1)


class Hold:
    """What this process holds of a ledger's files while it has connections to them."""

    def __init__(self, database: Path, index: Path) -> None:
        self._files = ((database, _SHARED), (index, _DEAD_MAN))
        self._fds: list[int] = []

    def take(self) -> None:
        """Hold both files. The caller has the ledger's lock and a connection that has written."""
        if self._fds or _SET is None:
            return
        for path, place in self._files:
            # Never closed as long as there is a connection: that would drop SQLite's own locks.
            self._fds.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
            _lock(self._fds[-1], fcntl.F_RDLCK, place)

    def loosen(self) -> None:
        """Let whoever is the last to leave tidy up, this process included."""
        for fd, (_, place) in zip(self._fds, self._files, strict=False):
            _lock(fd, fcntl.F_UNLCK, place)

    def drop(self) -> None:
        """Close the descriptors. The caller has closed its connections before."""
        while self._fds:
            with contextlib.suppress(OSError):
                os.close(self._fds.pop())

    @property
    def is_firm(self) -> bool:
        """Whether the files are held so that no code of this process can drop it by accident."""
        return bool(self._fds)

    def size(self) -> int:
        """Return how long the database's file is now, in bytes."""
        where = self._fds[0] if self._fds else self._files[0][0]
        return os.stat(where).st_size  # noqa: PTH116 -- of a descriptor

    def inherit(self) -> None:
        """
        Begin anew in a forked child, which takes a hold of its own.

        What it has of its parent's stays open for ever: closing it would drop the locks of the
        child's own connections, and until the child has its own hold, that one protects it.
        """
        _INHERITED.extend(self._fds)
        self._fds = []


_INHERITED: list[int] = []


def _lock(fd: int, kind: int, place: tuple[int, int]) -> None:
    assert _SET is not None
    start, length = place
    fcntl.fcntl(fd, _SET, struct.pack("hhqqi", kind, os.SEEK_SET, start, length, 0))
