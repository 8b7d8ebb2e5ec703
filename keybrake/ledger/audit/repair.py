"""Find and repair problems around a ledger: its seal, file modes, and files of killed processes."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from keybrake.errors import LedgerError
from keybrake.ledger import lifting
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.protocol import Busy
from keybrake.ledger.stores.sqlite import ledger_files, owners, seal_file
from keybrake.ledger.stores.sqlite.connections import Store
from keybrake.ledger.stores.sqlite.group_commit import GroupCommit
from keybrake.ledger.stores.sqlite.write_lock import LedgerLock
from keybrake.model import clock

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Trouble(NamedTuple):
    """
    One problem around a ledger.

    Attributes:
        what: Its kind: ``seal``, ``gone``, ``rights`` or ``leftovers``.
        words: A description for a person.
        loses: The information that a repair gives up for good, so a person must agree. Empty: none.
        files: The files concerned.
    """

    what: str
    words: str
    loses: str = ""
    files: tuple[Path, ...] = ()


def troubles(path: Path) -> Iterator[Trouble]:
    """
    Yield the problems around a ledger; takes no lock.

    Raises:
        LedgerError: The ledger file itself cannot be used, and ``repair`` cannot help.
    """
    if not path.parent.is_dir():
        return
    yield from _of_seal(path)
    if others := [file for file in _all_files(path) if _is_open_to_others(file)]:
        named = ", ".join(map(str, others))
        yield Trouble("rights", f"open to others: {named}", files=tuple(others))
    if left := [*_drafts(path), *_owners_gone(path)]:
        yield Trouble("leftovers", f"of processes that were killed: {len(left)}", files=tuple(left))


def _of_seal(path: Path) -> Iterator[Trouble]:
    seal = seal_file.path_of(path)
    if not os.path.lexists(path):
        # SQLite would replay a WAL that is left behind into the new ledger.
        if left := [
            file for file in (seal, *ledger_files.side_files(path)) if os.path.lexists(file)
        ]:
            yield Trouble(
                "gone",
                f"the ledger is not there, but {' and '.join(map(str, left))}: it was deleted",
                "What was spent is forgotten: put the ledger back if there is a copy. Otherwise "
                "the next run begins a new one, in which every cap is whole",
                tuple(left),
            )
        return
    uid, newest, at = _inside(path)
    has = f"its newest event is {newest}, of {clock.iso(at)}"
    as_it_is = f"The ledger is taken as it is: {has}"
    try:
        found = seal_file.Seal(path)
    except FileNotFoundError:
        if newest > 1:
            words = f"the seal {seal} is missing, so nobody can tell if this is the newest copy"
            yield Trouble("seal", words, as_it_is)
        return
    except seal_file.Broken:
        yield Trouble("seal", f"the seal {seal} cannot be read", as_it_is)
        return
    with closing(found):
        sealed = _newest(found)
    if sealed is None or found.uid != uid:
        words = f"the seal {seal} belongs to another ledger" if sealed else f"{seal} cannot be read"
        yield Trouble("seal", words, as_it_is)
    elif newest < sealed:
        words = f"the ledger is older than its seal: {has}, and {seal} knows of event {sealed}"
        loses = (
            f"What happened in the {sealed - newest:,} events since then does not count any more"
        )
        yield Trouble("seal", words, f"{loses}. {as_it_is}")


def _newest(seal: seal_file.Seal) -> int | None:
    try:
        return seal.newest()
    except seal_file.Broken:
        return None


def _inside(path: Path) -> tuple[str, int, int]:
    """Return the ledger's id, and the number and time of its newest event."""
    try:
        ledger_files.check_file(path)
        with closing(ledger_files.connect(path, read_only=True)) as ledger:
            ledger_files.check_schema(ledger, path)
            damage = ledger.execute("PRAGMA quick_check(1)").fetchone()[0]
            if damage != "ok":
                raise _cannot(path, f"it is damaged: {damage}")
            uid = ledger.execute("SELECT uid FROM ledger").fetchone()[0]
            newest = "SELECT seq, at FROM event ORDER BY seq DESC LIMIT 1"
            return (uid, *ledger.execute(newest).fetchone())
    except (ledger_files.Unusable, sqlite3.Error, OSError, TypeError) as error:
        raise _cannot(path, error) from error


