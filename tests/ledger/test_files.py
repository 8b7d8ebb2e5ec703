"""Where does a ledger lie, what may it lie on, and how is one made or brought up to date?"""

import contextlib
import os
import sqlite3
import stat
from pathlib import Path

import pytest

import keybrake
from keybrake.errors import PolicyError
from keybrake.ledger import open_ledger
from keybrake.ledger.stores.sqlite import ledger_files, seal_file
from keybrake.ledger.stores.sqlite.ledger_files import Unusable
from keybrake.model import clock
from tests._each import each
from tests.ledger.test_events import false_hashes

# Which file a URL names


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/ledger.db", "/var/lib/ledger.db"),
        ("sqlite:////var/../ledger.db", "/ledger.db"),
        (Path("/var/ledger.db"), "/var/ledger.db"),
    ],
)
def test_a_url_names_a_file(url, path):
    """Four slashes, or a path, name it absolutely."""
    assert ledger_files.path_of(url) == Path(path)


def test_a_relative_url_is_relative_to_the_working_directory(tmp_path, monkeypatch):
    """Three slashes, or a relative path, are relative."""
    monkeypatch.chdir(tmp_path)

    for url in ("sqlite:///sub/ledger.db", Path("sub/ledger.db")):
        assert ledger_files.path_of(url) == tmp_path / "sub" / "ledger.db"


@pytest.mark.parametrize(
    "url", ["", "ledger.db", "sqlite://ledger.db", "sqlite:///", "postgresql://x/y", 7, None]
)
def test_what_is_no_url_is_refused(url):
    """The message says what to write."""
    with pytest.raises(PolicyError) as refused:
        ledger_files.path_of(url)

    assert str(refused.value) == (
        f"ledger={url!r} cannot be opened; write sqlite:///ledger.db or sqlite:////abs/ledger.db"
    )


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///.",
        "sqlite:///:memory:",
        "sqlite:///a\0b",
        "sqlite:////",
        "sqlite:///..",
        Path("/x/.."),
    ],
)
def test_what_nobody_else_could_open_is_refused(url):
    """A ledger is shared between processes, or it counts nothing."""
    with pytest.raises(PolicyError) as refused:
        ledger_files.path_of(url)

    assert str(refused.value) == f"ledger={url!r} names no file that other processes could share"


def test_a_ledger_is_opened_once_per_process_and_file(tmp_path, ledger_url, monkeypatch):
    """By whatever name it is called; without one, it is the one that is configured."""
    monkeypatch.chdir(tmp_path)
    one = open_ledger(tmp_path / "other.db")

    assert open_ledger("sqlite:///other.db") is one
    assert open_ledger(f"sqlite:///{tmp_path / 'other.db'}") is one
    assert open_ledger().url == ledger_url
    assert open_ledger() is open_ledger(ledger_url) is not one


def test_a_ledger_is_opened_with_what_is_configured(tmp_path):
    """How long to wait for the lock, and what a power cut may cost."""
    keybrake.configure(lock_timeout=1.5, durability="process")
    store = open_ledger(tmp_path / "ledger.db")._store
    assert (store.lock_timeout_s, store._durable) == (1.5, "NORMAL")

    keybrake.configure(durability="power")
    assert open_ledger(tmp_path / "other.db")._store._durable == "FULL"


def test_side_files_and_lock_stand_beside_it():
    """Whoever moves ``ledger.db*`` moves them all."""
    path = Path("/x/ledger.db")

    assert ledger_files.lock_path(path) == Path("/x/ledger.db.lock")
    assert ledger_files.side_files(path) == (Path("/x/ledger.db-wal"), Path("/x/ledger.db-shm"))
    assert seal_file.path_of(path) == Path("/x/ledger.db.seal")


# What it may be


def refused(path: Path) -> str:
    """Return why a file may be no ledger."""
    with pytest.raises(Unusable) as told:
        ledger_files.check_file(path)
    return str(told.value)


def test_what_is_no_file_of_ones_own_is_refused(tmp_path, monkeypatch):
    """A link, a folder and an empty file have a message each, with what to do."""
    path = tmp_path / "ledger.db"
    path.symlink_to(tmp_path / "nowhere")
    assert refused(path) == f"{path} is a symbolic link; name the file itself"
    path.unlink()
    path.mkdir()
    assert refused(path) == f"{path} is not a file; name a file for the ledger"
    path.rmdir()
    path.touch()
    assert refused(path) == (
        f"{path} is empty: a ledger never is. If somebody emptied it, what was spent is lost with it; "
        f"move the file away to begin a new ledger"
    )
    path.write_bytes(b"x")
    ledger_files.check_file(path)


