"""Run a program of its own against a fake Stripe: what a user starts, with children of its own."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

PATIENCE_S = 100
BEGINNING = """
import json, multiprocessing, os, sys
import keybrake, stripe

stripe.api_base, stripe.api_key = os.environ["BASE"], "sk_test_program"
stripe.max_network_retries = 0

def charge(*_):
    try:
        stripe.PaymentIntent.create(
            amount=100, currency="usd", payment_method="pm_card_visa", confirm=True
        )
    except keybrake.CallRefused as refusal:
        return refusal.reason
    return "charged"

def say(what):
    print("SAID", json.dumps(what), flush=True)
"""


def run(folder: Path, base: str, text: str, *words: str, **changes: str) -> list[Any]:
    """Run *text* as a program, and return what it said, each as JSON."""
    program = folder / "program.py"
    program.write_text(BEGINNING + textwrap.dedent(text))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STRIPE_")}
    done = subprocess.run(
        [sys.executable, str(program), *words],
        cwd=folder,
        env={**environ, "BASE": base, **changes},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("SAID ")]
    return [json.loads(line.removeprefix("SAID ")) for line in said]
