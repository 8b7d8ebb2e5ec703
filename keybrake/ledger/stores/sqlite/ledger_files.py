"""The file of a SQLite ledger: find it, make it, open it, and check that it can hold a ledger."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import sys
import uuid
from pathlib import Path
from urllib.parse import quote

from keybrake.errors import PolicyError
from keybrake.ledger import event_chain
from keybrake.ledger.stores.sqlite import seal_file
from keybrake.model import clock, data_files
from keybrake.model.shown import shown

APPLICATION_ID = 0x6B627231  # "kbr1"
SCHEMA_VERSION = 1
OLDEST_SQLITE = (3, 37, 0)  # STRICT tables

# The WAL-reset bug: a write and a checkpoint on two connections may corrupt the file. Fixed in 3.51.3
# and in the branch releases 3.50.7 and 3.44.6 (SQLite change log). It cannot hit keybrake, which
# writes and checkpoints under one lock, but other programs should not write to the ledger.
_WAL_RESET_FIXED = ((3, 44, 6), (3, 50, 7), (3, 51, 3))


# The id of a ledger, and its newest event.
NAME = "SELECT uid, (SELECT max(seq) FROM event) FROM ledger"

# Network file systems: their locks do not reliably reach other machines, and SQLite's WAL needs memory
# that all processes share.
_NETWORK = re.compile(
    r"9p|afs|beegfs|ceph|cifs|fuse\.(glusterfs|s3fs|sshfs)|gfs2|glusterfs|lustre|ncpfs|nfs4?|ocfs2|"
    r"smb[23]|smbfs|virtiofs"
)


class Unusable(Exception):
    """The file cannot hold a ledger, or is not the ledger it was."""


def path_of(url: object) -> Path:
    """
    Return the file a ledger URL names: ``sqlite:///rel.db``, ``sqlite:////abs.db``, or a path.

    Raises:
        PolicyError: *url* is not the URL of a ledger that this version can open.
    """
    if isinstance(url, os.PathLike):
        path = Path(url)
    elif isinstance(url, str) and url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
    else:
        msg = f"ledger={shown(url)} cannot be opened; write sqlite:///ledger.db or sqlite:////abs/ledger.db"
        raise PolicyError(msg)
    if "\0" in str(path) or path.name in ("", ".", "..") or ":memory:" in path.name:
        msg = f"ledger={shown(url)} names no file that other processes could share"
        raise PolicyError(msg)
    return Path(os.path.abspath(path))  # noqa: PTH100 -- resolve() would follow a link we refuse


def lock_path(path: Path) -> Path:
    """Return the path of a ledger's lock file."""
    return path.with_name(path.name + ".lock")


def prepare_folder(path: Path) -> None:
    """Make the folder of a ledger if it does not exist; only its owner may enter it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def check_file(path: Path) -> None:
    """
    Refuse a file that another user could have put there, or that is no ledger at first sight.

    Raises:
        Unusable: It is a link, a folder, empty, or belongs to another user.
    """
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        msg = f"{path} is a symbolic link; name the file itself"
        raise Unusable(msg)
    if not stat.S_ISREG(found.st_mode):
        msg = f"{path} is not a file; name a file for the ledger"
        raise Unusable(msg)
    if hasattr(os, "geteuid") and found.st_uid not in (os.geteuid(), 0):
        msg = f"{path} belongs to another user (uid {found.st_uid}); use a ledger of your own"
        raise Unusable(msg)
    if found.st_size == 0:
        msg = (
            f"{path} is empty: a ledger never is. If somebody emptied it, what was spent is lost "
            f"with it; move the file away to begin a new ledger"
        )
        raise Unusable(msg)


def second_name(path: Path) -> str | None:
    """Return why a file with several hard links must not be written to; None if it has one name."""
    names = path.lstat().st_nlink
    if names == 1:
        return None
    return (
        f"the file has {names} names (hard links), and each name would have a log of its own, so "
        f"what is written under one is lost under the other. Remove the other name; copy a ledger "
        f"with sqlite3's .backup instead"
    )


def refuse_network(path: Path) -> None:
    """
    Refuse a network file system.

    Raises:
        Unusable: *path* is on one.
    """
    kind = file_system(path)
    if kind is not None and _NETWORK.fullmatch(kind):
        msg = (
            f"{path} lies on {kind}, a network file system, where locks do not hold; move it to a "
            f"local disk. A ledger for several machines has to be in PostgreSQL"
        )
        raise Unusable(msg)


def file_system(path: Path) -> str | None:
    """Return the type of the file system of *path*; None if the operating system does not tell."""
    if sys.platform != "linux":
        return None
    best, kind = "", None
    try:
        mounts = _MOUNTS.read_text("utf-8", errors="replace")
    except OSError:
        return None
    for line in mounts.splitlines():
        _, point, type_, *_ = line.split()
        point = point.replace("\\040", " ")
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, type_
    return kind


_MOUNTS = Path("/proc/self/mounts")


def connect(path: Path, *, read_only: bool = False, timeout_s: float = 5.0) -> sqlite3.Connection:
    """Open an existing ledger file, but never make one; *timeout_s* is SQLite's busy timeout."""
    mode = "ro" if read_only else "rw"
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=timeout_s,
        cached_statements=256,
    )


def create(path: Path) -> None:
    """
    Make a new ledger, whole or not at all; the caller holds the ledger's lock.

    The file is built under another name and renamed when it is complete. So a crash half-way leaves
    no file that looks like an emptied ledger.
    """
    draft = path.with_name(f"{path.name}.new")
    for leftover in (draft, *side_files(draft)):
        leftover.unlink(missing_ok=True)
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
    os.close(os.open(draft, flags, 0o600))
    connection = connect(draft)
    try:
        connection.execute("PRAGMA page_size=2048")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        uid, now = uuid.uuid4().hex, clock.now()
        schema = data_files.read("keybrake.ledger.stores.sqlite", "schema.sql")
        connection.executescript(f"BEGIN;\n{schema}\nCOMMIT;")
        connection.execute("INSERT INTO ledger (id, uid, created_at) VALUES (1, ?, ?)", (uid, now))
        event_chain.begin(connection, uid, now)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
    sync(draft)
    draft.rename(path)
    sync(path.parent)
    seal_file.write(path, uid, 1)


def side_files(path: Path) -> tuple[Path, Path]:
    """Return the paths of SQLite's WAL and WAL index beside a ledger."""
    return path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """
    Refuse a file that is no ledger, or a ledger with a schema that this version does not know.

    Raises:
        Unusable: The file is refused.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        msg = f"{path} is a database, but not a keybrake ledger; name another file"
        raise Unusable(msg)
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        msg = (
            f"{path} was written by a newer keybrake (schema {version}, this one knows "
            f"{SCHEMA_VERSION}); upgrade keybrake here"
        )
        raise Unusable(msg)
    if version != SCHEMA_VERSION:
        msg = f"{path} has schema {version}, which no released keybrake has written; name another file"
        raise Unusable(msg)


def sqlite_fault(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> str | None:
    """Return the known fault of this SQLite version; None if it has none."""
    if version < OLDEST_SQLITE:
        return "too old for STRICT tables; keybrake needs 3.37 or newer"
    if version >= _WAL_RESET_FIXED[-1]:
        return None
    if any(version[:2] == fixed[:2] and version >= fixed for fixed in _WAL_RESET_FIXED):
        return None
    return (
        "has the WAL-reset bug (fixed in 3.51.3); keybrake keeps every write under one lock, so "
        "let no other program write to the ledger"
    )
