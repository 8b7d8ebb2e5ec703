"""What if there is no room left: on the disk, in the file table, or to write in at all?"""

import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import stripe

import keybrake
from keybrake.testing import Fault


def pay(cents: int = 100) -> str:
    """Charge through the real SDK and return the payment's id."""
    return stripe.PaymentIntent.create(amount=cents, currency="usd").id


@contextlib.contextmanager
def no_more_than(kind: int, limit: int) -> Iterator[None]:
    """Let this process have no more than *limit* of something for the length of a block."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def full_disk(path: Path) -> contextlib.AbstractContextManager[None]:
    """Let no file grow beyond what the ledger's log is now: writing more fails as on a full disk."""
    log = path.with_name(path.name + "-wal")
    return no_more_than(resource.RLIMIT_FSIZE, log.stat().st_size)


def test_a_disk_full_at_the_admission_refuses_the_call(ledger_url, fake, tmp_path, rows):
    """Nothing is sent while there is no room; the next call goes out once there is."""
    with keybrake.run("full", cap=9) as run:
        pay()
        told = pytest.raises(keybrake.LedgerUnavailable, match=r"ledger\.db cannot be used")
        with full_disk(tmp_path / "ledger.db"), told:
            pay()
        assert len(fake.journal.entries) == 1
        pay()

    assert [row["state"] for row in rows()] == ["settled", "settled"]
    assert (run.spent, run.reserved) == (2, 0)


def test_a_disk_full_at_the_settlement_returns_the_answer(ledger_url, fake, tmp_path, rows):
    """The charge was made, so its answer comes back with a warning; the row counts in full."""
    with contextlib.ExitStack() as filled, keybrake.run("full", cap=9) as run:
        pay()

        def fill(_request: object) -> bool:
            filled.enter_context(full_disk(tmp_path / "ledger.db"))
            return True

        fake.inject(Fault("slow", delay=0, when=fill))
        with pytest.warns(RuntimeWarning, match="could not be written down") as warned:
            paid = pay(300)
        assert (run.spent, run.reserved) == (1, 3)
        filled.close()
        pay()
        assert (run.spent, run.reserved, run.remaining) == (2, 3, 4)

    assert paid == fake.journal.moved()[1].object_id
    assert "stays reserved in full" in str(warned[0].message)
    assert [row["state"] for row in rows()] == ["settled", "reserved", "settled"]


_CROWDED = """
import os, resource, sys
import keybrake, stripe
stripe.api_base, stripe.api_key, stripe.max_network_retries = sys.argv[1], "sk_test_x", 0
def pay():
    return stripe.PaymentIntent.create(amount=100, currency="usd").amount
# What is loaded at the first call needs files as well, so one is made before.
with keybrake.run("before", cap=9, ledger=sys.argv[2] + ("" if sys.argv[3] == "open" else "-other")):
    pay()
stripe.default_http_client.close()
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
try:
    with keybrake.run("crowded", cap=9, ledger=sys.argv[2]):
        pay()
except Exception as error:
    print(f"{type(error).__name__}: {error}")
for fd in taken:
    os.close(fd)
with keybrake.run("after", cap=9, ledger=sys.argv[2]):
    print(pay())
"""


@pytest.mark.parametrize(
    ("state", "told", "states"),
    [
        ("new", "LedgerUnavailable: ", ["settled"]),
        ("open", "APIConnectionError: ", ["settled", "voided", "settled"]),
    ],
)
def test_no_file_to_be_had_stops_the_call(fake, ledger_url, rows, state, told, states):
    """A ledger that cannot be opened refuses; a connection that cannot be made is no charge."""
    command = [sys.executable, "-c", _CROWDED, fake.url, ledger_url, state]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said, *_, amount = done.stdout.splitlines()

    assert said.startswith(told), said
    assert state == "open" or ("Too many open files" in said and "Nothing was sent" in said)
    assert amount == "100"
    assert [row["state"] for row in rows()] == states
    assert len(fake.journal.moved()) == 2


@pytest.fixture
def read_only() -> Iterator[Path]:
    """Make a ledger whose file may be read and not written, even if whoever runs this is root."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "ledger.db"
    code = f"import keybrake\nwith keybrake.run('first', cap=1, ledger='sqlite:///{path}'): pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    for file in folder.iterdir():
        file.chmod(0o666)
    path.chmod(0o444)
    folder.chmod(0o777)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    yield path
    os.seteuid(me)
    shutil.rmtree(folder)


def test_a_file_that_may_only_be_read_is_refused(fake, read_only):
    """A ledger that can be read, but not written, admits nothing, and says so."""
    with pytest.raises(keybrake.LedgerUnavailable, match=r"Permission denied|readonly") as refused:
        keybrake.issue_vault_key("agent", cap=9, ledger=read_only)

    assert str(read_only) in str(refused.value)
    assert "keybrake doctor" in str(refused.value)


_ONE_CALL = """
import keybrake, stripe
stripe.api_base, stripe.api_key, stripe.max_network_retries = sys.argv[1], "sk_test_x", 0
try:
    with keybrake.run("agent", cap=9, ledger=sys.argv[2]):
        print(stripe.PaymentIntent.create(amount=100, currency="usd").amount)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""

_KILLED = (
    "import os, signal, sys"
    + _ONE_CALL
    + "with keybrake.run('a', cap=9, ledger=sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)"
)


def test_a_log_that_was_lost_after_a_crash_is_missed(fake, tmp_path, ledger_url):
    """What a killed process left in the log is part of the ledger: without it, nothing goes out."""
    keybrake.open_ledger().close()
    command = [sys.executable, "-c", _KILLED, fake.url, ledger_url]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (killed.returncode, len(fake.journal.moved())) == (-signal.SIGKILL, 1), killed.stderr
    for ending in ("-wal", "-shm"):
        os.unlink(f"{tmp_path}/ledger.db{ending}")  # noqa: PTH108 -- as rm does
    command[2] = "import sys" + _ONE_CALL
    after = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert "LedgerUnavailable" in after.stdout
    assert "is older than its seal" in after.stdout
    assert "keybrake doctor --repair" in after.stdout
    assert len(fake.journal.moved()) == 1


def test_a_page_that_goes_bad_under_a_living_process_never_moves_more(fake, tmp_path, ledger_url):
    """Pages overwritten by somebody else end in a refusal, or in nothing at all: the cap holds."""
    path = tmp_path / "ledger.db"
    with keybrake.run("bad", cap=3):
        pay()
        size = path.stat().st_size
        spoil = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(2048); f.write(b'x' * int(sys.argv[2]))"
        subprocess.run([sys.executable, "-c", spoil, str(path), str(size - 2048)], check=True)
        sent = 1
        with contextlib.suppress(keybrake.CallRefused):
            while sent < 9:
                pay()
                sent += 1
        assert len(fake.journal.moved()) == sent <= 3
    with contextlib.suppress(sqlite3.Error):
        keybrake.open_ledger().close()