def test_a_file_of_another_user_is_refused(tmp_path, monkeypatch):
    """Root's and one's own are trusted, nobody else's."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"x")
    mine = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    if mine != 0:
        assert refused(path) == (
            f"{path} belongs to another user (uid {mine}); use a ledger of your own"
        )
        return
    ledger_files.check_file(path)
    os.chown(path, 4711, -1)
    assert refused(path) == f"{path} belongs to another user (uid 4711); use a ledger of your own"
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    ledger_files.check_file(path)


MOUNTS = """\
sysfs /sys sysfs rw 0 0
/dev/sda1 / ext4 rw 0 0
server:/x /net/share nfs4 rw 0 0
tmpfs /net/share/here tmpfs rw 0 0
dav /my\\040net fuse.sshfs rw 0 0
/dev/sda1 /over ext4 rw 0 0
//pc/x /over cifs rw 0 0
"""


@pytest.fixture
def mounts(tmp_path, monkeypatch) -> Path:
    """Let the system have a few file systems, in the order they were mounted."""
    path = tmp_path / "mounts"
    path.write_text(MOUNTS)
    monkeypatch.setattr(ledger_files, "_MOUNTS", path)
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ledger.db", "ext4"),
        ("/net/share/ledger.db", "nfs4"),
        ("/net/shared/ledger.db", "ext4"),
        ("/net/share/here/ledger.db", "tmpfs"),
        ("/my net/ledger.db", "fuse.sshfs"),
        ("/over/ledger.db", "cifs"),
    ],
)
def test_the_innermost_and_newest_mount_is_where_a_file_lies(mounts, path, kind):
    """A mount over a mount hides it; a blank in its name is written as an octal number."""
    assert ledger_files.file_system(Path(path)) == kind


def test_a_system_that_does_not_tell_refuses_nothing(mounts, monkeypatch):
    """Without a list of mounts, or on another system, nothing is known."""
    monkeypatch.setattr("sys.platform", "darwin")
    assert ledger_files.file_system(Path("/net/share/ledger.db")) is None
    monkeypatch.undo()
    monkeypatch.setattr(ledger_files, "_MOUNTS", mounts.with_name("none"))
    assert ledger_files.file_system(Path("/net/share/ledger.db")) is None
    ledger_files.refuse_network(Path("/net/share/ledger.db"))


def test_a_mount_of_any_name_can_be_read(mounts):
    """Names that are no UTF-8 are read, too."""
    mounts.write_bytes(b"x /b\xff tmpfs rw 0 0\n" + MOUNTS.encode())

    assert ledger_files.file_system(Path("/net/share/ledger.db")) == "nfs4"


def test_a_network_file_system_is_named(mounts):
    """The message says which, why not, and what to do."""
    with pytest.raises(Unusable) as told:
        ledger_files.refuse_network(Path("/net/share/ledger.db"))

    assert str(told.value) == (
        "/net/share/ledger.db lies on nfs4, a network file system, where locks do not hold; move it "
        "to a local disk. A ledger for several machines has to be in PostgreSQL"
    )
    ledger_files.refuse_network(Path("/home/ledger.db"))


@each(
    ("version", "fault"),
    [
        ((3, 36, 9), "too old"),
        ((3, 37, 0), "WAL-reset"),
        ((3, 44, 5), "WAL-reset"),
        ((3, 44, 6), None),
        ((3, 45, 0), "WAL-reset"),
        ((3, 50, 6), "WAL-reset"),
        ((3, 50, 7), None),
        ((3, 51, 2), "WAL-reset"),
        ((3, 51, 3), None),
        ((3, 52, 0), None),
        ((4, 0, 0), None),
    ],
)
def test_what_is_wrong_with_a_sqlite_is_known(version, fault):
    """Too old, or with the bug that three lines of releases have fixed."""
    words = {
        None: None,
        "too old": "too old for STRICT tables; keybrake needs 3.37 or newer",
        "WAL-reset": (
            "has the WAL-reset bug (fixed in 3.51.3); keybrake keeps every write under one lock, so "
            "let no other program write to the ledger"
        ),
    }

    assert ledger_files.sqlite_fault(version) == words[fault]


# Making one


def test_a_new_ledger_is_whole_and_closed_to_others(tmp_path):
    """It is in WAL mode, marked, empty but for its first event, sealed, and without leftovers."""
    path = tmp_path / "ledger.db"
    draft = tmp_path / "ledger.db.new"
    for leftover in (draft, *ledger_files.side_files(draft)):
        leftover.write_bytes(b"left over")
    before, began = os.umask(0), clock.now()
    try:
        ledger_files.create(path)
    finally:
        os.umask(before)

    assert sorted(it.name for it in tmp_path.iterdir()) == ["ledger.db", "ledger.db.seal"]
    assert {stat.S_IMODE(it.stat().st_mode) for it in tmp_path.iterdir()} == {0o600}
    with contextlib.closing(ledger_files.connect(path)) as db:
        one = {
            name: db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "journal_mode", "application_id", "user_version")
        }
        (row,) = db.execute("SELECT id, length(uid), created_at FROM ledger").fetchall()
        events = db.execute("SELECT seq, at, kind FROM event").fetchall()
        with contextlib.closing(seal_file.Seal(path)) as seal:
            assert db.execute("SELECT uid FROM ledger").fetchone() == (seal.uid,)
            assert seal.newest() == 1
    assert one == {
        "page_size": 2048, "journal_mode": "wal", "application_id": 0x6B627231, "user_version": 1,
    }  # fmt: skip
    assert row[:2] == (1, 32)
    assert began <= row[2] <= clock.now()
    assert events == [(1, row[2], "made")]
    assert false_hashes(path) == []


def test_no_ledger_is_made_through_a_link_or_over_a_draft(tmp_path):
    """What another user could have put there is taken away first, not written through."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "ledger.db.new").symlink_to(victim)
    ledger_files.create(tmp_path / "ledger.db")

    assert victim.read_text() == "mine"
    assert not (tmp_path / "ledger.db").is_symlink()