def _cannot(path: Path, why: object) -> LedgerError:
    return LedgerError(
        f"{path} is left as it is: {why}. Restore it from a backup; keybrake export shows what "
        f"can still be read of it"
    )


def _all_files(path: Path) -> list[Path]:
    beside = [ledger_files.lock_path(path), seal_file.path_of(path), *ledger_files.side_files(path)]
    return [path, *beside, *_drafts(path), *path.parent.glob(f"{path.name}.owner-*")]


def _is_open_to_others(file: Path) -> bool:
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISREG(mode) and bool(mode & _OTHERS)


def _drafts(path: Path) -> list[Path]:
    draft = path.with_name(f"{path.name}.new")
    seal = seal_file.path_of(path)
    beside = (draft, *ledger_files.side_files(draft), seal.with_name(f"{seal.name}.new"))
    return [file for file in beside if os.path.lexists(file)]


def _owners_gone(path: Path) -> Iterator[Path]:
    prefix = f"{path.name}.owner-"
    for file in sorted(path.parent.glob(f"{prefix}*")):
        if owners.is_gone(path, file.name.removeprefix(prefix)):
            yield file


def repair(path: Path, trouble: Trouble, *, patience_s: float) -> str | None:
    """
    Repair one problem under the ledger's lock; return a description of the repair.

    Args:
        path: The ledger.
        trouble: A problem from ``troubles``. If it no longer exists, or its repair would now lose
            something else, nothing is done and None is returned.
        patience_s: How long to wait for the lock.

    Raises:
        LedgerError: The lock is not free, or the ledger cannot be used.
        PolicyError: This process was started under a vault key.
    """
    lifting.refuse_under_any_key(f"repair the ledger {path}")
    try:
        with LedgerLock(ledger_files.lock_path(path)).held(patience_s):
            now = {found.what: found for found in troubles(path)}.get(trouble.what)
            if now is None or (now.loses and now != trouble):
                return None
            done = _REPAIRS[now.what](path, now)
    except Busy:
        msg = f"{ledger_files.lock_path(path)} was not free within {patience_s:g} s; stop what holds it"
        raise LedgerError(msg) from None
    if now.what == "seal":
        _write_down(path, now.words, patience_s)
    return done


def _seal_anew(path: Path, _: Trouble) -> str:
    with closing(ledger_files.connect(path)) as ledger:
        # Every event up to the one in the seal must be on the disk before the seal is.
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        uid, newest = ledger.execute(ledger_files.NAME).fetchone()
    ledger_files.sync(path)
    seal_file.write(path, uid, newest)
    ledger_files.sync(path.parent)
    return f"sealed the ledger at event {newest}; restart every process that uses it"


def _write_down(path: Path, words: str, patience_s: float) -> None:
    """Append an event that says that a person accepted the ledger as it was."""

    def write(writing: Writing) -> None:
        writing.of_scope("resealed", None, detail=json.dumps(words))

    store = Store(path, lock_timeout_s=patience_s, durability="power")
    GroupCommit(store).take(write, durable=True)
    store.close()


def _remove(_: Path, trouble: Trouble) -> str:
    gone = [file for file in trouble.files if os.path.lexists(file)]
    for file in gone:
        file.unlink(missing_ok=True)
    return f"removed {', '.join(map(str, gone))}"


def _close_to_others(_: Path, trouble: Trouble) -> str:
    for file in trouble.files:
        file.chmod(0o600)
    return f"chmod 600 {' '.join(map(str, trouble.files))}"


_REPAIRS = {
    "seal": _seal_anew,
    "gone": _remove,
    "rights": _close_to_others,
    "leftovers": _remove,
}
