"""Read the cost of a Twilio object from an answer: its price, once it has one, and its status."""

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
# either sign (Twilio's OpenAPI documents of 2026-04-14). So ignore the sign: each is a charge.
_PRICE = re.compile(r"-?([0-9]{1,9}(?:\.[0-9]{1,12})?)")
_SID = re.compile(r"[A-Za-z0-9]{1,64}")


class Price(NamedTuple):
    """A price from Twilio's answer, in micros, and the rate it was converted with."""

    micros: int
    currency: str
    rate: Fraction


class Worth(NamedTuple):
    """The state and value (in micros) of a position; *price*: Twilio's own, if it has one."""

    state: str
    micros: int
    price: Price | None = None


UNREADABLE = Outcome(State.UNKNOWN, note="the answer was a success, but keybrake found no id in it")


def key(call: Call, sid: str) -> str:
    """Return the position key of the Twilio object *sid*."""
    return f"twilio:{call.account}:{sid}"


def told(call: Call, sid: str, worth: Worth, *, observed: bool = False) -> Outcome:
    """Return the outcome of a call if its answer shows the worth of the object *sid*."""
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
    """Return the decoded body; None: it is not a JSON object."""
    try:
        body = json.loads(reply.body or b"")
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def sid_of(body: Mapping[str, Any], field: str = "sid") -> str | None:
    """Return the id in *field* of an object; None: it has none."""
    sid = body.get(field)
    return sid if isinstance(sid, str) and _SID.fullmatch(sid) else None


def price_of(value: object, unit: object, money: Money | None) -> Price | None:
    """Return a price from an answer; None: not set yet, or no rate for its currency."""
    found = _PRICE.fullmatch(str(value)) if isinstance(value, str | int | float) else None
    if found is None or not isinstance(unit, str):
        return None
    currency = unit.lower()
    rate = Fraction(1) if currency == "usd" else money.rate(currency) if money else None
    if rate is None:
        return None  # the estimate of the position stays
    exact = Fraction(Decimal(found[1])) * rate * MICROS
    return Price(-(-exact.numerator // exact.denominator), currency, rate)


def message(body: Mapping[str, Any], money: Money | None) -> Worth | None:
    """Return the worth of a message; None: the answer does not show it yet."""
    price = price_of(body.get("price"), body.get("price_unit"), money)
    match body.get("status"):
        case "failed":
            # The fee is per message, not per segment (support.twilio.com 27502337507483). Twilio
            # exempts some error codes. keybrake does not know which, so the fee always counts.
            fee = money.prices.one("twilio", "failed_message_fee") if money else None
            costs = [cost for cost in (fee, price and price.micros) if cost is not None]
            return Worth("settled", max(costs), price) if costs else None
        case "canceled":
            return _ended(price)
        case _:
            # Do not estimate from num_segments: it is 0 with a Messaging Service.
            return None if price is None else Worth("settled", price.micros, price)


# Twilio does not charge calls with these statuses (its article "What do the call statuses mean?").
_NOT_CONNECTED = ("canceled", "busy", "failed", "no-answer")


def call(body: Mapping[str, Any], money: Money | None) -> Worth | None:
    """Return the worth of a phone call; None: the answer does not show it yet."""
    price = price_of(body.get("price"), body.get("price_unit"), money)
    if body.get("status") in _NOT_CONNECTED:
        return _ended(price)
    return None if price is None else Worth("settled", price.micros, price)


def _ended(price: Price | None) -> Worth:
    """Return the worth of a message or call that ended unserved: 0, unless it has a price."""
    if price is None or not price.micros:
        return Worth("released", 0, price)
    return Worth("settled", price.micros, price)


def recording(body: Mapping[str, Any], money: Money | None) -> Worth | None:
    """Return the worth of a recording; None: the answer does not show it yet."""
    price = price_of(body.get("price"), body.get("price_unit"), money)
    return None if price is None else Worth("settled", price.micros, price)
