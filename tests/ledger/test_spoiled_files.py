"""Is a ledger whose files were emptied, cut, linked or taken away refused by the process that uses it."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import stripe

import keybrake
from keybrake.cli import app

LINUX = sys.platform == "linux"

# A process that charges once for each line it reads, and says how it went.
CHARGER = """
import sys, keybrake, stripe
stripe.api_base, stripe.api_key, stripe.max_network_retries = sys.argv[1], "sk_test_1", 0
with keybrake.run("agent", cap=100, ledger=sys.argv[2]):
    for line in sys.stdin:
        try:
            stripe.PaymentIntent.create(amount=100, currency="usd")
            print("went", flush=True)
        except keybrake.LedgerUnavailable as refusal:
            print(str(refusal).replace(chr(10), " "), flush=True)
"""


@pytest.fixture
def charger(fake, ledger_url):
    """Start a process with a run; calling it has that process charge once, and returns how it went."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHARGER, fake.url, ledger_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def charge():
        process.stdin.write("go\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    charge.process = process
    yield charge
    process.kill()
    process.communicate()


@pytest.fixture
def file(ledger_url):
    """Return the ledger's path, or that of a file beside it, by its ending."""
    path = Path(ledger_url.removeprefix("sqlite:///"))
    return lambda ending="": path.with_name(path.name + ending)


def empty(path):
    """Take all there is in a file, in place."""
    os.truncate(path, 0)


def cut(path):
    """Take the second half of a file, in place."""
    os.truncate(path, path.stat().st_size // 2)


def link(path):
    """Give a file a second name in another folder, which its own folder does not show."""
    other = path.parent / "elsewhere"
    other.mkdir()
    os.link(path, other / path.name)


def replace(path):
    """Put another file in the place of a file."""
    path.with_name("other").write_bytes(path.read_bytes())
    path.with_name("other").replace(path)


def overwrite(path):
    """Write zeros over the beginning of a file, in place."""
    with path.open("r+b") as opened:
        opened.write(b"\0" * 64)


SPOILED = [
    ("-wal", empty, "write-ahead log was emptied, cut short or overwritten"),
    ("-wal", cut, "write-ahead log was emptied, cut short or overwritten"),
    ("-wal", overwrite, "write-ahead log was emptied, cut short or overwritten"),
    ("-wal", Path.unlink, "write-ahead log, or the index of it, was removed"),
    ("-wal", replace, "write-ahead log, or the index of it, was removed"),
    ("-shm", empty, "index of its write-ahead log was emptied"),
    ("-shm", cut, "index of its write-ahead log was emptied"),
    ("-shm", Path.unlink, "write-ahead log, or the index of it, was removed"),
    ("", empty, "was emptied while keybrake was using it"),
    ("", cut, "was cut short while keybrake was using it"),
    ("", link, "has 2 names (hard links)"),
    ("", Path.unlink, "was deleted while keybrake was using it"),
    ("", replace, "was replaced while keybrake was using it"),
    (".lock", Path.unlink, "lock file"),
    (".lock", replace, "lock file"),
    (".seal", empty, "seal"),
    (".seal", Path.unlink, "seal"),
    (".seal", replace, "seal"),
]


@pytest.mark.skipif(
    not LINUX, reason="elsewhere SQLite's files cannot be held, see threat-model.md"
)
@pytest.mark.parametrize(
    ("ending", "spoil", "told"),
    SPOILED,
    ids=[f"{spoil.__name__}-ledger{ending}" for ending, spoil, _ in SPOILED],
)
def test_a_spoiled_file_stops_the_next_call(charger, file, fake, ending, spoil, told):
    """The process refuses each call after it with its own message, sends nothing, and does not die."""
    assert [charger() for _ in range(3)] == ["went"] * 3
    if ending == "":
        # What was written is in the file itself, as after a checkpoint.
        with closing(sqlite3.connect(file())) as other:
            other.execute("PRAGMA wal_checkpoint")
        assert charger() == "went"
    sent = len(fake.journal.entries)

    spoil(file(ending))

    for _ in range(3):
        assert told in charger()
    assert charger.process.poll() is None
    assert len(fake.journal.entries) == sent


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
def test_no_call_is_made_on_a_spoiled_log(charger, file, fake, ledger_url, ending):
    """After a kill the ledger has every call, or is refused as older than its seal: none starts anew."""
    for _ in range(3):
        charger()
    empty(file(ending))
    for _ in range(20):
        charger()
    charger.process.send_signal(signal.SIGKILL)
    charger.process.wait()

    assert len(fake.journal.entries) == 3
    if ending == "-shm":
        with keybrake.run("after", cap=1, ledger=ledger_url):
            pass
        assert keybrake.open_ledger().runs(label="agent")[0].spent == 3_000_000
    else:
        with (
            pytest.raises(keybrake.LedgerUnavailable, match="older than its seal"),
            keybrake.run("after", cap=1, ledger=ledger_url),
        ):
            pass


def test_checkpoints_by_others_are_no_damage(charger, file):
    """Another process may empty the log by a checkpoint, and begin it anew: calls go on."""
    for _ in range(5):
        assert charger() == "went"
        with closing(sqlite3.connect(file())) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert charger() == "went"


def test_two_processes_are_refused_alike(fake, ledger_url, file, charger):
    """Each process on the ledger refuses, whichever of them wrote last."""
    with keybrake.run("here", cap=100):
        stripe.PaymentIntent.create(amount=100, currency="usd")
        assert charger() == "went"
        empty(file("-wal"))
        with pytest.raises(keybrake.LedgerUnavailable, match="write-ahead log was emptied"):
            stripe.PaymentIntent.create(amount=100, currency="usd")
        assert "write-ahead log was emptied" in charger()


def test_a_second_name_is_not_written_to(fake, ledger_url, file, charger, capsys):
    """Neither name of a ledger with two is opened by a run; commands read it, and say so."""
    charger()
    os.link(file(), file(".hard"))

    with (
        pytest.raises(keybrake.LedgerUnavailable, match=r"2 names \(hard links\)"),
        keybrake.run("other", cap=50, ledger=f"sqlite:///{file('.hard')}"),
    ):
        pass
    assert "2 names (hard links)" in charger()
    assert app.run(["--ledger", ledger_url, "runs", "--json"]) == 3
    told = capsys.readouterr()
    assert "2 names (hard links)" in told.err
    assert [run["spent_micros"] for run in json.loads(told.out)] == [1_000_000]
    file(".hard").unlink()
    assert charger() == "went"


@pytest.mark.parametrize(
    "words",
    [["runs"], ["spend"], ["log"], ["unresolved"], ["export", "--jsonl"], ["runs", "--json"]],
)
def test_a_rolled_back_ledger_is_read_and_named(fake, ledger_url, file, capsys, words):
    """Commands that read an older copy print it, say on standard error that it is old, and exit with 3."""
    with keybrake.run("agent", cap=10):
        stripe.PaymentIntent.create(amount=100, currency="usd")
    keybrake.open_ledger().close()
    shutil.copy(file(), file(".old"))
    with keybrake.run("agent", cap=10):
        stripe.PaymentIntent.create(amount=100, currency="usd")
    keybrake.open_ledger().close()
    capsys.readouterr()
    assert app.run(["--ledger", ledger_url, *words]) == 0
    capsys.readouterr()
    file(".old").replace(file())

    status = app.run(["--ledger", ledger_url, *words])

    told = capsys.readouterr()
    assert status == 3
    assert told.err.count("\n") == 1
    assert "it is older than its seal" in told.err
    if "--json" in words:
        assert len(json.loads(told.out)) == 1
    assert told.out
