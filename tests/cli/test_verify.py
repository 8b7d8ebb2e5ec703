"""Does ``keybrake verify`` tell a sound ledger from one that was changed?"""

import contextlib
import shutil
import sqlite3

import pytest

import keybrake
from keybrake.ledger.stores.sqlite import seal_file
from tests.ledger._written import tampering


@pytest.fixture
def copy(tmp_path, books):
    """Copy the ledger, and its seal, to where a test may harm them."""
    path = tmp_path / "ledger.db"
    shutil.copy(books.path, path)
    shutil.copy(seal_file.path_of(books.path), seal_file.path_of(path))
    path.chmod(0o600)
    return path


@pytest.fixture
def verify(quick, copy):
    """Return a function that verifies the copy."""
    return lambda *options: quick("--ledger", f"sqlite:///{copy}", "verify", *options)


def test_a_ledger_of_the_real_sdk_is_sound(verify, copy):
    """What is unknown or reserved is said, and is not wrong: status 0."""
    told = verify()

    assert told.code == 0
    assert told.out.startswith(f"{copy} is sound: ")
    assert told.out.rstrip().endswith("events, 13 calls, 14 runs (1 unknown)")


def test_the_verdict_as_json(verify):
    """A program gets what was counted, the head and no findings."""
    verdict = verify("--json").json

    assert (verdict["ok"], verdict["found"], verdict["findings"]) == (True, 0, [])
    assert (verdict["calls"], verdict["unknown"], verdict["reserved"]) == (13, 1, 0)
    assert verdict["head"]["seq"] == verdict["events"]


def test_what_was_changed_is_named(verify, copy):
    """Each finding is a line: what, where, what it has to be, what it is; status 3."""
    with tampering(copy) as db:
        db.execute("UPDATE scope SET spent = 7 WHERE label = 'invoice-agent'")
        run = db.execute("SELECT uid FROM scope WHERE label = 'invoice-agent'").fetchone()[0]

    told = verify()
    assert told.code == 3
    assert told.out.splitlines() == [
        f"WRONG  spent: run {run}: expected 35990000, found 7",
        f"{copy}: 1 thing wrong",
    ]
    finding = {"what": "spent", "where": f"run {run}", "expected": 35990000, "found": 7}
    told = verify("--json")
    assert (told.code, told.json["ok"], told.json["findings"]) == (3, False, [finding])


def test_of_many_findings_the_first_are_shown(verify, copy):
    """Twenty lines are enough to see that much is wrong; all of them are counted."""
    with tampering(copy) as db:
        db.execute("UPDATE event SET at = at + seq, hash = zeroblob(32)")

    lines = verify().out.splitlines()
    assert len(lines) == 22
    assert lines[20].startswith("and ")
    assert lines[20].endswith(" more")
    assert all(line.startswith("WRONG  ") for line in lines[:20])
    assert verify("--json").json["found"] == int(lines[20].split()[1]) + 20


def test_a_hostile_label_does_nothing_to_the_terminal(verify, copy):
    """What stands in a finding is harmless text."""
    with tampering(copy) as db:
        db.execute("UPDATE scope SET uid = 'x' || char(27) || '[31m' WHERE id = 1")

    told = verify()
    assert told.code == 3
    assert "\x1b" not in told.out
    assert "\\x1b" in told.out


def test_the_head_is_printed_to_be_kept_elsewhere(verify, copy):
    """The newest event's number and hash, and nothing else; the same as the ledger has."""
    seq, digest = verify("--print-head").out.split()
    with contextlib.closing(sqlite3.connect(copy)) as db:
        found = db.execute("SELECT seq, hex(hash) FROM event ORDER BY seq DESC LIMIT 1").fetchone()

    assert (int(seq), digest.upper()) == found
    assert verify("--print-head", "--json").json == {"seq": int(seq), "hash": digest}


def test_a_head_kept_elsewhere_finds_a_chain_that_was_written_anew(verify, copy, quick, tmp_path):
    """Whoever writes the whole chain anew cannot have the old head in it."""
    head = verify("--print-head").out.strip()
    assert verify("--head", head).code == 0
    with keybrake.run("goes on", cap=1, ledger=f"sqlite:///{copy}"):
        pass
    keybrake.open_ledger(f"sqlite:///{copy}").close()
    newer = verify("--print-head").out.strip()
    assert verify("--head", head, "--head", newer).code == 0

    with keybrake.run("another past", cap=1, ledger=f"sqlite:///{tmp_path / 'b.db'}"):
        pass
    other = ("--ledger", f"sqlite:///{tmp_path / 'b.db'}", "verify")
    assert quick(*other).code == 0
    told = quick(*other, "--head", head)
    assert told.code == 3
    assert f"WRONG  anchor: event {head.split()[0]}: expected {head.split()[1]}, found" in told.out


@pytest.mark.parametrize("head", ["", "1", "x y", "1 abc", "-1 " + "0" * 64])
def test_a_head_that_cannot_be_meant_is_wrong_use(verify, head):
    """What --print-head cannot have printed is refused before anything is read."""
    told = verify("--head", head)

    assert told.code == 2
    assert "--print-head" in told.err


@pytest.mark.parametrize("kind", ["missing", "text", "newer"])
def test_what_cannot_be_read_fails(quick, copy, kind):
    """No ledger, no verdict: status 1, in one line."""
    if kind == "missing":
        copy.unlink()
    elif kind == "text":
        copy.write_text("hello " * 1000)
    else:
        with contextlib.closing(sqlite3.connect(copy)) as db:
            db.execute("PRAGMA user_version=99")

    told = quick("--ledger", f"sqlite:///{copy}", "verify")
    assert told.code == 1
    assert told.err.count("\n") == 1


def test_nothing_is_written(verify, copy):
    """Not a byte of the ledger or its seal changes."""
    files = [copy, seal_file.path_of(copy)]
    before = [file.read_bytes() for file in files]

    assert verify().code == 0
    assert [file.read_bytes() for file in files] == before


def test_a_person_sees_a_bar_and_a_program_does_not(at_terminal, cli, copy):
    """The bar is drawn at a terminal only, and on standard error."""
    words = ("--ledger", f"sqlite:///{copy}", "verify")

    assert "ledger.db" in at_terminal(*words).err.replace(f"{copy}", "")
    told = cli(*words)
    assert (told.code, told.err) == (0, "")
    assert "\x1b" not in told.out
