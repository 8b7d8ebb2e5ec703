"""Extra locks on the database and WAL index, so that no process removes the WAL while we use it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

# SQLite uses POSIX record locks, which belong to the process. The kernel drops them when any code in
# this process closes any descriptor of the file (after a copy or a hash, say), and a forked child
# does not inherit them. The next process that closes the ledger then believes that it is the last
# user, and removes the WAL under us. A lock of an open file description (OFD, Linux 3.15) stays
# until that descriptor is closed in this process and in its forked children. Systems without OFD
# locks rely on identity.py alone, which compares inodes.
_SET = getattr(fcntl, "F_OFD_SETLK", None)

# The byte ranges that SQLite locks (os_unix.c, unchanged since 2010): a reader locks the shared bytes
# of the database, and every user of the WAL index locks its "dead man switch".
_SHARED = (0x40000002, 510)
_DEAD_MAN = (128, 1)

# Fields of the WAL index header: page size, number of frames, salts. The WAL itself has a header of
# 32 bytes, with the salts at offset 16, and 24 bytes before each page.
_INDEX = struct.Struct("=14xHI12x8s")
_SMALLEST_INDEX = 32768
_LOG_HEADER, _FRAME_HEADER, _SALTS_AT = 32, 24, 16


class Hold:
    """The OFD locks of this process on the files of one ledger, while it has connections open."""

    def __init__(self, database: Path, log: Path, index: Path) -> None:
        self._files = ((database, _SHARED), (index, _DEAD_MAN))
        self._log = log
        self._fds: list[int] = []
        self._log_fd = -1
        self._index_size = 0

    def take(self) -> None:
        """Lock both files; the caller holds the ledger's lock and has a connection that has written."""
        if self._fds or _SET is None:
            return
        for path, place in self._files:
            # Do not close these while a connection is open: closing drops SQLite's own locks.
            self._fds.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
            _lock(self._fds[-1], fcntl.F_RDLCK, place)
        self._index_size = 0
        self._log_fd = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)

    def loosen(self) -> None:
        """Unlock both files, so that the last process to close the ledger can remove the WAL."""
        for fd, (_, place) in zip(self._fds, self._files, strict=False):
            _lock(fd, fcntl.F_UNLCK, place)

    def drop(self) -> None:
        """Close the descriptors; the caller has already closed its connections."""
        fds, self._fds = [*self._fds, self._log_fd], []
        self._log_fd = -1
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)

    @property
    def is_firm(self) -> bool:
        """Return whether OFD locks are held, which other code in this process cannot drop."""
        return bool(self._fds)

    def file(self) -> os.stat_result:
        """Return the current stat of the database file."""
        where = self._fds[0] if self._fds else self._files[0][0]
        return os.stat(where)  # noqa: PTH116 -- may be a descriptor

    def index_is_whole(self) -> bool:
        """Return whether the WAL index has not become shorter; True without OFD locks."""
        if not self._fds:
            return True
        size = os.lseek(self._fds[1], 0, os.SEEK_END)  # every call gets here; cheaper than stat
        was, self._index_size = self._index_size, max(size, self._index_size)
        return size >= max(was, _SMALLEST_INDEX)

    def log_is_whole(self) -> bool:
        """
        Return whether the WAL has every frame that its index lists; the caller holds the ledger's lock.

        The index header (wal.c, WalIndexHdr, unchanged since 2010) repeats the page size, the number
        of frames and the two salts of the WAL header.
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
        Start again in a forked child, without closing the descriptors of the parent.

        They stay open for ever: closing one would drop the SQLite locks of the child's own
        connections, and until the child calls ``take``, the inherited locks protect it.
        """
        if self._fds:
            _INHERITED.extend((*self._fds, self._log_fd))
        self._fds, self._log_fd = [], -1


_INHERITED: list[int] = []


def _lock(fd: int, kind: int, place: tuple[int, int]) -> None:
    assert _SET is not None
    start, length = place
    fcntl.fcntl(fd, _SET, struct.pack("hhqqi", kind, os.SEEK_SET, start, length, 0))
