"""Is a ledger's file opened, written, closed and given up as it should be, and how durably?"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keybrake.errors import LedgerUnavailable
from keybrake.ledger import Note
from keybrake.ledger.protocol import Busy
from keybrake.ledger.stores.sqlite import connections, ledger_files, wal_hold
from keybrake.ledger.stores.sqlite.connections import Store
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.model.call import Outcome, State
from keybrake.policy.policy import Policy, terms_of
from tests.ledger.test_contract import MONEY, READ, asking, opened, settled


@pytest.fixture
def path(tmp_path) -> Path:
    """Name a ledger."""
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path) -> Iterator[SQLiteLedger]:
    """Open a new ledger that outlasts power cuts."""
    opened_here = SQLiteLedger(path, lock_timeout_s=0.3, durability="power")
    yield opened_here
    opened_here.close()


@pytest.fixture
def store(ledger) -> Store:
    """Return what reaches its file."""
    return ledger._store


def asked(store: Store, pragma: str) -> object:
    """Return how the connection that writes is set."""
    return store._writer.execute(f"PRAGMA {pragma}").fetchone()[0]


def told(what: Callable[[], object]) -> str:
    """Return why the ledger cannot be used, without the sentence around it."""
    with pytest.raises(LedgerUnavailable) as refused:
        what()
    return str(refused.value).partition(" cannot be used: ")[2].partition(". Nothing was")[0]


# Words


def test_a_ledger_that_cannot_be_used_says_so(store, path):
    """Which one, why, that nothing was sent, and what a person can do."""
    refusal = store.unavailable("it is raining")

    assert str(refusal) == (
        f"The ledger {path} cannot be used: it is raining. Nothing was sent. Do not retry; a person "
        f"has to look: keybrake doctor"
    )
    assert (refusal.reason, refusal.hint) == ("ledger_unavailable", "Run keybrake doctor.")


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    """Before anything is opened."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "sub" / "ledger.db"
    with pytest.raises(LedgerUnavailable) as refused:
        Store(path, lock_timeout_s=1, durability="power")

    assert str(path) in str(refused.value)
    assert isinstance(refused.value.__cause__, NotADirectoryError)


# How durably

DURABLE = {
    "admit": lambda ledger, run: ledger.admit(asking(1, run)),
    "revoke": lambda ledger, run: ledger.revoke("run_1"),
    "pause": lambda ledger, run: ledger.pause("run_1"),
    "resume": lambda ledger, run: ledger.resume("run_1"),
    "resolve": lambda ledger, run: ledger.resolve(1, Outcome(State.VOIDED), "by hand"),
}
LIGHT = {
    "read": lambda ledger, run: ledger.admit(asking(0, run, call=READ)),
    "settle": lambda ledger, run: ledger.settle(ledger.admit(asking(0, run, call=READ)), settled(0)),
    "open": lambda ledger, run: opened(ledger, "run_2"),
    "close": lambda ledger, run: ledger.close_run(run),
    "tool": lambda ledger, run: ledger.tool(run, "pay", terms_of(Policy(cap=1))),
    "note": lambda ledger, run: ledger.note(Note("n", MONEY, State.UNGUARDED, "x")),
    "observe": lambda ledger, run: ledger.observe(
        Note("n", READ, State.SETTLED, "x"), Outcome(State.SETTLED)
    ),
}  # fmt: skip


@pytest.mark.parametrize("durability", ["power", "process"])
@pytest.mark.parametrize("what", [*DURABLE, *LIGHT])
def test_what_a_power_cut_must_not_undo_is_synced(path, durability, what):
    """Admissions, and a person's word; a settlement that is lost leaves its reservation."""
    ledger = SQLiteLedger(path, lock_timeout_s=1, durability=durability)
    run = opened(ledger)
    lost = ledger.admit(asking(1, run))
    ledger.settle(lost, Outcome(State.UNKNOWN))
    {**DURABLE, **LIGHT}[what](ledger, run)
    level = asked(ledger._store, "synchronous")
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        newest = db.execute("SELECT max(seq) FROM event").fetchone()[0]
    words = path.with_name("ledger.db.seal").read_bytes()[40:56]
    ledger.close()

    full = durability == "power" and what in DURABLE
    assert level == (2 if full else 1)
    assert int.from_bytes(words[8:], "little") == newest
    if full:
        assert int.from_bytes(words[:8], "little") == newest


@pytest.mark.parametrize("durable", [True, False])
def test_a_block_of_several_is_as_durable_as_it_says(ledger, store, durable):
    """Whatever is asked inside of it."""
    run = opened(ledger)
    with ledger.together(durable=durable, wait=True):
        ledger.admit(asking(1, run))
    assert asked(store, "synchronous") == (2 if durable else 1)


# Opening


def test_the_connection_that_writes_is_set_up(store):
    """In WAL mode, a checkpoint every 4 MB, a log of 16 MB at most, and as patient as was said."""
    assert asked(store, "journal_mode") == "wal"
    assert asked(store, "wal_autocheckpoint") == 2000
    assert asked(store, "journal_size_limit") == 16_777_216
    assert asked(store, "busy_timeout") == 300


