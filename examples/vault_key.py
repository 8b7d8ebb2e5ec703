"""
How does an agent call Stripe without ever holding the key?

    python examples/vault_key.py

The operator's part says where the real key is kept. The agent's part has a vault key: it stands where
Stripe's key would stand, for an hour, for $200 a day, until somebody revokes it.
"""

import contextlib
import os
import tempfile

import stripe

import keybrake
from keybrake.testing import FakeStripe


def operator(fake: FakeStripe) -> None:
    """Say where the credential is kept and, as this is only a fake, that it may go there, too."""
    os.environ["REAL_STRIPE_KEY"] = "sk_test_operator"
    keybrake.configure(
        credentials={"stripe": "env://REAL_STRIPE_KEY"}, extra_hosts={"stripe": [fake.url]}
    )
    stripe.api_base = fake.url


def agent(vault_key: str) -> None:
    """Charge until somebody says no."""
    stripe.api_key = vault_key
    with contextlib.suppress(keybrake.CapExceeded):
        while True:
            payment = stripe.PaymentIntent.create(
                amount=2999, currency="usd", payment_method="pm_card_visa", confirm=True
            )
            print(f"charged $29.99: {payment.status}")


def main() -> None:
    """Issue a key, let the agent have it, and take it away."""
    with tempfile.TemporaryDirectory() as folder, FakeStripe() as fake:
        os.environ["KEYBRAKE_LEDGER"] = f"sqlite:///{folder}/ledger.db"
        operator(fake)
        vault_key = keybrake.issue_vault_key(
            "session-42", daily_usd_cap=200.0, allow=["stripe.payment_intents.*"]
        )
        agent(vault_key)
        prefixes = {entry.key_prefix for entry in fake.journal.entries}
        print(f"{len(fake.journal.entries)} charges arrived, with keys that begin {prefixes}")

        keybrake.revoke(vault_key)
        try:
            stripe.PaymentIntent.create(amount=1, currency="usd")
        except keybrake.RunRevoked as refusal:
            print(f"revoked: {refusal.reason}")


if __name__ == "__main__":
    main()
