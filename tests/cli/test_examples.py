"""Do the examples run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keybrake.testing import FakeStripe

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_example_ends_well(path, tmp_path):
    """An example runs from any folder, without an account, and exits with 0."""
    env = _environment(tmp_path)

    done = subprocess.run(
        [sys.executable, path],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def _environment(tmp_path, **facts):
    ours = ("KEYBRAKE_", "STRIPE_", "TWILIO_", "RESEND_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "KEYBRAKE_LEDGER": f"sqlite:///{tmp_path / 'ledger.db'}", **facts}


@pytest.mark.parametrize("account", ["none", "test mode"])
def test_the_runaway_agent_stops_at_five_dollars(tmp_path, account):
    """Unmodified, under ``keybrake exec --cap 5``: five charges, and a last line that a person can read."""
    agent = EXAMPLES / "runaway_agent.py"
    command = [sys.executable, "-m", "keybrake", "exec", "--cap", "5", "--", sys.executable, agent]
    with FakeStripe() as fake:
        facts = {"STRIPE_API_KEY": "sk_test_mine", "STRIPE_API_BASE": fake.url}
        (tmp_path / "keybrake.toml").write_text(f'[vendors.stripe]\nextra_hosts = ["{fake.url}"]\n')
        env = _environment(tmp_path, **({} if account == "none" else facts))
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        arrived = len(fake.journal.moved("charge"))

    assert done.returncode == 1
    assert done.stdout.count("$1.00") == 5
    assert arrived == (0 if account == "none" else 5)
    assert done.stderr.splitlines()[-1].startswith("keybrake: runaway_agent.py run_")
    assert "$5.00 of $5.00 spent in 5 calls, 1 refused" in done.stderr.splitlines()[-1]
