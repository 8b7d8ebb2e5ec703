"""Does a process that was started under a vault key leave the stops of that key's run alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import stripe

import keybrake
from keybrake import PolicyError
from keybrake.cli import app
from keybrake.testing import Fault

KEY = "KEYBRAKE_VAULT_KEY"


@pytest.fixture
def key(ledger_url):
    """Issue a vault key with a cap of $6."""
    return keybrake.issue_vault_key("agent", cap=6, ledger=ledger_url)


def lose_an_answer(fake):
    """Make a charge whose answer is lost, and return the number of its row."""
    fake.inject(Fault("error_500_after"))
    with pytest.raises(stripe.StripeError):
        stripe.PaymentIntent.create(amount=100, currency="usd")
    (doubt,) = keybrake.open_ledger().in_doubt()
    return doubt.seq


def command(ledger_url, *words, **changes):
    """Run a keybrake command as a process, and return it."""
    environ = {name: value for name, value in os.environ.items() if name != KEY}
    return subprocess.run(
        [sys.executable, "-m", "keybrake", "--ledger", ledger_url, *map(str, words)],
        env={**environ, **changes},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("meant", ["id", "key", "run"])
def test_its_own_pause_stays(key, ledger_url, monkeypatch, meant):
    """A paused run is not resumed under its own key, however the caller names it."""
    keybrake.pause(key)
    monkeypatch.setenv(KEY, str(key))
    joined = keybrake.run(key=key)
    with joined:
        named = {"id": key.run_id, "key": key, "run": joined}[meant]

        with pytest.raises(PolicyError, match="started under the vault key of run_") as refusal:
            keybrake.resume(named)
        with pytest.raises(PolicyError, match="cannot resume run"):
            joined.resume()

    assert "without KEYBRAKE_VAULT_KEY" in str(refusal.value)
    assert joined.state == "paused"


def test_a_parents_and_a_childs_pause_stay(ledger_url, monkeypatch):
    """The key of a child lifts no stop of its parent, of its sibling, or of its own child."""
    with keybrake.run("parent", cap=10) as parent:
        child = keybrake.issue_vault_key("child", cap=5)
        sibling = keybrake.issue_vault_key("sibling", cap=5)
        monkeypatch.setenv(KEY, str(child))
        with keybrake.run(key=child), keybrake.run("grandchild", cap=1) as grandchild:
            for run_id in (parent.id, sibling.run_id, grandchild.id):
                keybrake.pause(run_id)
                with pytest.raises(PolicyError, match="cannot resume"):
                    keybrake.resume(run_id)


def test_stopping_goes_on_under_a_key(key, monkeypatch):
    """Pause and revoke stop a run under its own key: stopping is always allowed."""
    monkeypatch.setenv(KEY, str(key))

    keybrake.pause(key)
    keybrake.revoke(key)

    assert keybrake.open_ledger().runs(key.run_id)[0].state() == "revoked"


def test_a_run_of_its_own_line_only(key, monkeypatch):
    """A run that neither contains nor stands under the key's run is resumed as before."""
    other = keybrake.issue_vault_key("other", cap=1)
    monkeypatch.setenv(KEY, str(key))
    keybrake.pause(other)

    keybrake.resume(other)

    assert keybrake.open_ledger().runs(other.run_id)[0].state() == "open"


def test_its_own_lost_call_is_resolved_by_others(key, fake, ledger_url):
    """`resolve --nothing` of a run's call is refused under its key, and done by a person."""
    with keybrake.run(key=key):
        seq = lose_an_answer(fake)

    told = command(ledger_url, "resolve", seq, "--nothing", **{KEY: str(key)})

    assert (told.returncode, told.stdout) == (1, "")
    assert f"cannot resolve call {seq}: this process was started under the vault key" in told.stderr
    assert [one.seq for one in keybrake.open_ledger().in_doubt()] == [seq]
    assert command(ledger_url, "resolve", seq, "--nothing").returncode == 0
    assert keybrake.open_ledger().in_doubt() == []


def test_a_childs_lost_call_counts_in_its_parent(key, fake, ledger_url, monkeypatch):
    """A call of a child run is not resolved under the parent's key: its money is the parent's, too."""
    with keybrake.run(key=key), keybrake.run("child", cap=2):
        seq = lose_an_answer(fake)
    monkeypatch.setenv(KEY, str(key))

    with pytest.raises(PolicyError, match=f"cannot resolve call {seq}"):
        keybrake.open_ledger().resolve(seq, keybrake.model.call.Outcome("voided"), "by hand")


