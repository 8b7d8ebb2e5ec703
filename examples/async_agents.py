"""
What binds when agents start agents: nested runs in asyncio, each with a cap, all under one.

Run it as it is and it talks to a fake Stripe; with ``STRIPE_API_KEY`` set (use a test key) it
talks to Stripe.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import stripe

import keybrake
from keybrake.testing import FakeStripe


async def worker(name: str, cents: int, cap: int) -> str:
    """Charge until something says no; say what it was."""
    async with keybrake.run(name, cap=cap) as run:
        try:
            while True:
                await stripe.PaymentIntent.create_async(amount=cents, currency="usd")
        except keybrake.CapExceeded as refusal:
            who = "its own cap" if refusal.scope == "run cap" else "the cap above it"
            return f"{name}: ${run.spent} of ${cap}.00 in {run.calls} calls, stopped by {who}"


async def campaign() -> None:
    """Start four workers at once: together they want $160, and they may have $100."""
    async with keybrake.run("campaign", cap=100) as campaign_run:
        workers = [
            worker("north", 500, cap=20),
            worker("south", 700, cap=40),
            worker("east", 300, cap=50),
            worker("west", 900, cap=50),
        ]
        for line in await asyncio.gather(*workers):
            print(line)
    print(f"campaign: ${campaign_run.spent} of $100.00 in {campaign_run.calls} calls")
    if stripe.default_http_client is not None:
        await stripe.default_http_client.close_async()


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
        asyncio.run(campaign())
