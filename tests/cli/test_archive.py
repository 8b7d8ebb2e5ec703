"""Do runs that are over move to another file, with everything they were, whatever strikes?"""

import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time

import pytest

import keybrake
from keybrake.errors import LedgerError
from keybrake.ledger import archive as archive_module
from keybrake.ledger.audit import verify
from keybrake.ledger.stores.sqlite import ledger_files, seal_file
from keybrake.ledger.stores.sqlite.connections import Store
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.model import clock
from keybrake.model.call import Outcome, State
from tests.ledger._written import tampering, verified, written
from tests.ledger.test_contract import MONEY, asking, opened, settled

LATER = "2999-01-01"


@pytest.fixture
def ledger(tmp_path):
    """Write a ledger of three families of runs, two of which are over."""
    ledger = written(tmp_path / "ledger.db")
    for uid in ("run_1", "run_2"):
        ledger.close_run(ledger.runs(uid)[0].pk)
    yield ledger
    ledger.close()


@pytest.fixture
def path(ledger):
    """Return the ledger's file; nobody has it open."""
    ledger.close()
    return ledger.path


@pytest.fixture
def archive(quick, path):
    """Return a function that archives what ended before a date."""
    return lambda *options, before=LATER: quick(
        "--ledger", f"sqlite:///{path}", "archive", "--before", before, *options
    )


def rows(path, what):
    """Return what a SELECT finds in a file."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(f"SELECT {what}").fetchall()


VIEWS = ("spend_by_run", "spend_by_endpoint", "spend_by_day", "spend_by_tool")
DEFAULT = f"ledger.db.archive-{LATER}.db"


def test_runs_that_are_over_move_with_all_their_calls(archive, path, quick):
    """The totals stay, the chain stays whole, and the archive has the calls as they were."""
    calls = rows(path, "* FROM call")
    views = [rows(path, f"* FROM {view}") for view in VIEWS]
    events = rows(path, "seq, at, kind, call, scope, reserved, spent, detail, hash FROM event")

    told = archive()

    assert told.code == 0
    moved = path.with_name(DEFAULT)
    assert told.out.splitlines() == [
        f"moved 18 calls of 4 runs to {moved}",
        f"1 run stayed: {_GOES_ON}",
    ]
    assert sorted(rows(path, "* FROM call") + rows(moved, "* FROM call")) == sorted(calls)
    assert [rows(path, f"* FROM {view}") for view in VIEWS] == views
    now = rows(path, "seq, at, kind, call, scope, reserved, spent, detail, hash FROM event")
    assert now[: len(events)] == events
    assert {row[2] for row in now[len(events) :]} == {"archived"}
    assert quick("--ledger", f"sqlite:///{path}", "verify", "--archive", moved).code == 0


def test_the_archive_is_read_like_a_ledger(archive, path, quick):
    """The readers know it, it is its owner's alone, and nobody can begin a run in it."""
    archive()
    moved = path.with_name(DEFAULT)
    url = ("--ledger", f"sqlite:///{moved}")

    assert stat.S_IMODE(moved.stat().st_mode) == 0o600
    runs = quick(*url, "runs", "--json").json
    assert [(run["label"], run["spent_micros"]) for run in runs] == [
        ("label of run_1", 19_000_000),
        ("label of run_1_child", 3_000_000),
        ("label of run_2", 19_000_000),
        ("label of run_2_child", 3_000_000),
    ]
    assert len(quick(*url, "log", "--run", "run_1", "--json").json_lines) == 8
    assert quick(*url, "spend", "--by", "day", "--json").json[0]["spent_micros"] == 38_000_000
    told = quick(*url, "verify")
    assert (told.code, ": archive, " in told.out) == (0, True)
    with pytest.raises(keybrake.LedgerUnavailable), keybrake.run("x", cap=1, ledger=url[1]):
        pass
    assert quick(*url, "archive", "--before", LATER).code == 1


