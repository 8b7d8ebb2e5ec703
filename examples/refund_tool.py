"""
What a tool function of an agent may do: ``@keybrake.tool`` with limits of its own.

The model asks for tools by name, as models do. Here its wishes are a list, so that the example
needs no model. Run it as it is and it talks to a fake Stripe; with ``STRIPE_API_KEY`` set (use a
test key) it talks to Stripe.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import stripe

import keybrake
from keybrake import Limit
from keybrake.testing import FakeStripe


@keybrake.tool(max_amount=20, limits={"stripe.refunds.create": Limit(cap=50, max_calls=4)})
def refund(charge: str, cents: int) -> str:
    """Refund part of a charge; at most $20 at a time, $50 and four refunds in a run."""
    made = stripe.Refund.create(charge=charge, amount=cents)
    return f"refunded ${cents / 100:.2f}: {made.status}"


@keybrake.tool(allow=["stripe.charges.retrieve"])
def look_up(charge: str) -> str:
    """Say what is left of a charge."""
    found = stripe.Charge.retrieve(charge)
    return f"${(found.amount - found.amount_refunded) / 100:.2f} left of ${found.amount / 100:.2f}"


TOOLS: dict[str, Callable[..., str]] = {"refund": refund, "look_up": look_up}

# What a model with a customer in a bad mood might ask for.
WISHES = [
    ("look_up", {}),
    ("refund", {"cents": 1500}),
    ("refund", {"cents": 9000}),
    ("refund", {"cents": 1500}),
    ("refund", {"cents": 1500}),
    ("refund", {"cents": 1500}),
    ("look_up", {}),
]


def answer(wish: str, **arguments: object) -> str:
    """Call a tool for the model; a refusal is its answer, and tells it not to retry."""
    try:
        return TOOLS[wish](**arguments)
    except keybrake.CallRefused as refusal:
        return f"REFUSED ({refusal.reason}): {refusal}"


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
        # Before any run is open, a call is left alone: this one is the shop's own.
        charge = stripe.Charge.create(amount=20000, currency="usd", source="tok_visa").id
        with keybrake.run("support-agent", cap=500) as run:
            for wish, arguments in WISHES:
                print(
                    f"{wish}({arguments.get('cents', '')}) -> {answer(wish, charge=charge, **arguments)}"
                )
        print(f"\n{run.label}: ${run.spent} refunded, {run.calls} calls, {run.refused} refused")
