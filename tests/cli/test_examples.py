"""Do the examples run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_example_ends_well(path, tmp_path):
    """An example runs from any folder, without an account, and exits with 0."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("KEYBRAKE_", "STRIPE_", "TWILIO_", "RESEND_"))
    }
    env = {**kept, "KEYBRAKE_LEDGER": f"sqlite:///{tmp_path / 'ledger.db'}"}

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