def test_a_dry_run_changes_nothing(archive, path):
    """It says the same and leaves every byte."""
    before = path.read_bytes()

    told = archive("--dry-run", "--json").json
    assert (told["calls"], told["runs"]) == (18, ["run_1", "run_1_child", "run_2", "run_2_child"])
    assert path.read_bytes() == before
    assert not path.with_name(DEFAULT).exists()


@pytest.mark.parametrize("before", ["2020-01-01", "2020-01-01T00:00:00Z", "2020-01-01T00:00+02:00"])
def test_what_ended_later_stays(archive, before):
    """A run that had not ended at the moment named is not moved, nor spoken of."""
    told = archive(before=before)

    assert (told.code, told.out) == (0, "there is nothing to move\n")


@pytest.mark.parametrize("before", ["yesterday", "", "2026-13-01", "1"])
def test_a_date_that_cannot_be_meant_is_wrong_use(archive, before):
    """Anything but an ISO date or moment is refused."""
    assert archive(before=before).code == 2


def why_kept(archive):
    """Return by run why it stays; that of a child of the run that goes on is left out."""
    found = {kept["id"]: kept["why"] for kept in archive("--json").json["kept"]}
    assert found.pop("run_3_child", _GOES_ON) == _GOES_ON
    return found


_GOES_ON = "a run above or below it goes on, or ended later"


def test_calls_that_have_not_ended_keep_their_run(archive, ledger):
    """Unknown and reserved calls stay where reconcile and resolve find them."""
    run = opened(ledger, "late")
    ledger.settle(ledger.admit(asking(2, run)), Outcome(State.UNKNOWN))
    other = opened(ledger, "later")
    ledger.admit(asking(2, other))
    for pk in (run, other):
        ledger.close_run(pk)
    ledger.admit(asking(2, opened(ledger, "newest")))
    ledger.close()

    kept = why_kept(archive)
    assert kept.keys() == {"late", "later"}
    assert all("has not ended, or is unknown" in why for why in kept.values())


def test_a_run_whose_position_others_move_stays(archive, ledger):
    """A call of a run that goes on may still give money back to it."""
    run = opened(ledger, "goes on")
    ledger.settle(
        ledger.admit(asking(9, run, call=MONEY._replace(position="plain_1"))),
        settled(9, "plain_1"),
    )
    ledger.close()

    assert why_kept(archive) == {
        "run_1": "a run that stays counts on a call of it",
        "run_1_child": "a run that stays counts on a call of it",
    }
    assert verified(ledger.path).found == 0


def test_a_child_stays_with_a_parent_that_goes_on(archive, path):
    """What a child spent counts in its parents, so they move together."""
    told = archive("--json").json

    assert told["kept"] == [{"id": "run_3_child", "why": _GOES_ON}]
    assert (
        len(
            rows(
                path, "1 FROM call JOIN scope ON scope.id = call.run WHERE scope.uid GLOB 'run_3*'"
            )
        )
        == 9
    )


def test_the_newest_call_stays(archive, ledger):
    """Its number must not be given to another call."""
    ledger.close_run(ledger.runs("run_3")[0].pk)
    ledger.settle(ledger.admit(asking(1, run := opened(ledger, "last"))), settled(1, "last"))
    ledger.close_run(run)
    ledger.close()
    newest = rows(ledger.path, "max(seq) FROM call")

    assert "newest call" in why_kept(archive)["last"]
    assert rows(ledger.path, "max(seq) FROM call") == newest


@pytest.mark.parametrize(
    ("facts", "words"),
    [({"idempotency_key": "mine"}, "idempotency key"), ({}, "only estimated yet")],
)
def test_what_a_later_answer_may_need_stays(archive, ledger, facts, words):
    """A key of the caller's own may be used again, and a price may still come."""
    run = opened(ledger, "needed")
    state = "settled" if facts else "estimated"
    outcome = Outcome(State.SETTLED, "needed", state, 1_000_000, object_id="needed")
    ledger.settle(ledger.admit(asking(1, run, **facts)), outcome)
    ledger.close_run(run)
    ledger.admit(asking(2, opened(ledger, "newest")))
    ledger.close()

    assert words in why_kept(archive)["needed"]


