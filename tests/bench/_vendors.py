"""What it costs to know what a call is and what it cost: pure work, beside one admission."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from keybrake._config import Config, Money, parse
from keybrake._model import Attempt, Reply, Request
from keybrake.vendors import VENDORS

_PRICES = {"prices": {"twilio": {"sms_segment": {"+1": "0.0145"}}}}

# One ordinary call of each vendor, and its answer.
_CALLS: dict[str, tuple[Request, dict[str, Any]]] = {
    "stripe": (
        Request(
            "stripe",
            "POST",
            "https://api.stripe.com/v1/payment_intents",
            {"amount": 2999, "currency": "usd", "automatic_payment_methods": {"enabled": True}},
        ),
        {
            "id": "pi_1",
            "object": "payment_intent",
            "amount": 2999,
            "amount_capturable": 0,
            "amount_received": 2999,
            "currency": "usd",
            "status": "succeeded",
        },
    ),
    "twilio": (
        Request(
            "twilio",
            "POST",
            "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json",
            {"To": "+14155550100", "From": "+14155550101", "Body": "Your table is ready. " * 6},
            account="AC1",
        ),
        {"sid": "SM1", "status": "queued", "num_segments": "1", "price": None, "price_unit": None},
    ),
    "resend": (
        Request(
            "resend",
            "POST",
            "https://api.resend.com/emails",
            {"from": "a@example.com", "to": ["b@example.com"], "subject": "Hi", "text": "Hello"},
        ),
        {"id": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"},
    ),
}


def names() -> list[str]:
    """Return the vendors there is a call of."""
    return list(_CALLS)


def work_of(name: str) -> Callable[[], object]:
    """Return what describes one call of a vendor and reads its answer."""
    vendor = VENDORS[name]
    money: Money = parse(_PRICES, source="bench", default=Config("sqlite:///x")).money
    request, body = _CALLS[name]
    reply = Reply(200, {}, json.dumps(body), (Attempt(200),))

    def work() -> object:
        call = vendor.describe(request, money)
        assert call.refusal is None
        return vendor.outcome(call, reply, money)

    return work