def test_an_event_loop_waits_for_no_other_program(ledger, store):
    """SQLite's own patience is none then, and comes back for whoever may wait."""
    run = opened(ledger)
    store.lock_timeout_s = 5
    ledger.admit(asking(1, run), wait=False)
    assert asked(store, "busy_timeout") == 0
    ledger.admit(asking(1, run))
    assert asked(store, "busy_timeout") == 5000
    ledger.close()
    ledger.admit(asking(1, run), wait=False)
    assert asked(store, "busy_timeout") == 0


def test_another_programs_transaction_is_waited_for_or_told(ledger, path):
    """It does not know our lock: whoever may wait is refused in the end, the others are told."""
    run = opened(ledger)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        assert told(lambda: ledger.admit(asking(1, run))) == "database is locked"
        with pytest.raises(Busy) as busy:
            ledger.admit(asking(1, run), wait=False)
        assert busy.value.__cause__ is None
        for wait, error in ((True, LedgerUnavailable), (False, Busy)):
            with pytest.raises(error), ledger.together(durable=False, wait=wait):
                ledger.admit(asking(1, run))
    ledger.admit(asking(1, run))
    assert ledger.run(run).calls == 1


def test_a_file_that_goes_before_it_is_opened_again_is_not_made_anew(ledger, path):
    """It was closed, and deleted meanwhile: what was spent is not forgotten."""
    ledger.close()
    path.unlink()
    words = told(lambda: opened(ledger))

    assert words.startswith("the file was deleted while keybrake was using it")
    assert not path.exists()


def test_a_ledger_that_cannot_be_opened_leaves_nothing_open(tmp_path):
    """Neither descriptors, nor something to do at exit."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"Dear diary, " * 1000)
    open_files = len(list(Path("/dev/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(LedgerUnavailable, match="not a database"):
            SQLiteLedger(path, lock_timeout_s=1, durability="power")

    assert len(list(Path("/dev/fd").iterdir())) == open_files


def test_a_ledger_that_was_upgraded_elsewhere_is_told(ledger, path):
    """By its name, and what to do."""
    ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")
    assert told(lambda: opened(ledger)) == (
        f"{path} was written by a newer keybrake (schema 99, this one knows 1); upgrade keybrake here"
    )


def test_owners_that_have_gone_are_swept_when_it_is_opened(ledger, path):
    """A process that was killed leaves a file; the next to open the ledger takes it away."""
    ledger.close()
    dead = path.with_name("ledger.db.owner-dead")
    dead.touch()
    opened(ledger)

    assert not dead.exists()


def test_a_network_is_refused_for_a_ledger_that_is_there_too(ledger, path, tmp_path, monkeypatch):
    """Somebody moved it there."""
    ledger.close()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"tmpfs / tmpfs rw 0 0\nserver:/x {tmp_path} nfs rw 0 0\n")
    monkeypatch.setattr(ledger_files, "_MOUNTS", mounts)

    assert "lies on nfs, a network file system" in told(lambda: opened(ledger))


# Reading


def test_a_reader_waits_for_nobody(ledger, path):
    """Neither for our lock nor for another program's transaction."""
    run = opened(ledger)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        with ledger._store.lock.held(1):
            assert ledger.run(run).uid == "run_1"
    assert ledger._store._reader is not None
    reader = ledger._store._reader
    assert ledger.run(run).uid == "run_1"
    assert ledger._store._reader is reader


def test_what_cannot_be_read_is_told(ledger, store):
    """An error of SQLite's is the refusal it is."""
    with pytest.raises(LedgerUnavailable, match="no such table: nowhere") as refused:
        store.read("SELECT * FROM nowhere", ())
    assert isinstance(refused.value.__cause__, sqlite3.OperationalError)


def test_a_log_that_went_stops_the_readers_too(ledger, store, path):
    """What they would read is not what others write."""
    run = opened(ledger)
    ledger_files.side_files(path)[0].unlink()
    for what in (lambda: ledger.run(run), lambda: ledger.admit(asking(1, run))):
        assert told(what).startswith("its write-ahead log, or the index of it, was removed while")


def test_where_no_hold_is_firm_the_log_is_looked_at_after_each_commit(ledger, path, monkeypatch):
    """Nothing may be sent on a reservation in a log that nobody reads."""
    run = opened(ledger)
    ledger._store._hold.drop()
    check = ledger._store._identity.check

    def and_then_it_goes() -> None:
        check()
        ledger_files.side_files(path)[0].rename(path.with_name("away"))

    monkeypatch.setattr(ledger._store._identity, "check", and_then_it_goes)
    assert told(lambda: ledger.admit(asking(1, run))).startswith("its write-ahead log, or the ind")
    path.with_name("away").rename(ledger_files.side_files(path)[0])


# Rolling back


