"""
What `keybrake verify` finds: an agent spends, somebody edits the ledger afterwards, and it shows.

Needs no account: it talks to a fake Stripe and keeps its ledger in a temporary folder.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import stripe

import keybrake
from keybrake.testing import FakeStripe


def spend(url: str) -> None:
    """Be an agent that charges three times."""
    stripe.api_key = "sk_test_example"
    with FakeStripe() as fake, keybrake.run("invoice-agent", cap=200, ledger=url) as run:
        stripe.api_base = fake.url
        for cents in (2999, 4500, 1200):
            stripe.PaymentIntent.create(amount=cents, currency="usd")
        print(f"{run.label} spent ${run.spent}")


def command(url: str, *words: str) -> str:
    """Run the command line on the ledger and return what it says, in as few lines as it does."""
    line = [sys.executable, "-m", "keybrake", "--ledger", url, *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False)  # noqa: S603 -- our own command
    return f"{(done.stdout + done.stderr).strip()}  (exit {done.returncode})"


def lower_a_cost(path: Path) -> None:
    """Be somebody with a SQLite tool who would like the agent to have spent less."""
    with sqlite3.connect(path) as database:
        database.execute("UPDATE call SET cost = 1000000 WHERE seq = 2")
        database.execute("UPDATE scope SET spent = spent - 44000000")
    database.close()


def main() -> None:
    """Spend, verify, note the head down, edit, and verify again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        url = f"sqlite:///{path}"
        spend(url)
        # The paths differ from run to run; what is said of the ledger does not.
        print(command(url, "verify").replace(str(path), "ledger.db"))
        print("to be kept elsewhere:", command(url, "verify", "--print-head").split()[0], "…")
        lower_a_cost(path)
        print(command(url, "verify").replace(str(path), "ledger.db"))


if __name__ == "__main__":
    main()
