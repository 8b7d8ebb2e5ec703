"""Owner files: each process locks one, so others can see whether it is still alive."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import weakref
from collections.abc import Iterator
from pathlib import Path

from filelock import lock_descriptor

from keybrake.ledger.stores.sqlite import forking

# A file lock tells whether the process is alive: the kernel releases it on exit, across PID
# namespaces. PIDs are reused.


class Owner:
    """
    The owner file of this process for one ledger.

    Args:
        ledger: The ledger's file; the owner files are in the same folder.
    """

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._token = ""
        self._fd: int | None = None
        self._pid = 0
        _ALL.add(self)
        atexit.register(self.close)

    def token(self) -> str:
        """
        Return the token that this process writes into the rows of its calls.

        The first call in a process makes the owner file; the caller holds the ledger's lock.
        """
        if self._pid != os.getpid():
            self._token = secrets.token_hex(6)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(_file(self._ledger, self._token), flags, 0o600)
            lock_descriptor(self._fd, blocking=False)
            self._pid = os.getpid()
        return self._token

    def close(self) -> None:
        """Delete the file: this process has ended all its calls, or never will."""
        if self._pid == os.getpid():
            _file(self._ledger, self._token).unlink(missing_ok=True)
        self.let_go()

    def let_go(self) -> None:
        """Close the file, but do not delete it. A forked child does so: the file is its parent's."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._pid = None, 0


_ALL: weakref.WeakSet[Owner] = weakref.WeakSet()


def _after_fork(child: bool) -> None:  # noqa: FBT001 -- called only by forking
    if child:
        for owner in list(_ALL):
            owner.let_go()


forking.also(lambda: None, _after_fork)


def is_gone(ledger: Path, token: str) -> bool:
    """Return whether the process with *token* has ended."""
    try:
        fd = os.open(_file(ledger, token), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        return lock_descriptor(fd, blocking=False)
    finally:
        os.close(fd)


def sweep(ledger: Path) -> None:
    """Remove the files of processes that have ended; the caller holds the ledger's lock."""
    for token in _tokens(ledger):
        with contextlib.suppress(OSError):
            if is_gone(ledger, token):
                _file(ledger, token).unlink(missing_ok=True)


def _tokens(ledger: Path) -> Iterator[str]:
    prefix = _file(ledger, "").name
    for found in ledger.parent.iterdir():
        if found.name.startswith(prefix):
            yield found.name.removeprefix(prefix)


def _file(ledger: Path, token: str) -> Path:
    return ledger.with_name(f"{ledger.name}.owner-{token}")
