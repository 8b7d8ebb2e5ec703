"""Does the process that admitted a call still live: one locked file for each, let go by its death."""

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

# What the system lets go of when a process ends, however it ends, and in whatever namespace: a
# lock. A process id says nothing; another process may have it by now.


class Owner:
    """
    This process, as far as a ledger's calls are concerned.

    Args:
        ledger: The ledger's file; the owners' files stand beside it.
    """

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._token = ""
        self._fd: int | None = None
        self._pid = 0
        _ALL.add(self)
        atexit.register(self.close)

    def token(self) -> str:
        """Return what the calls of this process carry. Call it under the ledger's lock."""
        if self._pid != os.getpid():
            self._token = secrets.token_hex(6)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(_file(self._ledger, self._token), flags, 0o600)
            lock_descriptor(self._fd, blocking=False)
            self._pid = os.getpid()
        return self._token

    def close(self) -> None:
        """Take the file away: this process will not end any of its calls any more."""
        if self._pid == os.getpid():
            _file(self._ledger, self._token).unlink(missing_ok=True)
        self.let_go()

    def let_go(self) -> None:
        """Forget the file. A forked child does so at once: its parent alone keeps it locked."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._pid = None, 0


_ALL: weakref.WeakSet[Owner] = weakref.WeakSet()


def _after_fork(child: bool) -> None:  # noqa: FBT001 -- called by _forking alone
    if child:
        for owner in list(_ALL):
            owner.let_go()


forking.also(lambda: None, _after_fork)


def is_gone(ledger: Path, token: str) -> bool:
    """Return whether the process that carried *token* has ended."""
    try:
        fd = os.open(_file(ledger, token), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        return lock_descriptor(fd, blocking=False)
    finally:
        os.close(fd)


def sweep(ledger: Path) -> None:
    """Remove the files of processes that have ended. Call it under the ledger's lock."""
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
