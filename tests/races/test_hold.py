"""Does every charge keep its row when files are read, parents leave and tidiers come by?"""

import sqlite3
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest
import stripe

import keybrake
from keybrake.testing import FakeStripe

_AGENT = """
import os, sys, time
import keybrake, stripe
url, ledger = sys.argv[1:3]
stripe.api_base, stripe.api_key, stripe.max_network_retries = url, "sk_test_x", 0

def charge():
    stripe.PaymentIntent.create(amount=100, currency="usd", payment_method="pm_card_visa", confirm=True)

def charge_for(seconds, between=lambda n: None):
    end, n = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        try:
            charge()
        except keybrake.LedgerUnavailable:
            break
        n += 1
        between(n)
"""

# The child goes on while its parent becomes another program: a daemon.
_PARENT_LEAVES = """
with keybrake.run("daemon", cap=1000, ledger=ledger):
    charge()
    child = os.fork()
    if child == 0:
        charge_for(1.5)
        os._exit(0)
    os.execv(sys.executable, [sys.executable, "-c", f"import os, sys; sys.exit(os.waitpid({child}, 0)[1])"])
"""

# Some code of the agent's own copies the ledger's file: that drops SQLite's locks on it.
_FILE_IS_READ = """
def read(n):
    if n == 10:
        open(ledger.removeprefix("sqlite:///"), "rb").read()

with keybrake.run("reader", cap=1000, ledger=ledger):
    charge()
    charge_for(1.5, read)
os._exit(0)
"""


@pytest.mark.parametrize(
    "story", [_PARENT_LEAVES, _FILE_IS_READ], ids=["parent leaves", "file is read"]
)
def test_readers_elsewhere_take_no_row_away(tmp_path, story):
    """While another process opens, reads and closes the ledger, each charge has its row."""
    path = tmp_path / "ledger.db"
    with FakeStripe() as fake:
        code = _AGENT + textwrap.dedent(story)
        command = [sys.executable, "-W", "ignore", "-c", code, fake.url, f"sqlite:///{path}"]
        agent = subprocess.Popen(command)
        reader = subprocess.Popen([sys.executable, "-c", _READER, str(path)])
        try:
            assert agent.wait(30) == 0
        finally:
            reader.kill()
            reader.wait()
        charged = len(fake.journal.moved("charge"))
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        states = Counter(state for (state,) in db.execute("SELECT state FROM call"))
    db.close()

    assert charged > 20
    assert states == {"settled": charged}


_READER = """
import os, sqlite3, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
time.sleep(0.2)
while True:
    db = sqlite3.connect(sys.argv[1])
    try:
        db.execute("SELECT label, spent_usd FROM spend_by_run").fetchall()
    except sqlite3.OperationalError:
        pass
    db.close()
    time.sleep(0.003)
"""


@pytest.mark.parametrize("ending", ["-shm", "-wal"])
def test_a_removed_side_file_stops_the_process_that_used_it(ledger_url, fake, ending):
    """A log or index that is removed under a live process is noticed: two books would pass a cap."""
    with keybrake.run("one", cap=50):
        stripe.PaymentIntent.create(amount=1000, currency="usd")
        Path(ledger_url.removeprefix("sqlite:///") + ending).unlink()
        with pytest.raises(keybrake.LedgerUnavailable, match="was removed while"):
            stripe.PaymentIntent.create(amount=1000, currency="usd")


def test_the_last_to_leave_tidies_up(tmp_path):
    """When no process holds the ledger any more, its log is written back and gone."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    code = f"import keybrake; keybrake.open_ledger({url!r})"
    subprocess.run([sys.executable, "-c", code], check=True)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ledger.db",
        "ledger.db.lock",
        "ledger.db.seal",
    ]
