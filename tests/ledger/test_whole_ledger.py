"""Is a ledger file that cannot be trusted refused, with its own message and nothing sent?"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import stripe

import keybrake
from keybrake.testing import Fault


def pay() -> None:
    """Charge through the real SDK."""
    stripe.PaymentIntent.create(amount=100, currency="usd")


def make(path: Path) -> None:
    """Make a ledger with one run in it, by a process that has ended."""
    code = f"import keybrake\nwith keybrake.run('first', cap=1, ledger='sqlite:///{path}'): pass"
    subprocess.run([sys.executable, "-c", code], check=True)


def emptied(path: Path) -> None:
    """Leave an empty file."""
    path.touch()


def no_database(path: Path) -> None:
    """Leave a file that is no database."""
    path.write_bytes(b"Dear diary, " * 1000)


def anothers(path: Path) -> None:
    """Leave the database of another program."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE call (seq INTEGER)")
    connection.close()


def newer(path: Path) -> None:
    """Leave a ledger of a later version."""
    make(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def linked(path: Path) -> None:
    """Leave a symbolic link to a good ledger."""
    make(path.with_name("real.db"))
    path.symlink_to(path.with_name("real.db"))


def dangling(path: Path) -> None:
    """Leave a symbolic link to nowhere."""
    path.symlink_to(path.with_name("nowhere.db"))


def corrupt(path: Path) -> None:
    """Leave a ledger with all but its first page overwritten."""
    make(path)
    first, size = path.read_bytes()[:2048], path.stat().st_size
    path.write_bytes(first + b"\xff" * (size - 2048))


def folder(path: Path) -> None:
    """Leave a folder."""
    path.mkdir()


BROKEN = [
    (emptied, "is empty: a ledger never is"),
    (no_database, "not a database"),
    (anothers, "is a database, but not a keybrake ledger"),
    (newer, "was written by a newer keybrake"),
    (linked, "is a symbolic link"),
    (dangling, "is a symbolic link"),
    (corrupt, "malformed"),
    (folder, "is not a file"),
]


@pytest.mark.parametrize(("spoil", "told"), BROKEN, ids=lambda it: getattr(it, "__name__", None))
def test_a_file_that_is_no_ledger_is_refused(unmade_ledger, fake, tmp_path, spoil, told):
    """No run opens on it, nothing is sent, and the file is left as it was found."""
    path = tmp_path / "ledger.db"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(keybrake.LedgerUnavailable, match=told) as refused, keybrake.run("a", cap=1):
        pay()

    assert str(path) in str(refused.value)
    assert "Nothing was sent" in str(refused.value)
    assert not fake.journal.entries
    assert (path.read_bytes() if path.is_file() else None) == before


def deleted(path: Path) -> None:
    """Delete the ledger."""
    path.unlink()


def replaced(path: Path) -> None:
    """Put another good ledger in its place."""
    path.with_name("other.db").replace(path)


def copied_back(path: Path) -> None:
    """Put a copy of the ledger in its own place."""
    shutil.copy2(path, path.with_name("copy.db"))
    path.with_name("copy.db").replace(path)


def truncated(path: Path) -> None:
    """Empty the ledger where it is."""
    os.truncate(path, 0)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (deleted, "was deleted while keybrake was using it"),
        (replaced, "was replaced while keybrake was using it"),
        (copied_back, "was replaced while keybrake was using it"),
        (truncated, "cannot be used"),
    ],
    ids=lambda it: getattr(it, "__name__", None),
)
def test_a_ledger_lost_while_running_stops_the_next_call(ledger_url, fake, tmp_path, spoil, told):
    """A cap never begins anew because somebody took the file away."""
    make(tmp_path / "other.db")
    with keybrake.run("a", cap=9):
        pay()
        spoil(tmp_path / "ledger.db")
        for _ in range(2):
            with pytest.raises(keybrake.LedgerUnavailable, match=told):
                pay()
        with pytest.raises(keybrake.LedgerUnavailable, match=told), keybrake.run("b", cap=1):
            pass

    assert len(fake.journal.entries) == 1


@pytest.fixture
def powerless() -> Iterator[Path]:
    """Return a folder that whoever runs the test may not write to, not even as root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def as_nobody() -> Iterator[Callable[[], None]]:
    """Return a function that gives up root's powers for the rest of the test."""
    me = os.geteuid()

    def step_down() -> None:
        if me == 0:
            os.seteuid(65534)

    yield step_down
    os.seteuid(me)


