"""Does a ledger that is not the newest, or not the right one, show, and nothing go out on it?"""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import stripe

import keybrake
from keybrake.ledger.stores.sqlite import ledger_files, seal_file


def pay(cents: int = 100) -> None:
    """Charge through the real SDK."""
    stripe.PaymentIntent.create(amount=cents, currency="usd")


_AGENT = """
import sys, stripe, keybrake
stripe.api_base, stripe.api_key, stripe.max_network_retries = sys.argv[1], "sk_test_x", 0
with keybrake.run("agent", cap=100, ledger=sys.argv[2]):
    stripe.PaymentIntent.create(amount=100, currency="usd")
"""


@pytest.fixture
def agent(unmade_ledger, fake) -> Callable[[], str]:
    """Return a function that has a process of its own charge a dollar, and returns what it said."""

    def run() -> str:
        child = [sys.executable, "-c", _AGENT, fake.url, unmade_ledger]
        return subprocess.run(child, capture_output=True, text=True, check=False).stderr

    return run


def seal_of(path: Path) -> Path:
    """Return the seal beside a ledger."""
    return path.with_name(path.name + ".seal")


def rolled_back(path: Path) -> None:
    """Put the copy that was made before the second charge back."""
    shutil.copyfile(path.with_name("copy.db"), path)


def swapped(path: Path) -> None:
    """Put another ledger in its place."""
    other = path.with_name("other.db")
    code = f"import keybrake\nwith keybrake.run('other', cap=1, ledger='sqlite:///{other}'): pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    other.replace(path)


def deleted(path: Path) -> None:
    """Delete the ledger, and leave its seal."""
    path.unlink()


def unsealed(path: Path) -> None:
    """Delete the seal."""
    seal_of(path).unlink()


def torn(path: Path) -> None:
    """Leave half a seal."""
    seal_of(path).write_bytes(seal_of(path).read_bytes()[:20])


def scribbled(path: Path) -> None:
    """Leave something else where the seal was."""
    seal_of(path).write_bytes(b"x" * seal_of(path).stat().st_size)


SPOILT = [
    (rolled_back, "is older than its seal"),
    (swapped, "is not the ledger that"),
    (deleted, "the ledger was deleted"),
    (unsealed, "is missing"),
    (torn, "cannot be read"),
    (scribbled, "cannot be read"),
]


@pytest.mark.parametrize(("spoil", "told"), SPOILT, ids=lambda it: getattr(it, "__name__", None))
def test_a_new_process_refuses_what_the_seal_does_not_fit(agent, fake, tmp_path, spoil, told):
    """Nothing is sent, the message says what it is and what to do, and no new ledger begins."""
    path = tmp_path / "ledger.db"
    assert agent() == ""
    shutil.copyfile(path, path.with_name("copy.db"))
    assert agent() == ""
    spoil(path)
    said = agent()

    assert "LedgerUnavailable" in said
    assert told in said
    assert "keybrake doctor --repair" in said
    assert len(fake.journal.moved()) == 2
    assert path.exists() is (spoil is not deleted)


def test_a_living_process_refuses_an_older_copy_in_place(unmade_ledger, fake, tmp_path):
    """A copy written over the open file, with its log removed, stops the very next call."""
    path = tmp_path / "ledger.db"
    with keybrake.run("rolled", cap=100):
        pay()
        source = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        copy = sqlite3.connect(tmp_path / "copy.db")
        source.backup(copy)
        copy.close()
        source.close()
        pay()
        subprocess.run(["cp", str(tmp_path / "copy.db"), str(path)], check=True)
        for side in ledger_files.side_files(path):
            side.unlink()
        with pytest.raises(keybrake.LedgerUnavailable):
            pay()
        assert len(fake.journal.moved()) == 2


@pytest.mark.parametrize("lose", ["renamed", "emptied"])
def test_a_living_process_refuses_once_its_seal_is_gone(unmade_ledger, fake, tmp_path, lose):
    """Without its seal nobody could tell later whether the ledger is the newest."""
    seal = seal_of(tmp_path / "ledger.db")
    with keybrake.run("a", cap=100):
        pay()
        kept = seal.read_bytes()
        if lose == "emptied":
            seal.write_bytes(b"")
        else:
            seal.rename(tmp_path / "away")
        with pytest.raises(keybrake.LedgerUnavailable, match="seal"):
            pay()
        if lose == "emptied":
            seal.write_bytes(kept)
        else:
            (tmp_path / "away").rename(seal)
    assert len(fake.journal.moved()) == 1


def test_a_power_cut_is_no_older_copy(agent, tmp_path, fake):
    """After another boot only what was durable has to be there: a settlement may be lost."""
    path = tmp_path / "ledger.db"
    agent()
    seal = seal_file.Seal(path)
    newest = seal.newest()
    seal.advance(newest + 5, durable=False)
    assert "is older than its seal" in agent()
    raw = bytearray(seal_of(path).read_bytes())
    raw[-36:] = b"0" * 36  # another boot
    seal_of(path).write_bytes(raw)
    assert agent() == ""
    seal.close()
    assert len(fake.journal.moved()) == 2


def test_the_seal_is_the_owners_alone(agent, tmp_path):
    """It is 0600 like everything beside the ledger, and follows the newest event."""
    agent()
    path = tmp_path / "ledger.db"
    assert os.stat(seal_of(path)).st_mode & 0o777 == 0o600  # noqa: PTH116 -- mode only
    seal = seal_file.Seal(path)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT max(seq) FROM event").fetchone() == (seal.newest(),)
        assert db.execute("SELECT uid FROM ledger").fetchone() == (seal.uid,)
    db.close()
    seal.close()


def test_a_crash_before_the_first_seal_costs_nothing(agent, tmp_path, unmade_ledger):
    """A ledger in which nothing has happened yet gets its seal when it is next opened."""
    path = tmp_path / "ledger.db"
    ledger_files.create(path)
    seal_of(path).unlink()
    assert agent() == ""
    assert seal_of(path).exists()


def test_a_network_file_system_is_refused(tmp_path, monkeypatch):
    """Where locks do not hold, no ledger is opened, and the message names what to do."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"tmpfs / tmpfs rw 0 0\nserver:/x {tmp_path}/net nfs4 rw 0 0\n")
    monkeypatch.setattr(ledger_files, "_MOUNTS", mounts)
    with pytest.raises(keybrake.LedgerUnavailable, match="nfs4, a network file system") as refused:
        keybrake.open_ledger(tmp_path / "net" / "ledger.db")
    assert "PostgreSQL" in str(refused.value)
    assert not (tmp_path / "net" / "ledger.db").exists()
