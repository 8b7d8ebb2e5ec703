"""The endpoints with a secret in their answer, which a caller with a vault key must not see."""

from __future__ import annotations

# Reads and free writes with an answer as good as a credential: Twilio accounts carry their auth_token
# (https://www.twilio.com/docs/iam/api/account), and Stripe creates short-lived keys for third parties
# (https://docs.stripe.com/api). Noted 2026-11-28. Endpoints that create lasting keys are not listed:
# they are standing authority, refused for every caller unless the allowlist names them.
GIVES_A_SECRET = frozenset(
    {
        "twilio.accounts.retrieve",
        "twilio.accounts.list",
        # Twilio serves an account also in formats and spellings that the table has no row for.
        "twilio.unlisted.get",
        "stripe.account_sessions.create",
        "stripe.apps.secrets.find",
        "stripe.ephemeral_keys.create",
        "stripe.terminal.connection_tokens.create",
        "stripe.v2.billing.meter_event_session.create",
    }
)
