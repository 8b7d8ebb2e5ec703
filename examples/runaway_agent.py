"""
What does a guarded agent look like? An ordinary one, with one line around it.

    python examples/runaway_agent.py

Without STRIPE_API_KEY it talks to a fake Stripe on this machine. With a key of Stripe's test mode
it talks to Stripe, or to whatever STRIPE_API_BASE names.
"""

import contextlib
import os
import sys
import tempfile

import stripe

import keybrake
from keybrake.testing import FakeStripe


def collect_invoice() -> None:
    """Charge one invoice of $29.99, with a bug: no payment ever looks like the right one."""
    paid = False
    while not paid:
        payment = stripe.PaymentIntent.create(
            amount=2999, currency="usd", payment_method="pm_card_visa", confirm=True
        )
        print(f"charged $29.99: {payment.id}")
        paid = payment.status == "paid"  # Stripe says "succeeded"


def main() -> None:
    """Run the agent under a cap of $200."""
    with keybrake.run("invoice-agent", cap=200) as run:
        try:
            collect_invoice()
        except stripe.StripeError as error:
            print(f"stopped: {error}")
    print(f"{run.calls} charges, ${run.spent} spent, ${run.remaining} left")


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        os.environ.setdefault("KEYBRAKE_LEDGER", f"sqlite:///{folder}/ledger.db")
        stripe.api_key = os.environ.get("STRIPE_API_KEY")
        stripe.api_base = os.environ.get("STRIPE_API_BASE", stripe.api_base)
        if not stripe.api_key:
            stripe.api_key = "sk_test_fake"
            stripe.api_base = stack.enter_context(FakeStripe()).url
        if not stripe.api_key.startswith(("sk_test_", "rk_test_")):
            sys.exit("This agent is broken on purpose: give it a key of Stripe's test mode.")
        main()
