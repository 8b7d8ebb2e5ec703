"""Detect a ledger that was deleted, replaced, cut short or restored while this process uses it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from keybrake.ledger.stores.sqlite import ledger_files, seal_file
from keybrake.ledger.stores.sqlite.ledger_files import Unusable
from keybrake.ledger.stores.sqlite.wal_hold import Hold

_DELETED = "the file was deleted while keybrake was using it; put it back, or restart every process"
_EMPTIED = "the file was emptied while keybrake was using it; put it back from a copy"
_CUT = "the file was cut short while keybrake was using it; put it back from a copy"
_CUT_LOG = (
    "its write-ahead log was emptied, cut short or overwritten while keybrake was using it: what was "
    "written since the last checkpoint is lost. Put the log back from a copy, or restart every "
    "process and look with keybrake verify"
)
_CUT_INDEX = (
    "the index of its write-ahead log was emptied while keybrake was using it. Restart every process: "
    "SQLite makes a new one"
)
_LOST_LOCK = (
    "its lock file {lock} was deleted or replaced while keybrake was using it, so two processes could "
    "hold a lock each. Restart every process"
)
_REPLACED = (
    "the file was replaced while keybrake was using it; what was spent stands in the old one. Put "
    "it back, or restart every process to begin with the new one"
)
_LOST_WAL = (
    "its write-ahead log, or the index of it, was removed while this process was using it, after "
    "some code here opened and closed the file by itself, or somebody deleted it. Restart this "
    "process to go on; copy a ledger with sqlite3's .backup, from another process"
)
_LOST_SEAL = (
    "its seal {seal} was deleted, replaced or emptied while keybrake was using it. Put it back, or "
    "run keybrake doctor --repair and restart every process"
)
_REWRITTEN = (
    "what this process wrote to it is not in it any more: an older copy, or another ledger, was "
    "put in its place. Put the newest one back, or restart every process"
)
_OLDER = (
    "it is older than its seal: its newest event is {has}, and {seal} knows of {sealed}. It was "
    "restored from an older copy, so what was spent since is not in it. Put the newest one back; "
    "keybrake doctor --repair takes it as it is"
)
_ANOTHER = (
    "it is not the ledger that {seal} belongs to: another file was put in its place. Put the right "
    "one back; keybrake doctor --repair takes it as it is"
)
_NO_SEAL = (
    "its seal {seal} is missing, so nobody can tell whether it is the newest copy. Put the seal "
    "back, too; keybrake doctor --repair makes a new one and takes the ledger as it is"
)
_BAD_SEAL = "its seal {seal} cannot be read; keybrake doctor --repair makes a new one"
_GONE = (
    "the ledger is not there, but its seal {seal}, or its log, is: the ledger was deleted, and what was spent "
    "with it. Put it back; keybrake doctor --repair lets a new one begin"
)

# File times move in ticks of the kernel clock, at most 10 ms; this is several of them.
_COARSE_NS = 50_000_000

_Id = tuple[int, int] | None


class Identity:
    """The files of one ledger as this process first saw them; callers hold the ledger's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = str(path)
        self._folder = str(path.parent)
        self._log, self._index = map(str, ledger_files.side_files(path))
        self._seal: seal_file.Seal | None = None
        self._file: _Id = None
        self._sides: tuple[_Id, _Id] | None = None
        self._at_rest: int | None = None
        self._largest = 0

    @property
    def is_known(self) -> bool:
        """Return whether this process has opened the ledger before."""
        return self._file is not None

    def refuse_to_begin_anew(self) -> None:
        """Refuse to make a new ledger if a seal or a WAL shows that there was one before."""
        # SQLite would also replay an old WAL into the new ledger.
        if os.path.lexists(seal_file.path_of(self._path)) or os.path.lexists(self._log):
            raise self._unusable(_GONE)

    def learn(self, uid: str, newest: int) -> None:
        """
        Remember the ledger that was opened, after comparing it with its seal.

        Args:
            uid: The id inside the ledger.
            newest: The ledger's newest event.

        Raises:
            Unusable: The file was replaced, or the seal belongs to another or a newer ledger.
        """
        found = _id_of(self._name)
        if self._file not in (None, found):
            raise Unusable(_REPLACED)
        seal = self._open_seal(uid, newest)
        sealed = seal.newest()
        if seal.uid != uid or newest < sealed:
            seal.close()
            words = _ANOTHER if seal.uid != uid else _OLDER
            raise self._unusable(words, has=newest, sealed=sealed)
        if self._seal is not None:
            self._seal.close()
        self._seal, self._file, self._at_rest = seal, found, None

    def _open_seal(self, uid: str, newest: int) -> seal_file.Seal:
        try:
            try:
                return seal_file.Seal(self._path)
            except FileNotFoundError:
                # A crash right after create() leaves a ledger without a seal. With only its first
                # event it holds nothing yet, so a new seal hides no loss.
                if newest > 1:
                    raise self._unusable(_NO_SEAL) from None
                seal_file.write(self._path, uid, newest)
                return seal_file.Seal(self._path)
        except seal_file.Broken:
            raise self._unusable(_BAD_SEAL) from None

    def check(self) -> bool:
        """
        Refuse if a path does not name the open file any more; return whether the folder has changed.

        Deleting, moving or replacing a file changes the mtime of the folder. So if the mtime is the
        same as at the last check, no file has to be looked at.
        """
        changed_at = os.stat(self._folder).st_mtime_ns  # noqa: PTH116 -- runs for every call
        if changed_at == self._at_rest:
            return False
        self.check_log()
        if self.is_known:
            self._check_file()
        # The mtime is coarse: a second change within the same tick would not alter it.
        if time.time_ns() - changed_at > _COARSE_NS:
            self._at_rest = changed_at
        return True

    def _check_file(self) -> None:
        try:
            found = os.stat(self._name)  # noqa: PTH116 -- runs for every call
        except FileNotFoundError:
            raise Unusable(_DELETED) from None
        if (found.st_dev, found.st_ino) != self._file:
            raise Unusable(_REPLACED)
        if self._seal is not None and not self._seal.is_there():
            raise self._unusable(_LOST_SEAL)

    def check_contents(self, size: int, newest: int, *, names: int = 1) -> None:
        """
        Refuse a ledger that was emptied, cut short, given a second name, or restored in place.

        Args:
            size: The size of the file in bytes.
            newest: The newest event in the file.
            names: The number of hard links to the file.
        """
        if size < self._largest or size == 0:
            raise Unusable(_CUT if size else _EMPTIED)
        self._largest = size
        if names > 1:
            raise Unusable(ledger_files.second_name(self._path) or _REPLACED)
        if self._seal is None:
            raise self._unusable(_NO_SEAL)
        try:
            sealed = self._seal.newest()
        except seal_file.Broken:
            raise self._unusable(_LOST_SEAL) from None
        if newest < sealed:
            raise self._unusable(_OLDER, has=newest, sealed=sealed)

    def deleted(self) -> Unusable:
        """Return the error for a ledger that was deleted."""
        return Unusable(_DELETED)

    def rewritten(self) -> Unusable:
        """Return the error for a ledger that lacks events this process has seen in it."""
        return Unusable(_REWRITTEN)

    def lost_lock(self, lock: Path) -> Unusable:
        """Return the error for a ledger without its lock file."""
        return Unusable(_LOST_LOCK.format(lock=lock))

    def advance(self, newest: int, *, durable: bool) -> None:
        """Store the newest committed event in the seal."""
        if self._seal is not None:
            self._seal.advance(newest, durable=durable)

    def check_log(self) -> None:
        """
        Refuse if the WAL is not the file that this process writes to.

        If code in this process opens and closes the database file itself (to copy or hash it), the
        kernel drops this process's locks. The next process that closes the ledger then checkpoints
        and removes the WAL. Earlier writes are safe in the database, but this process would go on
        writing to a deleted WAL that no other process reads.
        """
        if self.has_lost_log():
            raise Unusable(_LOST_WAL)

    def has_lost_log(self) -> bool:
        """Return whether the WAL or WAL index of this process was removed or replaced."""
        return self._sides is not None and self._side_ids() != self._sides

    def learn_log(self) -> bool:
        """Remember which WAL this process writes to; return whether that was known already."""
        if self._sides is not None:
            return True
        self._sides, self._at_rest = self._side_ids(), None
        return False

    def forget_log(self) -> None:
        """Forget the WAL, because the next connection may make a new one."""
        self._sides = None

    def _side_ids(self) -> tuple[_Id, _Id]:
        return _id_of(self._log), _id_of(self._index)

    def _unusable(self, words: str, **numbers: int) -> Unusable:
        return Unusable(words.format(seal=seal_file.path_of(self._path), **numbers))


