"""What does a Twilio object cost by now: its price, once there is one, and its status."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from keybrake.config.settings import Money
from keybrake.model.call import Call, Outcome, Reply, State
from keybrake.model.money import MICROS

# "-0.00750" on a message or call, "0.005" on a verification attempt; examples of recordings have
# either sign (Twilio's OpenAPI documents of 2026-04-14). What it takes is what counts.
_PRICE = re.compile(r"-?([0-9]{1,9}(?:\.[0-9]{1,12})?)")
_SID = re.compile(r"[A-Za-z0-9]{1,64}")


class Price(NamedTuple):
    """A price the vendor named, in micros, and the rate it was converted with."""

    micros: int
    currency: str
    rate: Fraction


class Worth(NamedTuple):
    """What a position is worth by now, in micros, and how it stands; *price*: as named, if it was."""

    state: str
    micros: int
    price: Price | None = None


UNREADABLE = Outcome(
    State.UNKNOWN, note="the answer was a success, but not one keybrake can read an id from"
)


def key(call: Call, sid: str) -> str:
    """Return the key of the position that an object of Twilio's is."""
    return f"twilio:{call.account}:{sid}"


def told(call: Call, sid: str, worth: Worth, *, observed: bool = False) -> Outcome:
    """Return the outcome of a call whose answer says what the object *sid* is worth."""
    return Outcome(
        State.SETTLED,
        position=key(call, sid),
        position_state=worth.state,
        value_micros=worth.micros,
        observed=observed,
        currency=worth.price.currency if worth.price else "usd",
        usd_per_unit=worth.price.rate if worth.price else Fraction(1),
        object_id=sid,
    )


def body_of(reply: Reply) -> Mapping[str, Any] | None:
    """Return the decoded body; None: it is no object."""
    try:
        body = json.loads(reply.body or b"")
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def sid_of(body: Mapping[str, Any], field: str = "sid") -> str | None:
    """Return the id of an object; None: it says none."""
    sid = body.get(field)
    return sid if isinstance(sid, str) and _SID.fullmatch(sid) else None


def price_of(value: object, unit: object, money: Money | None) -> Price | None:
    """Return the price that Twilio answered; None: there is none yet, or no rate for it."""
    found = _PRICE.fullmatch(str(value)) if isinstance(value, str | int | float) else None
    if found is None or not isinstance(unit, str):
        return None
    currency = unit.lower()
    rate = Fraction(1) if currency == "usd" else money.rate(currency) if money else None
    if rate is None:
        return None  # its estimate goes on to count
    exact = Fraction(Decimal(found[1])) * rate * MICROS
    return Price(-(-exact.numerator // exact.denominator), currency, rate)


def message(body: Mapping[str, Any], money: Money | None) -> Worth | None:
    """Return what a message is worth; None: it says nothing about that yet."""
    price = price_of(body.get("price"), body.get("price_unit"), money)
    match body.get("status"):
        case "failed":
            # Per message, not per part (support.twilio.com 27502337507483). Some error codes are
            # exempt; which ones keybrake does not know, so it counts.
            fee = money.prices.one("twilio", "failed_message_fee") if money else None
            costs = [cost for cost in (fee, price and price.micros) if cost is not None]
            return Worth("settled", max(costs), price) if costs else None
        case "canceled":
            return _ended(price)
        case _:
            # num_segments stays out of it: with a Messaging Service it is 0.
            return None if price is None else Worth("settled", price.micros, price)


# Twilio, "What do the call statuses mean?": of these you should not be charged.
_NOT_CONNECTED = ("canceled", "busy", "failed", "no-answer")


def call(body: Mapping[str, Any], money: Money | None) -> Worth | None:
    """Return what a call is worth; None: it says nothing about that yet."""
    price = price_of(body.get("price"), body.get("price_unit"), money)
    if body.get("status") in _NOT_CONNECTED:
        return _ended(price)
    return None if price is None else Worth("settled", price.micros, price)


def _ended(price: Price | None) -> Worth:
    """Return what is left of something that was called off: nothing, unless it has a price."""
    if price is None or not price.micros:
        return Worth("released", 0, price)
    return Worth("settled", price.micros, price)


def recording(body: Mapping[str, Any], money: Money | None) -> Worth | None:
    """Return what a recording is worth; None: it says nothing about that yet."""
    price = price_of(body.get("price"), body.get("price_unit"), money)
    return None if price is None else Worth("settled", price.micros, price)
