"""How far a ledger has come, kept outside of it: so that an older copy put in its place shows."""

from __future__ import annotations

import os
import struct
from pathlib import Path

# What it is, whose it is, the newest event that is on the disk for certain, the newest event,
# and the boot in which that one was written: a power cut may lose events, but not the durable ones.
_LAYOUT = struct.Struct("<8s32sQQ36s")
_MAGIC = b"kbseal1\n"
_NUMBERS = struct.Struct("<QQ36s")
_NUMBERS_AT = 8 + 32
_NEWEST = struct.Struct("<Q36s")
_NEWEST_AT = _NUMBERS_AT + 8
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Broken(Exception):
    """The seal cannot be read."""


def path_of(ledger: Path) -> Path:
    """Return the seal that belongs to a ledger."""
    return ledger.with_name(ledger.name + ".seal")


def write(ledger: Path, uid: str, seq: int) -> None:
    """
    Seal a ledger as it is now, durably. Call it under the ledger's lock.

    Args:
        ledger: Its file.
        uid: Its id, 32 hexadecimal digits.
        seq: Its newest event, which is on the disk.
    """
    path = path_of(ledger)
    draft = path.with_name(path.name + ".new")
    flags = os.O_CREAT | os.O_TRUNC | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
    fd = os.open(draft, flags, 0o600)
    try:
        os.write(fd, _LAYOUT.pack(_MAGIC, uid.encode(), seq, seq, _boot()))
        os.fsync(fd)
    finally:
        os.close(fd)
    draft.replace(path)


class Seal:
    """
    The seal of an open ledger.

    Not mapped into memory: a file that somebody empties would kill whoever reads it there.

    Raises:
        Broken: It is no seal.
        FileNotFoundError: There is none.
    """

    def __init__(self, ledger: Path) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        self._name = str(path_of(ledger))
        self._fd = os.open(self._name, flags)
        self._inode = os.fstat(self._fd).st_ino
        self._boot = _boot()
        found = os.pread(self._fd, _LAYOUT.size + 1, 0)
        if len(found) != _LAYOUT.size or not found.startswith(_MAGIC):
            self.close()
            raise Broken
        self.uid = found[len(_MAGIC) : _NUMBERS_AT].decode("ascii", errors="replace")

    def newest(self) -> int:
        """
        Return the newest event that the ledger must have. Call it under the ledger's lock.

        Raises:
            Broken: The file was emptied.
        """
        found = os.pread(self._fd, _NUMBERS.size, _NUMBERS_AT)
        if len(found) != _NUMBERS.size:
            raise Broken
        durable, newest, boot = _NUMBERS.unpack(found)
        # Of another boot: a power cut may have come in between.
        return int(newest if boot == self._boot != _NO_BOOT else durable)

    def is_there(self) -> bool:
        """Return whether the file has its name still."""
        try:
            return os.stat(self._name).st_ino == self._inode  # noqa: PTH116 -- a third of the price of Path.stat()
        except FileNotFoundError:
            return False

    def advance(self, seq: int, *, durable: bool) -> None:
        """Set the newest event. Call it under the ledger's lock, after the commit."""
        if durable:
            os.pwrite(self._fd, _NUMBERS.pack(seq, seq, self._boot), _NUMBERS_AT)
        else:
            os.pwrite(self._fd, _NEWEST.pack(seq, self._boot), _NEWEST_AT)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


_NO_BOOT = b"\0" * 36


def _boot() -> bytes:
    """Return the id of this boot of the machine; zeros: the system does not tell."""
    try:
        return _BOOT_ID.read_bytes().strip()[:36].ljust(36, b"\0")
    except OSError:
        return _NO_BOOT