def test_whether_it_was_committed_is_known(store):
    """To begin with nothing is open; in the middle something is."""
    assert store.has_committed()
    with store.lock.held(1):
        writing = store.begin(durable=False, wait=True, check=True)
        assert not store.has_committed()
        store.roll_back()
        assert store.has_committed()
        store.roll_back()
        writing = store.begin(durable=False, wait=True, check=True)
        store.commit(writing)
        assert store.has_committed()
    store.close()
    assert store.has_committed()
    store.roll_back()


def test_a_connection_that_cannot_roll_back_is_not_used_again(ledger, store):
    """The next transaction opens another one."""
    run = opened(ledger)

    class Broken:
        in_transaction = True
        closed = False

        def execute(self, _: str) -> None:
            raise sqlite3.OperationalError

        def close(self) -> None:
            self.closed = True
            raise sqlite3.OperationalError

    kept, broken = store._writer, Broken()
    store._writer = broken
    with store.lock.held(1):
        store.roll_back()
    assert (store._writer, store._cursor, broken.closed) == (None, None, True)
    ledger.admit(asking(1, run))
    assert store._writer is not kept
    kept.close()


@pytest.mark.parametrize("check", [True, False])
def test_what_is_in_the_file_is_looked_at_unless_it_was_just_now(ledger, store, path, check):
    """A settlement follows an admission that looked."""
    opened(ledger)
    seal = path.with_name("ledger.db.seal")
    raw = seal.read_bytes()
    ahead = (10**6).to_bytes(8, "little")
    with open(seal, "r+b") as file:  # noqa: PTH123 -- written in place, as the ledger does
        file.seek(40)
        file.write(ahead + ahead)
    with store.lock.held(1):
        if check:
            with pytest.raises(
                ledger_files.Unusable, match="is older than its seal: its newest event is 2"
            ):
                store.begin(durable=False, wait=True, check=True)
        else:
            store.begin(durable=False, wait=True, check=False)
        store.roll_back()
    with open(seal, "r+b") as file:  # noqa: PTH123
        file.write(raw)


def test_a_file_emptied_in_place_is_told(ledger, path):
    """Its size says so, though SQLite still has its pages."""
    run = opened(ledger)
    os.truncate(path, 0)

    assert told(lambda: ledger.admit(asking(1, run))).startswith("the file was emptied while")


# Closing


def test_a_closed_ledger_is_tidy_and_opens_again(ledger, store, path):
    """The last to leave writes the log back; the next use opens both connections anew."""
    run = opened(ledger)
    ledger.run(run)
    open_files = len(list(Path("/dev/fd").iterdir()))
    ledger.close()

    assert not any(side.exists() for side in ledger_files.side_files(path))
    assert not list(path.parent.glob("*.owner-*"))
    assert (store._writer, store._cursor, store._reader) == (None, None, None)
    assert not store._hold.is_firm
    assert len(list(Path("/dev/fd").iterdir())) < open_files
    ledger.close()
    ledger.admit(asking(1, run))
    assert ledger.run(run).calls == 1
    assert store._hold.is_firm is (wal_hold._SET is not None)


def test_a_ledger_that_others_use_is_left_to_them(ledger, path):
    """Its log stays, for another has it open."""
    other = SQLiteLedger(path, lock_timeout_s=1, durability="power")
    run = opened(other)
    ledger.close()
    assert ledger_files.side_files(path)[0].exists()
    other.admit(asking(1, run))
    other.close()
    assert not ledger_files.side_files(path)[0].exists()


def test_a_ledger_whose_lock_is_held_is_not_waited_for_long(ledger, store, path):
    """A process that ends does so within a second, and leaves the tidying to whoever comes next."""
    opened(ledger)
    other = connections.LedgerLock(ledger_files.lock_path(path))
    with other.held(1):
        ledger.close()
    other.close()
    assert store._writer is not None


@pytest.mark.parametrize("error", [OSError, sqlite3.OperationalError])
def test_what_goes_wrong_at_the_end_is_not_raised(ledger, store, monkeypatch, error):
    """A program that ends has done its work; whoever opens the ledger next tidies up."""

    def fails() -> None:
        raise error

    opened(ledger)
    monkeypatch.setattr(store._hold, "loosen", fails)
    ledger.close()
    assert not store.lock.is_mine()
    assert store._writer is not None


def test_a_ledger_whose_log_went_is_not_closed(ledger, store, path):
    """Closing it would write a log that is nobody's over the file."""
    opened(ledger)
    ledger_files.side_files(path)[0].unlink()
    ledger.close()
    assert store._writer is not None
    store._identity.forget_log()


# Forks


def test_a_forked_child_touches_no_connection_of_its_parents(ledger, store, monkeypatch):
    """It keeps them from being collected, opens its own, and leaves its parent's alone at exit."""
    run = opened(ledger)
    ledger.run(run)
    mine = [store._writer, store._reader]
    before, child = len(connections._INHERITED), os.getpid() + 1
    monkeypatch.setattr(connections.os, "getpid", lambda: child)
    ledger.close()
    assert [store._writer, store._reader] == mine
    ledger.admit(asking(1, run))
    assert connections._INHERITED[before:] == mine
    assert store._writer not in mine
    assert store._reader is None
    assert ledger.run(run).calls == 1
