"""Do processes that share a vault key in the SDK's slot share its cap, and all stop when it is revoked?"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stripe

import keybrake
from keybrake.testing import FakeStripe

PATIENCE_S = 60
AGENT = """
import os, sys, time
import keybrake, stripe
keybrake.install()
stripe.api_key, stripe.api_base, stripe.max_network_retries = sys.stdin.readline().strip(), os.environ["BASE"], 0
while True:
    try:
        stripe.PaymentIntent.create(amount=int(sys.argv[1]), currency="usd", payment_method="pm_card_visa", confirm=True)
    except keybrake.CallRefused as refusal:
        print(type(refusal).__name__, refusal.reason, flush=True)
        break
    print("charged", flush=True)
    time.sleep(0.02)
"""


@pytest.fixture
def fake():
    """Start a fake Stripe."""
    with FakeStripe() as running:
        yield running


@pytest.fixture
def environ(tmp_path, fake):
    """Return an environment in which the operator keeps a credential and has named the fake."""
    (tmp_path / "keybrake.toml").write_text(f'[vendors.stripe]\nextra_hosts = ["{fake.url}"]\n')
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEYBRAKE_")}
    ours = {"KEYBRAKE_LEDGER": f"sqlite:///{tmp_path}/ledger.db", "BASE": fake.url}
    return {**kept, **ours, "STRIPE_API_KEY": "sk_test_operator"}


def issue(tmp_path, environ, *options):
    """Return a vault key from the command line."""
    words = [sys.executable, "-m", "keybrake", "key", "issue", "shared", *options]
    done = subprocess.run(
        words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def start(tmp_path, environ, key, cents):
    """Start an agent that charges until it is refused."""
    ran = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(cents)],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    ran.stdin.write(f"{key}\n")
    ran.stdin.flush()
    return ran


def test_two_processes_stay_under_one_daily_cap(tmp_path, environ, fake):
    """Ten charges of five dollars fit under fifty a day, whoever makes them."""
    key = issue(tmp_path, environ, "--daily-cap", "50")
    agents = [start(tmp_path, environ, key, 500) for _ in range(2)]
    said = [agent.communicate(timeout=PATIENCE_S)[0].split("\n") for agent in agents]

    assert sum(lines.count("charged") for lines in said) == 10
    assert [lines[-2] for lines in said] == ["CapExceeded cap_exceeded"] * 2
    assert (len(fake.journal.moved()), fake.journal.total()) == (10, 5000)
    assert {entry.key_prefix for entry in fake.journal.entries} == {"sk_"}


def test_a_third_revokes_it_and_both_stop(tmp_path, environ, fake):
    """Once the command has returned, neither process has another call admitted."""
    key = issue(tmp_path, environ, "--daily-cap", "50")
    agents = [start(tmp_path, environ, key, 1) for _ in range(2)]
    assert [agent.stdout.readline() for agent in agents] == ["charged\n"] * 2
    done = subprocess.run(
        [sys.executable, "-m", "keybrake", "revoke", "shared"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "is revoked (shared)" in done.stdout
    time.sleep(0.2)  # what was admitted before may still arrive
    arrived = len(fake.journal.entries)
    said = [agent.communicate(timeout=PATIENCE_S)[0].split("\n") for agent in agents]

    assert [lines[-2] for lines in said] == ["RunRevoked run_revoked"] * 2
    assert len(fake.journal.entries) == arrived
    assert fake.journal.total() < 5000


def test_it_needs_no_context_in_any_thread(ledger_url, fake, monkeypatch):
    """A bare thread, outside of every run, calls as the key's run does."""
    import _thread
    import threading

    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_operator")
    keybrake.configure(extra_hosts={"stripe": [fake.url]})
    key = keybrake.issue_vault_key("threads", cap=5)
    client = stripe.StripeClient(key, base_addresses={"api": fake.url}, max_network_retries=0)
    ended = [threading.Event() for _ in range(8)]
    refused = []

    def work(done):
        try:
            client.v1.payment_intents.create({"amount": 100, "currency": "usd"})
        except keybrake.CapExceeded as refusal:
            refused.append(refusal.run_id)
        done.set()

    for done in ended:
        _thread.start_new_thread(work, (done,))
    assert all(done.wait(PATIENCE_S) for done in ended)
    assert refused == [key.run_id] * 3
    assert len(fake.journal.entries) == 5
    assert Path(ledger_url.removeprefix("sqlite:///")).exists()
