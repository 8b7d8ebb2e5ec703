"""Is a call that was under way when its process died still counted?"""

import contextlib
import signal
import sqlite3
import time
from decimal import Decimal

import pytest
import stripe

import keybrake
from keybrake.testing import Fault
from tests.races import _many

_ONE_CALL = """
import sys, stripe, keybrake
stripe.api_base, stripe.api_key, stripe.max_network_retries = sys.argv[1], "sk_test_races", 0
with keybrake.run(key=sys.argv[2]):
    stripe.PaymentIntent.create(amount=700, currency="usd")
"""


@pytest.mark.parametrize("fault", ["timeout_after", "slow"])
def test_a_killed_call_stays_reserved_and_counts(ledger_url, fake, fault):
    """Kill -9 while the vendor answers leaves one reserved row, and its money stays taken."""
    fake.inject(Fault(fault, hang=30.0, delay=30.0))
    with keybrake.run("killed", cap=10) as run:
        with _many.child(_ONE_CALL, fake.url, str(run.key)) as process:
            while not fake.journal.moved():
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)

        assert (run.spent, run.reserved, run.remaining) == (0, Decimal(7), Decimal(3))
        with sqlite3.connect(ledger_url.removeprefix("sqlite:///")) as db:
            assert db.execute("SELECT state FROM call").fetchall() == [("reserved",)]
        db.close()
        with pytest.raises(keybrake.CapExceeded):
            stripe.PaymentIntent.create(amount=301, currency="usd")
        assert len(fake.journal.moved()) == 1


def test_random_kills_lose_no_row_and_pass_no_cap(ledger_url, fake):
    """Six processes killed at random moments: every charge has one row that counts, cap held."""
    loop = _ONE_CALL.replace("    stripe.Pay", "    while True: stripe.Pay")
    with keybrake.run("killed", cap=300) as run:
        for wave in range(1, 5):
            with contextlib.ExitStack() as stack:
                for _ in range(3):
                    stack.enter_context(_many.child(loop, fake.url, str(run.key)))
                # Into the middle of whatever they are doing; leaving the block kills them.
                while len(fake.journal.moved()) < 9 * wave:
                    time.sleep(0.001)
        moved = fake.journal.moved()
        with sqlite3.connect(ledger_url.removeprefix("sqlite:///")) as db:
            keys = "SELECT 'kb-' || uid FROM call WHERE state IN ('reserved', 'settled')"
            rows = {row[0] for row in db.execute(keys)}
            sums = db.execute("SELECT sum(cost), sum((state = 'reserved') * reserved) FROM call")
            spent, reserved = sums.fetchone()
        db.close()

        assert moved, "nobody charged anything; the test shows nothing"
        assert {entry.idempotency_key for entry in moved} <= rows
        assert (run.spent + run.reserved) * 1_000_000 == spent + reserved
        assert len(moved) * 7 <= run.spent + run.reserved <= 300