def check_index(hold: Hold) -> None:
    """
    Refuse a WAL index that was truncated in place; needs no lock.

    SQLite maps the index into memory, so the next read would kill this process (SIGBUS).
    """
    if not hold.index_is_whole():
        raise Unusable(_CUT_INDEX)


def check_log(hold: Hold) -> None:
    """
    Refuse a WAL that was truncated or overwritten in place; the caller holds the ledger's lock.

    SQLite would go on with pages from its cache, and the writes in the damaged WAL would be lost.
    """
    if not hold.log_is_whole():
        raise Unusable(_CUT_LOG)


def older_than_seal(path: Path, uid: str, newest: int) -> str | None:
    """
    Return why a ledger is not its newest copy; None if its seal shows no newer event.

    Args:
        path: The ledger.
        uid: The id inside the ledger.
        newest: The ledger's newest event.
    """
    try:
        seal = seal_file.Seal(path)
    except (OSError, seal_file.Broken):
        return None  # keybrake doctor reports a seal that is missing or broken
    try:
        sealed = seal.newest()
    except seal_file.Broken:
        return None
    finally:
        seal.close()
    if seal.uid != uid:
        return _ANOTHER.format(seal=seal_file.path_of(path))
    if newest < sealed:
        return _OLDER.format(seal=seal_file.path_of(path), has=newest, sealed=sealed)
    return None


def _id_of(name: str) -> _Id:
    try:
        found = os.stat(name)  # noqa: PTH116 -- 3 times as fast as Path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
