"""Steps that all Stripe rules share: find the amount, its currency and its rate, or refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect
from keybrake.model.shown import shown
from keybrake.vendors.stripe.money import currency_code, micros, minor_amount
from keybrake.vendors.stripe.table import Path, Rule

_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")


def key_of(call: Call, object_id: str) -> str:
    """Return the position key of an object."""
    return f"stripe:{call.account}:{object_id}"


def dig(thing: Any, path: Path) -> Any:
    """Return the value at *path* in nested mappings and lists; None: there is none."""
    for name in path:
        if isinstance(thing, Mapping):
            # A list may be sent as a mapping of its indices.
            thing = thing.get(name, thing.get(int(name)) if name.isdigit() else None)
        elif isinstance(thing, list | tuple) and name.isdigit() and int(name) < len(thing):
            thing = thing[int(name)]
        else:
            return None
    return thing


def is_set(value: object) -> bool:
    """Return whether a flag is set: True, or the text that a form sends for it."""
    return value is True or value == "true"


def left_of(rule: Rule, found: Mapping[str, Any]) -> int | None:
    """Return the amount of a looked-up object that counts; None: it does not show it."""
    amounts = (_difference([dig(found, path) for path in paths]) for paths in rule.left)
    return max((amount for amount in amounts if amount is not None), default=None)


def _difference(parts: list[Any]) -> int | None:
    whole = [part for part in parts if type(part) is int]
    if len(whole) != len(parts):
        return None
    return minor_amount(whole[0] - sum(whole[1:]))


def refuse(call: Call, why: tuple[str, str]) -> Call:
    """Return *call* with a refusal (reason code and text), unless it has one already."""
    return call if call.refusal else call._replace(refusal=why)


def unknown(call: Call, words: str) -> Call:
    """Refuse a call because its amount cannot be known."""
    return refuse(call, ("unknown_amount", words))


def id_of(value: object) -> str | None:
    """Return an id that is given as text, or as an object with an ``id``; None: neither."""
    found = value if isinstance(value, str) else getattr(value, "id", None)
    return found if isinstance(found, str) and found else None


def is_id(text: str) -> bool:
    """Return whether *text* is safe as a path segment."""
    return bool(_ID.fullmatch(text))


def no_id(call: Call, field: str, text: str) -> Call:
    """Refuse a call that has something else in place of an id."""
    return refuse(call, ("path_not_canonical", f"{field}={shown(text)} is not an id"))


def with_amount(call: Call, amount: object, field: str) -> Call:
    """Return *call* with an amount that the request names."""
    minor = minor_amount(amount)
    if minor is None:
        words = f"{field}={shown(amount)} is not a whole number of the currency's minor unit"
        return refuse(call, ("invalid_amount", words))
    return call._replace(amount=minor)


def with_currency(call: Call, currency: object) -> Call:
    """Return *call* with a currency that the request names."""
    code = currency_code(currency)
    if code is None:
        words = f"currency={shown(currency)} is not a currency code"
        return refuse(call, ("no_rate", words))
    return call._replace(currency=code)


def no_rate(call: Call, currency: str | None, money: Money) -> Call:
    """Refuse a call in a currency that has no rate."""
    words = money.why_no_rate(currency)
    return refuse(call._replace(currency=currency), ("no_rate", words))


def priced(call: Call, minor: int | Fraction, currency: str | None, money: Money) -> Call:
    """Return *call* priced at *minor* units and the current rate."""
    rate = None if currency is None else money.rate(currency)
    if currency is None or rate is None:
        return no_rate(call, currency, money)
    value = micros(minor, currency, rate)
    return call._replace(currency=currency, usd_per_unit=rate, value_micros=value)


def at_rate(
    call: Call, currency: str | None, rate: Fraction | None, value: int | None, money: Money
) -> Call:
    """Return *call* priced by its amount at a given rate, or at *value* micros without an amount."""
    if currency is None or rate is None:
        return no_rate(call, currency, money)
    if call.amount is not None:
        value = micros(call.amount, currency, rate)
    if call.effect is Effect.READ:
        value = 0
    return call._replace(currency=currency, usd_per_unit=rate, value_micros=value)
