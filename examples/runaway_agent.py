"""
What does an agent look like that nobody has put a brake on? It charges 150 times where once was meant.

    python examples/runaway_agent.py
    keybrake exec --cap 5 -- python examples/runaway_agent.py

Nothing in it knows of keybrake; the second line stops it at five dollars all the same. Without
STRIPE_API_KEY it talks to a fake Stripe on this machine. With a key of Stripe's test mode it talks to
Stripe, or to whatever STRIPE_API_BASE names.
"""

import contextlib
import os
import sys

import stripe


def collect_invoice() -> None:
    """Charge one invoice of a dollar, with a bug: no payment ever looks like the right one."""
    for attempt in range(1, 151):
        payment = stripe.PaymentIntent.create(
            amount=100, currency="usd", payment_method="pm_card_visa", confirm=True
        )
        print(f"charge {attempt}: $1.00, {payment.id}")
        if payment.status == "paid":  # Stripe says "succeeded"
            return


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        stripe.api_key = os.environ.get("STRIPE_API_KEY")
        stripe.api_base = os.environ.get("STRIPE_API_BASE", stripe.api_base)
        if not stripe.api_key:
            from keybrake.testing import FakeStripe

            stripe.api_key = "sk_test_fake"
            stripe.api_base = stack.enter_context(FakeStripe()).url
        if not stripe.api_key.startswith(("sk_test_", "rk_test_", "kb_live_")):
            sys.exit("This agent is broken on purpose: give it a key of Stripe's test mode.")
        collect_invoice()