def test_a_ledger_that_cannot_be_finished_leaves_none(tmp_path, monkeypatch):
    """A crash half-way is no emptied ledger: the name stays free."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError

    monkeypatch.setattr(ledger_files.event_chain, "begin", full)
    with pytest.raises(sqlite3.OperationalError):
        ledger_files.create(tmp_path / "ledger.db")

    assert not (tmp_path / "ledger.db").exists()
    monkeypatch.undo()
    ledger_files.create(tmp_path / "ledger.db")
    assert false_hashes(tmp_path / "ledger.db") == []


def test_a_connection_makes_no_file_and_may_be_read_only(tmp_path):
    """Names are taken as they are, whatever stands in them."""
    path = tmp_path / "a?b#c%20d.db"
    with pytest.raises(sqlite3.OperationalError):
        ledger_files.connect(path).execute("SELECT 1 FROM ledger")
    assert not path.exists()
    ledger_files.create(path)
    with contextlib.closing(ledger_files.connect(path, read_only=True)) as reader:
        assert reader.execute("PRAGMA busy_timeout").fetchone() == (5000,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("UPDATE ledger SET folded = 1")
    with contextlib.closing(ledger_files.connect(path, timeout_s=0.25)) as writer:
        writer.execute("UPDATE ledger SET folded = 1")
        assert not writer.in_transaction
        assert writer.execute("PRAGMA busy_timeout").fetchone() == (250,)


def test_a_file_of_another_program_or_version_is_told(tmp_path):
    """Each has its message; a version that was never released is told by its number."""
    path = tmp_path / "ledger.db"
    ledger_files.create(path)
    with contextlib.closing(ledger_files.connect(path)) as db:
        ledger_files.check_schema(db, path)
        db.execute("PRAGMA user_version=0")
        with pytest.raises(Unusable) as unknown:
            ledger_files.check_schema(db, path)
        db.execute("PRAGMA user_version=2")
        with pytest.raises(Unusable) as newer:
            ledger_files.check_schema(db, path)
        db.execute("PRAGMA application_id=7")
        with pytest.raises(Unusable) as another:
            ledger_files.check_schema(db, path)

    assert str(newer.value) == (
        f"{path} was written by a newer keybrake (schema 2, this one knows 1); upgrade keybrake here"
    )
    assert str(unknown.value) == (
        f"{path} has schema 0, which no released keybrake has written; name another file"
    )
    assert str(another.value) == (
        f"{path} is a database, but not a keybrake ledger; name another file"
    )


def test_a_folder_is_made_where_there_is_none(tmp_path):
    """Open to its owner alone; one that is there stays as it is."""
    path = tmp_path / "deep" / "down" / "ledger.db"
    before = os.umask(0)
    try:
        ledger_files.prepare_folder(path)
        path.parent.chmod(0o750)
        ledger_files.prepare_folder(path)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    ledger_files.prepare_folder(tmp_path / "new" / "ledger.db")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
