"""Is it known whose call it is, and does the log stay where it is while somebody writes to it?"""

import fcntl
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keybrake.ledger.stores.sqlite import forking, ledger_files, owners, wal_hold
from keybrake.ledger.stores.sqlite.owners import Owner
from keybrake.ledger.stores.sqlite.wal_hold import Hold

# Whose call it is


@pytest.fixture
def ledger(tmp_path) -> Path:
    """Name a ledger."""
    return tmp_path / "ledger.db"


def test_a_process_is_known_by_a_file_that_it_has_locked(ledger):
    """Twelve digits; while it lives it is not gone, and what is not there is."""
    owner = Owner(ledger)
    before = os.umask(0)
    try:
        token = owner.token()
    finally:
        os.umask(before)
    path = ledger.with_name(f"ledger.db.owner-{token}")

    assert (len(token), owner.token()) == (12, token)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not os.get_inheritable(owner._fd)
    assert not owners.is_gone(ledger, token)
    assert owners.is_gone(ledger, "0" * 12)
    owner.close()
    assert not path.exists()
    assert owners.is_gone(ledger, token)
    owner.close()
    assert owner.token() != token
    owner.close()


def test_a_file_that_somebody_took_away_stops_no_process(ledger):
    """It goes on, and ends, without it."""
    owner = Owner(ledger)
    ledger.with_name(f"ledger.db.owner-{owner.token()}").unlink()
    owner.close()
    assert owner._fd is None


def test_a_file_that_nobody_has_locked_is_of_a_process_that_has_gone(ledger):
    """And it stays until somebody sweeps; those of living processes, and other files, stay for good."""
    alive, dead = Owner(ledger), ledger.with_name("ledger.db.owner-dead")
    token = alive.token()
    dead.touch()
    strange = ledger.with_name("ledger.db.other")
    strange.touch()
    before = len(list(Path("/dev/fd").iterdir()))
    assert owners.is_gone(ledger, "dead")
    assert dead.exists()
    owners.sweep(ledger)

    assert len(list(Path("/dev/fd").iterdir())) == before
    assert (dead.exists(), strange.exists()) == (False, True)
    assert not owners.is_gone(ledger, token)
    alive.close()


def test_a_file_that_cannot_be_swept_stops_nobody(ledger):
    """What is no file of ours is left where it is."""
    ledger.with_name("ledger.db.owner-aa").mkdir()
    ledger.with_name("ledger.db.owner-zz").touch()
    owners.sweep(ledger)

    assert ledger.with_name("ledger.db.owner-aa").exists()
    assert not ledger.with_name("ledger.db.owner-zz").exists()


def test_a_forked_child_is_another_process(ledger):
    """It forgets its parent's file, which stays, and gets a file of its own."""
    owner = Owner(ledger)
    token = owner.token()
    forking._before()
    fd = owner._fd
    owners._after_fork(False)
    assert owner._fd == fd
    forking._after_in_child()
    assert owner._fd is None
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    owner.close()
    assert ledger.with_name(f"ledger.db.owner-{token}").exists()
    assert owner.token() != token
    owner.close()


# What keeps the log in its place


_LEAVE = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("SELECT count(*) FROM event").fetchone()
db.close()
"""


def leaves(path: Path) -> None:
    """Let another process read the ledger and be the last to leave, as it believes."""
    subprocess.run([sys.executable, "-c", _LEAVE, str(path)], check=True)


@pytest.fixture
def writer(ledger) -> Iterator[sqlite3.Connection]:
    """Open a connection that has written to a new ledger."""
    ledger_files.create(ledger)
    connection = ledger_files.connect(ledger)
    connection.execute("UPDATE ledger SET folded = 0")
    yield connection
    connection.close()


@pytest.mark.skipif(wal_hold._SET is None, reason="this system has no locks of open descriptions")
@pytest.mark.parametrize("held", [True, False])
def test_a_hold_keeps_the_log_though_sqlites_locks_were_dropped(ledger, writer, held):
    """Closing any descriptor of the file drops them; without a hold the next to leave takes the log."""
    hold = Hold(ledger, *ledger_files.side_files(ledger))
    if held:
        hold.take()
    for path in (ledger, *ledger_files.side_files(ledger)):
        path.read_bytes()
    leaves(ledger)

    assert hold.is_firm is held
    assert ledger_files.side_files(ledger)[0].exists() is held
    hold.drop()


@pytest.mark.skipif(wal_hold._SET is None, reason="this system has no locks of open descriptions")
def test_a_hold_is_taken_once_loosened_and_dropped(ledger, writer):
    """Taken twice it is one; loosened, the last to leave tidies up; dropped, nothing is open."""
    before = len(list(Path("/dev/fd").iterdir()))
    hold = Hold(ledger, *ledger_files.side_files(ledger))
    assert (hold.is_firm, hold.file().st_size) == (False, ledger.stat().st_size)
    hold.loosen()
    hold.take()
    hold.take()
    assert len(list(Path("/dev/fd").iterdir())) == before + 3
    assert not any(os.get_inheritable(fd) for fd in hold._fds)
    assert (hold.is_firm, hold.file().st_size) == (True, ledger.stat().st_size)
    index = ledger_files.side_files(ledger)[1]
    for path, start, length in ((ledger, 0x40000002, 510), (index, 128, 1)):
        assert not free(path, start, 1)
        assert not free(path, start + length - 1, 1)
        assert free(path, start + length, 1)
    assert free(ledger, 0x40000001, 1)
    hold.loosen()
    assert free(ledger, 0x40000002, 510)
    assert free(index, 128, 1)
    hold.drop()
    hold.drop()
    assert not hold.is_firm
    assert len(list(Path("/dev/fd").iterdir())) == before


def free(path: Path, start: int, length: int) -> bool:
    """Return whether somebody else could lock these bytes of a file for writing."""
    other = os.open(path, os.O_RDWR)
    asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    kind = struct.unpack("hhqqi", fcntl.fcntl(other, fcntl.F_OFD_GETLK, asked))[0]
    os.close(other)
    return kind == fcntl.F_UNLCK


@pytest.mark.skipif(wal_hold._SET is None, reason="this system has no locks of open descriptions")
def test_a_child_keeps_its_parents_hold_open_and_takes_its_own(ledger, writer):
    """Closing what it inherited would drop the locks of its own connections."""
    hold = Hold(ledger, *ledger_files.side_files(ledger))
    hold.take()
    inherited = [*hold._fds, hold._log_fd]
    hold.inherit()
    assert not hold.is_firm
    hold.take()
    assert set(inherited).isdisjoint(hold._fds)
    for fd in inherited:
        os.fstat(fd)
    hold.drop()
    assert wal_hold._INHERITED[-3:] == inherited
    for _ in inherited:
        os.close(wal_hold._INHERITED.pop())


def test_a_hold_that_was_closed_by_others_is_dropped_all_the_same(ledger, writer):
    """A program that closes every descriptor it finds breaks nothing here."""
    hold = Hold(ledger, *ledger_files.side_files(ledger))
    hold.take()
    for fd in hold._fds[1:]:
        os.close(fd)
    hold.drop()
    assert not hold.is_firm
