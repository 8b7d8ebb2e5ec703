"""What Stripe's amounts are worth: minor units per currency, and what an object still holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from keybrake._money import convert

# Source: docs.stripe.com/currencies, noted 2026-11-23. ISK and UGX are zero-decimal elsewhere,
# but Stripe takes them with two decimals (500 = 5 ISK); MGA the other way round.
_ZERO_DECIMAL = frozenset(
    "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split()  # noqa: SIM905 -- reads as the vendor's list
)
_THREE_DECIMAL = frozenset("bhd jod kwd omr tnd".split())  # noqa: SIM905 -- reads as the vendor's list

_CODE = re.compile(r"[A-Za-z]{3}")
_DIGITS = re.compile(r"[0-9]{1,15}")

# Stripe's largest amount has twelve digits; more is nothing it would take.
MOST_MINOR = 10**12


def exponent(currency: str) -> int:
    """Return how many decimals Stripe's minor unit of *currency* (lower case) has."""
    if currency in _ZERO_DECIMAL:
        return 0
    return 3 if currency in _THREE_DECIMAL else 2


def currency_code(value: object) -> str | None:
    """Return a currency code in lower case; None if it is none."""
    return value.lower() if type(value) is str and _CODE.fullmatch(value) else None


def minor_amount(value: object) -> int | None:
    """
    Return an amount as Stripe takes it, an int or its digits; None if it is neither.

    Of these two types exactly: what a subclass sends is what its ``str()`` says, which need not
    be its value.
    """
    if type(value) is str and _DIGITS.fullmatch(value):
        value = int(value)
    return value if type(value) is int and 0 <= value <= MOST_MINOR else None


def micros(minor: int, currency: str, usd_per_unit: Fraction) -> int:
    """Return an amount in Stripe's minor unit as micro-USD, rounded up."""
    return convert(minor, exponent(currency), usd_per_unit)


class Worth(NamedTuple):
    """What a Stripe object is worth at most: *minor* in its currency, or None if unreadable."""

    object_id: str
    state: str
    minor: int | None
    currency: str | None


def worth(body: Mapping[str, Any]) -> Worth | None:
    """Return what a payment intent, charge, refund, transfer or payout holds; None: none of these."""
    kind, object_id = body.get("object"), body.get("id")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None or not isinstance(object_id, str):
        return None
    state, amount = reader(body)
    # A charge made for a payment intent is the same economic event as the intent.
    if kind == "charge" and isinstance(body.get("payment_intent"), str):
        object_id = body["payment_intent"]
    whole = isinstance(amount, int) and not isinstance(amount, bool)
    minor = amount if whole and 0 <= amount <= MOST_MINOR else None
    return Worth(object_id, state, minor, currency_code(body.get("currency")))


def _payment_intent(body: Mapping[str, Any]) -> tuple[str, Any]:
    match body.get("status"):
        case "succeeded":
            return "settled", body.get("amount_received")
        case "requires_capture":
            # After a partial capture of several, what was received no longer is capturable.
            parts = body.get("amount_capturable"), body.get("amount_received")
            return "held", sum(parts) if all(type(part) is int for part in parts) else None
        case "processing":
            return "in_flight", body.get("amount")
        case "canceled":
            return "released", body.get("amount_received")
        case _:
            # Open from creation on: its client secret can be confirmed out of sight.
            return "open", body.get("amount")


def _charge(body: Mapping[str, Any]) -> tuple[str, Any]:
    match body.get("status"):
        case "failed":
            return "released", 0
        case "succeeded":
            if body.get("captured") is True:
                return "settled", body.get("amount_captured", body.get("amount"))
            if body.get("refunded") is True:
                return "released", 0  # given back before it was ever captured
            return "held", body.get("amount")
        case _:
            return "in_flight", body.get("amount")


def _refund(body: Mapping[str, Any]) -> tuple[str, Any]:
    match body.get("status"):
        case "succeeded":
            return "settled", body.get("amount")
        case "failed" | "canceled":
            return "released", 0
        case _:
            return "in_flight", body.get("amount")


def _payout(body: Mapping[str, Any]) -> tuple[str, Any]:
    match body.get("status"):
        case "paid" | "in_transit":
            return "settled", body.get("amount")
        case "failed" | "canceled":
            return "released", 0
        case _:
            return "in_flight", body.get("amount")


def _transfer(body: Mapping[str, Any]) -> tuple[str, Any]:
    return "settled", body.get("amount")


_READERS = {
    "payment_intent": _payment_intent,
    "charge": _charge,
    "refund": _refund,
    "payout": _payout,
    "transfer": _transfer,
}