def test_reconcile_goes_on_under_a_key(key, fake, ledger_url, monkeypatch):
    """The vendor's proof ends a call under its run's own key: reconcile is no person's word."""
    monkeypatch.setenv("STRIPE_API_KEY", stripe.api_key)
    keybrake.configure(extra_hosts={"stripe": [stripe.api_base]})
    monkeypatch.setenv(KEY, str(key))
    with keybrake.run(key=key) as run:
        lose_an_answer(fake)
        (found,) = run.reconcile()

    assert found.result == "settled"
    assert keybrake.open_ledger().in_doubt() == []


def test_the_ledger_is_not_repaired_under_a_key(key, ledger_url):
    """`doctor --repair` would lift a stop for every run of the ledger: it does nothing under a key."""
    seal = Path(ledger_url.removeprefix("sqlite:///") + ".seal")
    seal.chmod(0o644)

    told = command(ledger_url, "doctor", "--repair", "--yes", **{KEY: str(key)})

    assert told.returncode == 1
    assert "cannot repair the ledger" in told.stderr
    assert seal.stat().st_mode & 0o077
    command(ledger_url, "doctor", "--repair", "--yes")
    assert not seal.stat().st_mode & 0o077


def test_below_exec_a_lost_key_lifts_nothing(key, ledger_url):
    """A program that takes its key out of its environment cannot resume the run for that."""
    keybrake.pause(key)

    told = command(ledger_url, "resume", key.run_id, KEYBRAKE_CREDENTIALS="/nowhere/socket")

    assert told.returncode == 1
    assert keybrake.open_ledger().runs(key.run_id)[0].state() == "paused"


def test_an_agent_below_exec_lifts_no_stop_of_its_run(fake, tmp_path, ledger_url):
    """Below `keybrake exec` a paused agent that runs `keybrake resume` stays paused."""
    agent = tmp_path / "agent.py"
    agent.write_text(
        "import os, subprocess, sys, keybrake, stripe\n"
        "stripe.api_base, stripe.api_key = sys.argv[1], 'sk_test_raw'\n"
        "stripe.max_network_retries = 0\n"
        "key = os.environ['KEYBRAKE_VAULT_KEY']\n"
        "keybrake.pause(key)\n"
        "told = subprocess.run([sys.executable, '-m', 'keybrake', 'resume', key])\n"
        "try:\n"
        "    stripe.PaymentIntent.create(amount=100, currency='usd')\n"
        "except keybrake.RunPaused:\n"
        "    print('paused', told.returncode)\n"
    )

    told = command(
        ledger_url,
        "exec",
        "--cap",
        "6",
        "--",
        sys.executable,
        agent,
        fake.url,
        STRIPE_API_KEY="sk_test_operator",
    )

    assert told.stdout == "paused 1\n"
    assert fake.journal.entries == ()


def test_the_refusal_is_one_line(key, ledger_url, monkeypatch, capsys):
    """The command line says which run is meant, why it is refused, and the remedy."""
    keybrake.pause(key)
    monkeypatch.setenv(KEY, str(key))

    status = app.run(["--ledger", ledger_url, "resume", key.run_id, "--json"])

    told = capsys.readouterr()
    assert (status, told.out) == (1, "")
    assert told.err.count("\n") == 1
    assert json.dumps("agent")[1:-1] in told.err


def test_one_of_its_own_among_others_and_nothing_is_written(key, ledger_url, monkeypatch, capsys):
    """If one of several runs is the key's own, none of them is resumed."""
    other = keybrake.issue_vault_key("other", cap=1)
    for run in (other, key):
        keybrake.pause(run)
    monkeypatch.setenv(KEY, str(key))

    status = app.run(["--ledger", ledger_url, "resume", other.run_id, key.run_id])

    assert status == 1
    assert keybrake.open_ledger().runs(other.run_id)[0].state() == "paused"


def test_a_call_that_two_runs_are_charged_for(key, fake, ledger_url, monkeypatch):
    """A call with another key in the SDK's slot is charged to the run around it too."""
    slot = keybrake.issue_vault_key("slot", cap=5)
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_operator")
    keybrake.configure(extra_hosts={"stripe": [stripe.api_base]})
    fake.inject(Fault("error_500_after"))
    with keybrake.run(key=key), pytest.raises(stripe.StripeError):
        stripe.PaymentIntent.create(amount=100, currency="usd", api_key=str(slot))
    (doubt,) = keybrake.open_ledger().in_doubt()
    monkeypatch.setenv(KEY, str(key))

    with pytest.raises(PolicyError, match=f"cannot resolve call {doubt.seq}"):
        keybrake.open_ledger().resolve(doubt.seq, keybrake.model.call.Outcome("voided"), "by hand")