def test_agents_go_on_after_it(archive, ledger):
    """A process that has the ledger open notices nothing, and a refused call is added later."""
    archive()
    run = ledger.runs("run_3")[0].pk
    ledger.settle(ledger.admit(asking(1, run)), settled(1, "after"))
    with pytest.raises(keybrake.RunClosed):
        ledger.admit(asking(1, ledger.runs("run_1")[0].pk))
    ledger.settle(ledger.admit(asking(1, run)), settled(1, "after that"))
    ledger.close()

    assert verified(ledger.path).found == 0
    told = archive("--json").json
    assert told["calls"] == 1
    assert verified(ledger.path).found == 0
    assert verified(ledger.path.with_name(DEFAULT)).found == 0
    assert rows(ledger.path, "refused FROM scope WHERE uid = 'run_1'") == [(2,)]


def test_what_a_call_raised_stays_while_a_look_up_can_be_older(archive, ledger):
    """What ended less than an hour ago stays known to look-ups that are under way."""
    raising = MONEY._replace(may_raise=("stripe::pi_1",))
    run = opened(ledger, "raising")
    ledger.settle(ledger.admit(asking(1, run, call=raising)), settled(1, "pi_1"))
    ledger.close_run(run)
    ledger.admit(asking(2, opened(ledger, "newest")))
    ledger.close()
    archive()

    assert rows(ledger.path, "object FROM stake") == [("stripe::pi_1",)]
    assert verified(ledger.path).found == 0


def test_what_a_call_raised_hours_ago_goes_with_it(archive, ledger, monkeypatch):
    """The archive takes the call; nothing of it stays in the ledger's way."""
    raising = MONEY._replace(may_raise=("stripe::pi_1",))
    run = opened(ledger, "raising")
    ledger.settle(ledger.admit(asking(1, run, call=raising)), settled(1, "pi_1"))
    ledger.close_run(run)
    later = clock.now() + 2 * clock.HOUR
    monkeypatch.setattr(clock, "now", lambda: later)
    ledger.admit(asking(2, opened(ledger, "newest")))
    ledger.close()
    archive()

    assert rows(ledger.path, "object FROM stake") == []
    assert verified(ledger.path).found == 0


def test_doing_it_again_moves_nothing(archive, path):
    """A second time there is nothing to move, and nothing is written."""
    archive()
    before = path.read_bytes()

    assert "nothing to move" in archive().out
    assert path.read_bytes() == before


def test_another_file_may_be_named(archive, path, tmp_path):
    """--to names the archive, also one that is there; anything else is left as it is."""
    to = tmp_path / "old.db"
    assert archive("--to", to, "--json").json["archive"] == str(to)
    other = tmp_path / "text"
    other.write_text("mine")
    for wrong in (other, path):
        written(tmp_path / f"{wrong.name}.x.db", 1).close()
        told = archive("--to", wrong)
        assert told.code in (0, 1)  # nothing is left to move, or it is refused
    assert other.read_text() == "mine"


@pytest.mark.parametrize("what", ["text", "ledger", "another's", "link"])
def test_what_is_no_archive_of_it_is_refused(archive, path, tmp_path, what):
    """Nothing is moved into a file that something else is in."""
    to = tmp_path / "to.db"
    if what == "text":
        to.write_text("mine " * 1000)
    elif what == "ledger":
        written(to, 1).close()
    elif what == "link":
        to.symlink_to(tmp_path / "elsewhere")
    else:
        other = written(tmp_path / "other.db", 2)
        other.close_run(other.runs("run_1")[0].pk)
        other.close()
        archive_module.move(store(other.path), clock.now() + 1, to)
    before = path.read_bytes()

    told = archive("--to", to)
    assert told.code == 1
    assert "name another" in told.err
    assert path.read_bytes() == before


def store(path):
    """Open a ledger as the command does."""
    return Store(path, lock_timeout_s=5, durability="process")


