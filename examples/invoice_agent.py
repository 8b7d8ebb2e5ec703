"""
What happens when an invoice agent does not stop: a capped run around the Stripe SDK.

Run it as it is and it talks to a fake Stripe on this machine. With ``STRIPE_API_KEY`` set (use a
test key) it talks to Stripe.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import stripe

import keybrake
from keybrake.testing import FakeStripe


@dataclass
class Invoice:
    """One invoice to be paid."""

    number: str
    cents: int


# One invoice, many times: the agent meant to charge it once.
TO_DO = [Invoice(f"2026-{n:03}", 2999) for n in range(1, 151)]


def agent(invoices: list[Invoice]) -> int:
    """Charge every invoice it is given; return how many it charged."""
    charged = 0
    for invoice in invoices:
        try:
            stripe.PaymentIntent.create(
                amount=invoice.cents,
                currency="usd",
                payment_method="pm_card_visa",
                payment_method_types=["card"],
                confirm=True,
                metadata={"invoice": invoice.number},
            )
        except keybrake.CapExceeded as refusal:
            print(f"\nstopped at invoice {invoice.number}:\n{refusal}\n")
            break
        charged += 1
    return charged


@contextlib.contextmanager
def somewhere_to_charge() -> Iterator[None]:
    """Point the SDK at a fake Stripe and the ledger at a temporary file, where none is named."""
    with contextlib.ExitStack() as stack:
        if "KEYBRAKE_LEDGER" not in os.environ:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            keybrake.configure(ledger=f"sqlite:///{Path(folder) / 'ledger.db'}")
        if key := os.environ.get("STRIPE_API_KEY"):
            stripe.api_key = key
        else:
            stripe.api_key = "sk_test_example"
            stripe.api_base = stack.enter_context(FakeStripe()).url
        yield


if __name__ == "__main__":
    with somewhere_to_charge():
        with keybrake.run("invoice-agent", cap=200) as run:
            number = agent(TO_DO)
        print(f"{number} of {len(TO_DO)} invoices charged")
        print(f"{run.label}: ${run.spent} spent, ${run.remaining} left, {run.refused} refused")
