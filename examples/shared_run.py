"""
What holds when two processes share a run: one vault key, one cap, nobody over it.

Run it as it is and it talks to a fake Stripe; with ``STRIPE_API_KEY`` set (use a test key) it
talks to Stripe.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import stripe

import keybrake
from keybrake.testing import FakeStripe


def worker() -> None:
    """Join the run whose key comes on standard input, and charge $1 until the cap is reached."""
    stripe.api_key = os.environ.get("STRIPE_API_KEY", "sk_test_example")
    if "STRIPE_API_KEY" not in os.environ:
        stripe.api_base = os.environ["FAKE_STRIPE_URL"]
    print("ready", flush=True)
    # An argument could be read by every user of the machine; standard input cannot.
    key = sys.stdin.readline().strip()
    charged = 0
    with keybrake.run(key=key), contextlib.suppress(keybrake.CapExceeded):
        while True:
            stripe.PaymentIntent.create(amount=100, currency="usd")
            charged += 1
    print(f"charged {charged} times")


def start_worker() -> subprocess.Popen[str]:
    """Start this file again, as a worker."""
    command = [sys.executable, __file__, "worker"]
    return subprocess.Popen(  # noqa: S603 -- this very file
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def main() -> None:
    """Issue a key for $20, give it to two processes, and look at what they did together."""
    workers = [start_worker(), start_worker()]
    key = keybrake.issue_vault_key("shared", cap=20, expires_in="5m")
    for process in workers:
        assert process.stdout is not None
        process.stdout.readline()  # "ready": both begin at the same time
    for process in workers:
        assert process.stdin is not None
        process.stdin.write(f"{key}\n")
        process.stdin.flush()
    for process in workers:
        print(f"process {process.pid} {process.communicate()[0].strip()}")
    with keybrake.run(key=key) as run:
        print(f"{run.label}: ${run.spent} spent, {run.calls} calls, {run.refused} refused")


@contextlib.contextmanager
def somewhere_to_charge() -> Iterator[None]:
    """Name a fake Stripe and a temporary ledger in the environment, for the workers to find."""
    with contextlib.ExitStack() as stack:
        if "KEYBRAKE_LEDGER" not in os.environ:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            os.environ["KEYBRAKE_LEDGER"] = f"sqlite:///{Path(folder) / 'ledger.db'}"
        if "STRIPE_API_KEY" not in os.environ:
            os.environ["FAKE_STRIPE_URL"] = stack.enter_context(FakeStripe()).url
        yield


if __name__ == "__main__":
    if len(sys.argv) > 1:
        worker()
    else:
        with somewhere_to_charge():
            main()
