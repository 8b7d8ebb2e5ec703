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

# Of the index: its version and flags, then the page size, the number of frames, counters that do not
# matter here, and the salts. Of the log: 32 bytes, and 24 more before each page.
_INDEX = struct.Struct("=14xHI12x8s")
_SMALLEST_INDEX = 32768
_LOG_HEADER, _FRAME_HEADER, _SALTS_AT = 32, 24, 16


class Hold:
    """What this process holds of a ledger's files while it has connections to them."""

    def __init__(self, database: Path, log: Path, index: Path) -> None:
        self._files = ((database, _SHARED), (index, _DEAD_MAN))
        self._log = log
        self._fds: list[int] = []
        self._log_fd = -1
        self._index_size = 0

    def take(self) -> None:
        """Hold both files. The caller has the ledger's lock and a connection that has written."""
        if self._fds or _SET is None:
            return
        for path, place in self._files:
            # Never closed as long as there is a connection: that would drop SQLite's own locks.
            self._fds.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
            _lock(self._fds[-1], fcntl.F_RDLCK, place)
        self._index_size = 0
        self._log_fd = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)

    def loosen(self) -> None:
        """Let whoever is the last to leave tidy up, this process included."""
        for fd, (_, place) in zip(self._fds, self._files, strict=False):
            _lock(fd, fcntl.F_UNLCK, place)

    def drop(self) -> None:
        """Close the descriptors. The caller has closed its connections before."""
        fds, self._fds = [*self._fds, self._log_fd], []
        self._log_fd = -1
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)

    @property
    def is_firm(self) -> bool:
        """Whether the files are held so that no code of this process can drop it by accident."""
        return bool(self._fds)

    def file(self) -> os.stat_result:
        """Return what the system says of the database's file now."""
        where = self._fds[0] if self._fds else self._files[0][0]
        return os.stat(where)  # noqa: PTH116 -- of a descriptor

    def index_is_whole(self) -> bool:
        """Return whether the index of the log is as long as it was; True where it is not held."""
        if not self._fds:
            return True
        size = os.lseek(self._fds[1], 0, os.SEEK_END)  # cheaper than stat, in the way of calls
        was, self._index_size = self._index_size, max(size, self._index_size)
        return size >= max(was, _SMALLEST_INDEX)

    def log_is_whole(self) -> bool:
        """
        Return whether the log holds every frame that its index knows of. Call it under the ledger's lock.

        The index begins with what SQLite knows of the log (wal.c, WalIndexHdr, the same since 2010):
        the size of a page, the number of frames, and the two salts of the log's own header.
        """
        if not self._fds:
            return True
        page, frames, salts = _INDEX.unpack(os.pread(self._fds[1], _INDEX.size, 0))
        if not frames:
            return True
        page = 65536 if page == 1 else page
        size = os.lseek(self._log_fd, 0, os.SEEK_END)
        if size < _LOG_HEADER + frames * (_FRAME_HEADER + page):
            return False
        return bool(os.pread(self._log_fd, len(salts), _SALTS_AT) == salts)

    def inherit(self) -> None:
        """
        Begin anew in a forked child, which takes a hold of its own.

        What it has of its parent's stays open for ever: closing it would drop the locks of the
        child's own connections, and until the child has its own hold, that one protects it.
        """
        if self._fds:
            _INHERITED.extend((*self._fds, self._log_fd))
        self._fds, self._log_fd = [], -1


_INHERITED: list[int] = []


def _lock(fd: int, kind: int, place: tuple[int, int]) -> None:
    assert _SET is not None
    start, length = place
    fcntl.fcntl(fd, _SET, struct.pack("hhqqi", kind, os.SEEK_SET, start, length, 0))
