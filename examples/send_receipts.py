"""
Who gets mail from an agent: receipts under a cap, and a newsletter nobody allowed.

    python examples/send_receipts.py

Resend names no price in its answers, so keybrake counts recipients: to, cc and bcc, at the price in
``[prices.resend]``. Run it as it is and it talks to a fake Resend; with ``RESEND_API_KEY`` set it
sends mail.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import resend

import keybrake
from keybrake import Limit
from keybrake.testing import FakeResend

SHOP = "Shop <onboarding@resend.dev>"
# Resend's own addresses for tests.
ORDERS = [(number, f"delivered+{number}@resend.dev") for number in range(1001, 1006)]


def send_receipt(number: int, address: str) -> str:
    """Send one receipt; the key keeps a second try from being a second email."""
    receipt: resend.Emails.SendParams = {
        "from": SHOP,
        "to": address,
        "bcc": ["delivered+archive@resend.dev"],
        "subject": f"Your receipt for order {number}",
        "text": "Thank you.",
    }
    return resend.Emails.send(receipt, {"idempotency_key": f"receipt/{number}"})["id"]


def receipts() -> None:
    """Send a receipt for every order, and the first one once more."""
    for number, address in [*ORDERS, ORDERS[0]]:
        try:
            print(f"order {number}: email {send_receipt(number, address)[:8]}…")
        except keybrake.CallRefused as refusal:
            print(f"order {number}: REFUSED ({refusal.reason})")


def newsletter() -> None:
    """Write to everybody: free by the plan, and so held back by nothing but the allowlist."""
    try:
        resend.Broadcasts.send({"broadcast_id": "b4f1c0de-0000-4000-8000-000000000000"})
    except keybrake.CallRefused as refusal:
        print(f"newsletter: REFUSED ({refusal.reason})")


@contextlib.contextmanager
def somewhere_to_send() -> Iterator[None]:
    """Point the SDK at a fake Resend and the ledger at a temporary file, where none is named."""
    with contextlib.ExitStack() as stack:
        if "KEYBRAKE_LEDGER" not in os.environ:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            keybrake.configure(ledger=f"sqlite:///{Path(folder) / 'ledger.db'}")
        if not resend.api_key:
            resend.api_key = "re_example"
            resend.api_url = stack.enter_context(FakeResend()).url
        yield


if __name__ == "__main__":
    with (
        somewhere_to_send(),
        keybrake.run(
            "receipt-agent", cap=1, limits={"resend.emails.send": Limit(cap="0.0072", per="1h")}
        ) as run,
    ):
        receipts()
        newsletter()
        print(f"\n{run.label}: ${run.spent} spent, {run.calls} calls, {run.refused} refused")