def test_what_was_changed_does_not_move(archive, path):
    """A row that does not fit its event is not hidden in an archive."""
    with tampering(path) as db:
        db.execute("UPDATE call SET endpoint = 'x' WHERE seq = 1")

    told = archive()
    assert told.code == 1
    assert "keybrake verify says more" in told.err
    assert rows(path, "count(*) FROM call WHERE seq = 1") == [(1,)]


CHANGED = {
    "a stub": "UPDATE event SET spent = 0 WHERE seq = 6",
    "the digest of a stub": "UPDATE event SET digest = zeroblob(32) WHERE seq = 6",
    "a call deleted, its events made stubs": (
        "UPDATE event SET digest = zeroblob(32) WHERE call = (SELECT max(seq) FROM call)"
    ),
    "the total of a moved run": "UPDATE scope SET spent = 0 WHERE uid = 'run_1'",
    "the total of a day": "UPDATE total SET spent = spent + 1",
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_change_after_it_shows(archive, path, what):
    """What stays of the moved calls is as safe as before."""
    archive()
    assert verified(path).found == 0
    with tampering(path) as db:
        db.execute(CHANGED[what])
        if "deleted" in what:
            db.execute("DELETE FROM call WHERE seq = (SELECT max(seq) FROM call)")

    assert verified(path).found > 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE call SET cost = 1 WHERE seq = 1",
        "UPDATE call SET amount = 1 WHERE seq = 1",
        "DELETE FROM call WHERE seq = 1",
        "UPDATE event SET spent = 1, digest = zeroblob(32) WHERE seq = 6",
        "UPDATE ledger SET uid = '0'",
    ],
)
def test_a_change_in_the_archive_shows(archive, path, quick, change):
    """The ledger's chain vouches for what was moved."""
    archive()
    moved = path.with_name(DEFAULT)
    with tampering(moved) as db:
        assert db.execute(change).rowcount == 1

    told = quick("--ledger", f"sqlite:///{path}", "verify", "--archive", moved, "--json")
    assert told.code == 3
    assert [a["ok"] for a in told.json["archives"]] == [False]


def test_it_waits_for_nobody_longer_than_for_the_lock(archive, path):
    """A lock that stays held is told, and nothing was moved."""
    from keybrake.ledger.stores.sqlite.write_lock import LedgerLock

    with LedgerLock(path.with_name("ledger.db.lock")).held(1):
        busy = Store(path, lock_timeout_s=0.2, durability="process")
        with pytest.raises(keybrake.LedgerUnavailable):
            archive_module.move(busy, clock.now() + 1, path.with_name("to.db"))
    assert not path.with_name("to.db").exists()


def test_what_is_used_meanwhile_stays(ledger):
    """A run that somebody comes to count on between the copy and the move is left alone."""

    def uses(family):
        if "run_1" in family.runs.values():
            call = MONEY._replace(position="plain_1")
            run = ledger.runs("run_3")[0].pk
            ledger.settle(ledger.admit(asking(9, run, call=call)), settled(9, "plain_1"))

    to = ledger.path.with_name("to.db")
    steps = archive_module.Steps(copied=uses)
    moved = archive_module.move(store(ledger.path), clock.now() + 1, to, steps=steps)

    assert moved.runs == ["run_2", "run_2_child"]
    assert {kept.uid for kept in moved.kept} >= {"run_1", "run_1_child"}
    assert verified(ledger.path).found == 0


@pytest.mark.parametrize("times", [1, 100])
def test_a_ledger_that_is_archived_while_it_is_verified(path, times):
    """What moves meanwhile is no finding; if it goes on moving, that is told."""
    moved = []

    def go_on(*_):
        if len(moved) < times:
            moved.append(f"run_{len(moved)}_more")
            _archive_one(path, moved[-1])

    with contextlib.closing(ledger_files.connect(path, read_only=True)) as connection:
        if times == 1:
            assert verify.verify(connection, path, progress=go_on).findings == []
        else:
            with pytest.raises(LedgerError, match="being moved to an archive"):
                verify.verify(connection, path, progress=go_on)
    assert verified(path).findings == []


