"""Which answers carry a secret that a vault key is there to keep from whoever calls."""

from __future__ import annotations

# Reads and free writes whose answer is, or has in it, something that is as good as a credential: Twilio's
# accounts with their auth_token (https://www.twilio.com/docs/iam/api/account), and the short-lived keys
# that Stripe makes for somebody else (https://docs.stripe.com/api). Noted 2026-11-28. What makes lasting
# keys is standing authority whoever asks.
GIVES_A_SECRET = frozenset(
    {
        "twilio.accounts.retrieve",
        "twilio.accounts.list",
        # Twilio serves the same object in several formats and spellings, which have no row.
        "twilio.unlisted.get",
        "stripe.account_sessions.create",
        "stripe.apps.secrets.find",
        "stripe.ephemeral_keys.create",
        "stripe.terminal.connection_tokens.create",
        "stripe.v2.billing.meter_event_session.create",
    }
)