@pytest.mark.parametrize("there", [False, True], ids=["new", "existing"])
def test_a_folder_that_cannot_be_written_is_refused(fake, powerless, as_nobody, there):
    """Neither a new nor an existing ledger can be used where nothing can be written."""
    path = powerless / "ledger.db"
    if there:
        make(path)
        path.chmod(0o644)
    powerless.chmod(0o555)
    as_nobody()
    with pytest.raises(keybrake.LedgerUnavailable), keybrake.run("a", cap=1, ledger=path):
        pay()

    assert not fake.journal.entries


def test_a_ledger_in_a_file_is_refused(tmp_path, fake):
    """A path through something that is no folder is told, not raised as it comes."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(keybrake.LedgerUnavailable, match=r"ledger.db"),
        keybrake.run("a", cap=1, ledger=tmp_path / "file" / "ledger.db"),
    ):
        pay()


def test_a_new_folder_is_the_owners_alone(tmp_path, ledger_url):
    """Folder 0700, files 0600, whatever the umask."""
    before = os.umask(0)
    try:
        with keybrake.run("a", cap=1, ledger=tmp_path / "new" / "deep" / "ledger.db"):
            pass
    finally:
        os.umask(before)
    made = tmp_path / "new" / "deep"

    assert made.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in made.iterdir()} == {0o600}


def test_all_files_share_the_stem(ledger_url, fake, tmp_path):
    """Whoever moves ``ledger.db*`` moves all of it, and no draft is left behind."""
    with keybrake.run("a", cap=9):
        pay()
        names = {path.name for path in tmp_path.iterdir() if path.is_file()}

    owners = {name for name in names if name.startswith("ledger.db.owner-")}
    assert names - owners <= {
        "ledger.db",
        "ledger.db-wal",
        "ledger.db-shm",
        "ledger.db.lock",
        "ledger.db.seal",
    }
    assert {"ledger.db", "ledger.db.lock"} <= names
    assert len(owners) == 1


# What the database itself refuses


@pytest.fixture
def database(ledger_url, fake, tmp_path) -> Iterator[sqlite3.Connection]:
    """Open the ledger of a finished run as another program would."""
    with keybrake.run("a", cap=9):
        pay()
    connection = sqlite3.connect(tmp_path / "ledger.db")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM call", "never deleted"),
        ("UPDATE call SET state = 'reserved'", "cannot change its state"),
        ("UPDATE call SET state = 'voided'", "cannot change its state"),
        ("UPDATE call SET state = 'refused'", "cannot change its state"),
        ("UPDATE call SET cost = -1", "CHECK"),
        ("UPDATE call SET cost = 'much'", "cannot store TEXT"),
        ("UPDATE call SET cost = 1.5", "cannot store REAL"),
        ("UPDATE scope SET spent = -1", "CHECK"),
        ("UPDATE scope SET reserved = 'x'", "cannot store TEXT"),
        ("UPDATE scope SET spent = NULL", "NOT NULL"),
        ("UPDATE scope SET label = ''", "CHECK"),
        ("UPDATE scope SET mode = 'off'", "CHECK"),
        ("UPDATE position SET value = -1", "CHECK"),
        ("UPDATE scope SET key_hash = x'00'", "CHECK"),
        ("INSERT INTO ledger (id, uid, created_at) VALUES (2, 'x', 0)", "CHECK"),
    ],
)
def test_the_database_is_a_second_line_of_defence(database, statement, told):
    """Rows stay, ended calls stay ended, and what is no amount is not stored, by anybody."""
    with pytest.raises(sqlite3.IntegrityError, match=told):
        database.execute(statement)


def test_the_file_says_what_it_is(database):
    """It is marked as a ledger, with its schema version, in WAL mode, and whole."""
    for pragma, value in (
        ("application_id", 0x6B627231),
        ("user_version", 1),
        ("journal_mode", "wal"),
        ("integrity_check", "ok"),
    ):
        assert database.execute(f"PRAGMA {pragma}").fetchone() == (value,)


def test_every_table_is_strict(database):
    """No table takes text where an integer belongs."""
    tables = database.execute(
        "SELECT name, strict FROM pragma_table_list "
        "WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()

    assert [name for name, strict in tables if not strict] == []
    assert {"ledger", "scope", "bucket", "call", "position"} <= {name for name, _ in tables}


# The lock


@pytest.fixture
def holder(tmp_path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Return a function that starts a process which holds the ledger's lock."""
    started: list[subprocess.Popen[str]] = []
    code = (
        "import fcntl, sys, time\n"
        f"lock = open({str(tmp_path / 'ledger.db.lock')!r}, 'r+')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX); print('held', flush=True)\n"
        "sys.stdin.readline()\n"
    )

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_stopped_holder_is_given_up_at_the_deadline(ledger_url, fake, holder):
    """A process frozen with the lock in its hand refuses others in time, and not before."""
    keybrake.configure(lock_timeout=1.0)
    with keybrake.run("a", cap=9) as run:
        process = holder()
        os.kill(process.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(keybrake.LedgerUnavailable, match="not free within 1 s") as refused:
            pay()
        took = time.monotonic() - began
        assert isinstance(refused.value, stripe.PermissionError)
        assert not fake.journal.entries
        process.kill()
        process.wait()
        pay()

    assert 0.9 <= took <= 1.3
    assert (run.spent, run.refused) == (1, 0)


def test_a_holder_that_pauses_makes_nobody_give_up(ledger_url, fake, holder):
    """At the default deadline half a second is nothing; the call waits and goes out."""
    with keybrake.run("a", cap=9) as run:
        process = holder()
        os.kill(process.pid, signal.SIGSTOP)
        resume = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -KILL {process.pid}"])
        began = time.monotonic()
        pay()
        took = time.monotonic() - began
        resume.wait()

    assert 0.4 <= took <= 3
    assert run.spent == 1


def test_the_lock_file_survives(ledger_url, fake, tmp_path):
    """It is never deleted: whoever opened it and whoever opens it next lock the same file."""
    with keybrake.run("a", cap=9):
        first = (tmp_path / "ledger.db.lock").stat().st_ino
        pay()
        pay()

    assert (tmp_path / "ledger.db.lock").stat().st_ino == first


def test_a_lock_file_that_is_a_link_is_refused(ledger_url, fake, tmp_path):
    """Nobody gets a file of ours opened through a link put in the lock's place."""
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "ledger.db.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(keybrake.LedgerUnavailable), keybrake.run("a", cap=1):
        pay()

    assert (tmp_path / "victim").read_text() == "mine"


def test_a_process_killed_in_mid_call_leaves_its_reservation(ledger_url, fake, tmp_path):
    """Between reserve and settle a kill -9 changes nothing: the row stays and counts."""
    key = keybrake.issue_vault_key("killed", cap=3)
    code = (
        "import os, signal, keybrake\n"
        "from keybrake.model.call import Call, Effect\n"
        "from keybrake.ledger import Admission\n"
        f"with keybrake.run(key={str(key)!r}) as run:\n"
        "    ledger = keybrake.open_ledger(); pk = ledger.runs(run.id)[0].pk\n"
        "    call = Call('stripe', 'stripe.refunds.create', 'POST', '/v1/refunds', Effect.MONEY,"
        " value_micros=2_000_000)\n"
        "    ledger.admit(Admission('uid', call, (pk,)))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    with keybrake.run(key=key) as run:
        with pytest.raises(keybrake.CapExceeded):
            stripe.PaymentIntent.create(amount=200, currency="usd")
        pay()

    connection = sqlite3.connect(tmp_path / "ledger.db")
    states = connection.execute("SELECT state FROM call_log ORDER BY seq").fetchall()
    connection.close()
    assert killed.returncode == -signal.SIGKILL
    assert (run.reserved, run.spent) == (2, 1)
    assert states == [("reserved",), ("refused",), ("settled",)]


def test_a_vendors_answer_survives_a_ledger_that_cannot_settle(ledger_url, fake, tmp_path):
    """The charge succeeded, so its answer comes back, with a warning; the row stays reserved."""
    keybrake.open_ledger()
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, check_same_thread=False)

    def break_it(_request: object) -> bool:
        other.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON call BEGIN SELECT raise(ABORT, 'full'); END"
        )
        return True

    with keybrake.run("a", cap=9) as run:
        fake.inject(Fault("slow", delay=0, when=break_it))
        with pytest.warns(RuntimeWarning, match="could not be written down"):
            intent = stripe.PaymentIntent.create(amount=100, currency="usd")
        other.execute("DROP TRIGGER full")
    other.close()

    assert intent.id.startswith("pi_")
    assert (run.reserved, run.spent) == (1, 0)