def _archive_one(path, uid):
    """Open a run, end it, and move it and what else is over to an archive of its own."""
    with contextlib.closing(_open(path)) as ledger:
        ledger.settle(ledger.admit(asking(1, run := opened(ledger, f"of {uid}"))), settled(1))
        ledger.close_run(run)
        ledger.settle(ledger.admit(asking(1, opened(ledger, f"after {uid}"))), settled(1))
    archive_module.move(store(path), clock.now() + 1, path.with_name(f"to-{uid}.db"))


def _open(path):
    """Open the ledger as an agent does."""
    return SQLiteLedger(path, lock_timeout_s=5, durability="process")


# Whatever strikes

_KILLED = """
import os, signal, sys
from pathlib import Path
from keybrake.model import clock as _clock
from keybrake.ledger import archive as _archive
from keybrake.ledger.stores.sqlite.connections import Store
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger

path, to, step, number = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
_archive._TOGETHER = 3
seen = []

def strike(_):
    seen.append(1)
    if len(seen) == number:
        os.kill(os.getpid(), signal.SIGKILL)

store = Store(path, lock_timeout_s=5, durability="process")
_archive.move(store, _clock.now() + 1, to, steps=_archive.Steps(**{step: strike}))
"""


def all_is_somewhere(path, to, calls):
    """Return whether every call is in at least one of the files, as it was."""
    found = set(rows(path, "* FROM call"))
    if to.exists() and rows(to, "count(*) FROM sqlite_master") != [(0,)]:
        found |= set(rows(to, "* FROM call"))
    return found == set(calls)


def completed(path, to, calls):
    """Do it again to the end, and look at both files."""
    with contextlib.suppress(LedgerError):
        archive_module.move(store(path), clock.now() + 1, to)
    assert all_is_somewhere(path, to, calls)
    assert len(rows(path, "1 FROM call")) + len(rows(to, "1 FROM call")) == len(calls)
    assert [verified(file).findings for file in (path, to)] == [[], []]


@pytest.mark.parametrize(
    ("step", "number"), [("copied", 1), ("copied", 2), *(("left", n) for n in (1, 2, 4, 6))]
)
def test_a_kill_between_two_steps_loses_nothing(path, tmp_path, step, number):
    """After each step every row is in one file at least, both verify, and it can be completed."""
    calls, to = rows(path, "* FROM call"), tmp_path / "to.db"
    child = [sys.executable, "-c", _KILLED, str(path), str(to), step, str(number)]
    assert subprocess.run(child, check=False).returncode == -signal.SIGKILL

    assert all_is_somewhere(path, to, calls)
    assert [verified(file).findings for file in (path, to)] == [[], []]
    completed(path, to, calls)


def test_a_kill_at_any_moment_loses_nothing(path, tmp_path):
    """Killed at twelve moments spread over the whole move, it is completed by the next."""
    calls, to = rows(path, "* FROM call"), tmp_path / "to.db"
    kept = tmp_path / "kept"
    kept.mkdir()
    for file in (path, seal_file.path_of(path)):
        shutil.copy(file, kept / file.name)
    argv = [sys.executable, "-c", _KILLED]
    began = time.monotonic()
    subprocess.run([*argv, path, to, "left", "0"], check=True)
    whole_s = time.monotonic() - began
    deaths = 0
    for moment in range(12):
        folder = tmp_path / str(moment)
        shutil.copytree(kept, folder)
        here, there = folder / path.name, folder / "to.db"
        with subprocess.Popen([*argv, here, there, "left", "0"]) as child:
            time.sleep(whole_s * (moment + 6) / 18)
            os.kill(child.pid, signal.SIGKILL)
        deaths += child.returncode == -signal.SIGKILL
        assert all_is_somewhere(here, there, calls)
        completed(here, there, calls)
    assert deaths
