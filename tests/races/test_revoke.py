"""Does a word from another terminal bind the very next call, and only of the run it names?"""

import subprocess
import sys
import time

import pytest
import stripe

import keybrake
from tests.races import _many

_LOOP = """
import sys, stripe, keybrake
stripe.api_base, stripe.api_key, stripe.max_network_retries = sys.argv[1], "sk_test_races", 0
with keybrake.run("other-terminal", cap=None) as run:
    print(run.id, flush=True)
    while True:
        try:
            stripe.PaymentIntent.create(amount=1, currency="usd")
        except keybrake.CallRefused as refusal:
            print(refusal.reason, flush=True)
            sys.stdin.readline()
            try:
                stripe.PaymentIntent.create(amount=1, currency="usd")
                print("went on", flush=True)
            except keybrake.CallRefused as again:
                print(again.reason, flush=True)
            break
"""


def _cli(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keybrake", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def _charge() -> None:
    stripe.PaymentIntent.create(amount=100, currency="usd")


def test_revoke_from_the_command_line_binds_the_next_call(ledger_url, fake):
    """After `keybrake revoke RUN` returned, that run's next call is refused and another's is not."""
    with keybrake.run("first", cap=10) as first:
        _charge()
        with_other = keybrake.bind(_charge)
    with keybrake.run("second", cap=10) as second:
        done = _cli("revoke", second.id)

        assert (done.returncode, done.stderr) == (0, "")
        with pytest.raises(keybrake.RunRevoked) as refused:
            _charge()
        assert isinstance(refused.value, stripe.PermissionError)
        assert second.state == "revoked"
    with keybrake.run("third", cap=10) as third:
        _charge()
        assert third.spent == 1
    with pytest.raises(keybrake.RunClosed):
        with_other()
    assert first.state == "closed"
    assert len(fake.journal.moved()) == 2


@pytest.mark.parametrize(("verb", "reason"), [("revoke", "run_revoked"), ("pause", "run_paused")])
def test_a_process_in_a_loop_stops_at_its_next_call(ledger_url, fake, verb, reason):
    """A process that charges without a pause is stopped mid-flight by another process's word."""
    with _many.child(_LOOP, fake.url) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        run_id = process.stdout.readline().strip()
        while len(fake.journal.moved()) < 5:
            time.sleep(0.005)

        assert _cli(verb, run_id).returncode == 0
        assert process.stdout.readline().strip() == reason
        sent = len(fake.journal.moved())
        if verb == "pause":
            assert _cli("resume", run_id).returncode == 0
        process.stdin.write("\n")
        process.stdin.flush()

        went_on = verb == "pause"
        assert process.stdout.readline().strip() == ("went on" if went_on else "run_revoked")
        assert len(fake.journal.moved()) == sent + went_on
        assert process.wait(timeout=20) == 0


def test_no_call_is_admitted_after_revoke_returned(ledger_url, fake):
    """In fifty trials, no row of the run has a sequence number after the revocation's."""
    for _ in range(50):
        with keybrake.run("trial", cap=None) as run:
            _charge()
            keybrake.revoke(run.id)
            before = run.calls
            with pytest.raises(keybrake.RunRevoked):
                _charge()
            assert run.calls == before
