"""Does an interrupt at any moment leave the ledger whole, and free for others?"""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
import stripe

import keybrake

_STORM = """
import os, random, signal, sys, threading, time
import stripe, keybrake
from keybrake.ledger.stores.sqlite import ledger_files as _files
from keybrake.ledger.stores.sqlite.write_lock import LedgerLock
stripe.api_base, stripe.api_key, stripe.max_network_retries = sys.argv[1], "sk_test_races", 0
path = _files.path_of(os.environ["KEYBRAKE_LEDGER"])
other = LedgerLock(_files.lock_path(path))  # a descriptor of its own: as another process would ask
storm = threading.Event()
armed = False
def on(number, frame):
    # Within what the program calls, not between its own lines, where it cannot be ready for it.
    if armed and frame.f_globals is not globals():
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, on)
def strike():
    while not storm.wait(random.uniform(0.0005, 0.004)):
        os.kill(os.getpid(), signal.SIGINT)
struck = held = 0
with keybrake.run(key=sys.argv[2]):
    thread = threading.Thread(target=strike)
    thread.start()
    end = time.monotonic() + 3
    armed = True
    while time.monotonic() < end:
        try:
            while True:
                stripe.PaymentIntent.create(amount=1, currency="usd")
        except KeyboardInterrupt:
            try:
                struck += 1
                other.acquire(0)
                other.release()
            except KeyboardInterrupt:
                pass
            except keybrake.ledger.Busy:
                held += 1
    armed = False
    storm.set()
    thread.join()
print(struck, held)
"""


def test_a_storm_of_interrupts_leaves_the_ledger_free_and_true(ledger_url, fake):
    """After each of hundreds of Ctrl-C the lock is free, no charge lacks its row, totals are sums."""
    with keybrake.run("storm", cap=None) as run:
        child = [sys.executable, "-c", _STORM, fake.url, str(run.key)]
        done = subprocess.run(child, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        struck, held = map(int, done.stdout.split())

        assert struck > 50
        assert held == 0
        with sqlite3.connect(ledger_url.removeprefix("sqlite:///")) as db:
            live = "state IN ('reserved', 'unknown', 'settled')"
            keys = {row[0] for row in db.execute(f"SELECT 'kb-' || uid FROM call WHERE {live}")}
            owed = "sum((state IN ('reserved', 'unknown')) * reserved)"
            sums = db.execute(f"SELECT sum(cost), {owed} FROM call").fetchone()
        db.close()
        assert {entry.idempotency_key for entry in fake.journal.moved()} <= keys
        assert (int(run.spent * 10**6), int(run.reserved * 10**6)) == sums


def test_a_signal_handler_inside_the_ledger_harms_nothing(ledger_url, fake):
    """A handler that steers the run in the middle of a transaction is served or refused, no more."""
    outcomes = set()

    def handler(*_: object) -> None:
        try:
            run.pause()
            run.resume()
            outcomes.add("served")
        except keybrake.LedgerUnavailable:
            outcomes.add("refused")

    before = signal.signal(signal.SIGALRM, handler)
    with keybrake.run("handled", cap=None, daily_usd_cap=1000) as run:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0013)
        try:
            end = time.monotonic() + 2
            while time.monotonic() < end:
                try:
                    stripe.PaymentIntent.create(amount=1, currency="usd")
                except keybrake.RunPaused:
                    run.resume()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        spent = int(run.spent * 100)

    assert "served" in outcomes
    assert spent == len(fake.journal.moved())


def test_opening_and_closing_the_file_cannot_split_the_ledger(ledger_url, fake):
    """Code that reads the ledger file by itself ends in a refusal, never in two ledgers."""
    path = ledger_url.removeprefix("sqlite:///")
    with keybrake.run("split", cap=1) as run:
        stripe.PaymentIntent.create(amount=40, currency="usd")
        with open(path, "rb") as file:  # noqa: PTH123 -- as a careless copy would
            file.read(1)
        other = f"import keybrake; keybrake.open_ledger().revoke({run.id!r})"
        subprocess.run([sys.executable, "-c", other], env=os.environ.copy(), timeout=30, check=True)

        with pytest.raises((keybrake.RunRevoked, keybrake.LedgerUnavailable)):
            stripe.PaymentIntent.create(amount=40, currency="usd")
        assert len(fake.journal.moved()) == 1


def test_runs_left_out_of_order_do_not_come_back(ledger_url, fake):
    """Leaving an outer run before its inner one leaves neither around the code after them."""
    outer, inner = keybrake.run("outer", cap=1), keybrake.run("inner", cap=1)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)

    assert keybrake.current_run() is None
