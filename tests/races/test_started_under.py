"""Does a process stay under the key it was started with, whatever it does to its environment?"""

import os
import subprocess
import sys

import pytest

import keybrake
from keybrake.testing import FakeStripe

BEGIN = """
import os, sys
import keybrake, stripe
keybrake.install()
stripe.api_base, stripe.max_network_retries = os.environ["BASE"], 0
def charge(cents=100):
    try:
        stripe.PaymentIntent.create(amount=cents, currency="usd", payment_method="pm_card_visa", confirm=True)
    except keybrake.CallRefused as refusal:
        os.write(1, f"{refusal.reason}\\n".encode())  # whole, whatever other threads write
        return False
    os.write(1, b"charged\\n")
    return True
"""
ATTEMPTS = {
    "cleared": """
kept = os.environ["KEYBRAKE_LEDGER"]
os.environ.clear()
os.environ["KEYBRAKE_LEDGER"] = kept
stripe.api_key = "sk_test_own"
while charge(): pass
""",
    "a key of its own": """
del os.environ["KEYBRAKE_VAULT_KEY"]
stripe.api_key = "sk_test_own"
os.environ["KEYBRAKE_VAULT_KEY"] = keybrake.issue_vault_key("x", cap=None)
while charge(): pass
""",
    "a run of its own": """
del os.environ["KEYBRAKE_VAULT_KEY"]
stripe.api_key = "sk_test_own"
with keybrake.run("x", cap=None):
    while charge(): pass
""",
    "another key": """
os.environ["KEYBRAKE_VAULT_KEY"] = os.environ["WIDE"]
stripe.api_key = "sk_test_own"
while charge(): pass
""",
    "another key in the slot": """
del os.environ["KEYBRAKE_VAULT_KEY"]
os.environ["STRIPE_API_KEY"] = "sk_test_own"
keybrake.configure(extra_hosts={"stripe": [os.environ["BASE"]]})
stripe.api_key = os.environ["WIDE"]
while charge(): pass
""",
    "a thread": """
import threading
del os.environ["KEYBRAKE_VAULT_KEY"]
stripe.api_key = "sk_test_own"
def work():
    while charge(): pass
threads = [threading.Thread(target=work) for _ in range(3)]
[t.start() for t in threads]; [t.join() for t in threads]
""",
    "a fork": """
del os.environ["KEYBRAKE_VAULT_KEY"]
stripe.api_key = "sk_test_own"
if os.fork() == 0:
    while charge(): pass
    os._exit(0)
os.wait()
charge()
""",
}


@pytest.mark.parametrize("attempt", list(ATTEMPTS))
def test_there_is_no_way_out_of_it(ledger_url, attempt):
    """Five dollars are five dollars, and every call has its row under the key's run."""
    key = keybrake.issue_vault_key("started", cap=5)
    wide = keybrake.issue_vault_key("wide", cap=None)
    with FakeStripe() as fake:
        kept = {n: v for n, v in os.environ.items() if not n.startswith("STRIPE_")}
        env = {**kept, "KEYBRAKE_VAULT_KEY": key, "WIDE": wide, "BASE": fake.url}
        done = subprocess.run(
            [sys.executable, "-c", BEGIN + ATTEMPTS[attempt]],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split().count("charged") == 5
        assert set(done.stdout.split()) == {"charged", "cap_exceeded"}
        assert len(fake.journal.entries) == 5
    (run,) = keybrake.open_ledger().runs(key.run_id)
    assert run.spent == 5_000_000
