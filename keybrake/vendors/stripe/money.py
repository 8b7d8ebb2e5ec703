"""Stripe's minor units: the decimals of each currency, and amounts in the forms Stripe accepts."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction

from keybrake.model.money import MICROS, convert

# Source: docs.stripe.com/currencies, noted 2026-11-23. ISK and UGX are zero-decimal elsewhere,
# but Stripe takes them with two decimals (500 = 5 ISK); MGA the other way round. Stripe refuses
# some amounts that are no multiple of 10 or 100 (KWD, ISK, UGX, payouts in HUF and TWD). They
# count as sent here: a refusal by Stripe voids the call.
_ZERO_DECIMAL = frozenset(
    "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split()  # noqa: SIM905 -- reads as the vendor's list
)
_THREE_DECIMAL = frozenset("bhd jod kwd omr tnd".split())  # noqa: SIM905 -- reads as the vendor's list

_CODE = re.compile(r"[A-Za-z]{3}")
_DIGITS = re.compile(r"[0-9]{1,15}")
_DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,12})?")

# Stripe's largest amount has twelve digits. It refuses more.
MOST_MINOR = 10**12


def exponent(currency: str) -> int:
    """Return how many decimals Stripe's minor unit of *currency* (lower case) has."""
    if currency in _ZERO_DECIMAL:
        return 0
    return 3 if currency in _THREE_DECIMAL else 2


def currency_code(value: object) -> str | None:
    """Return a currency code in lower case; None: *value* is not a code."""
    return value.lower() if type(value) is str and _CODE.fullmatch(value) else None


def minor_amount(value: object) -> int | None:
    """
    Return an amount that is given as an int or as digits; None: it is neither.

    Only these exact types count: the SDK sends the ``str()`` of a subclass, which may differ from
    its value.
    """
    if type(value) is str and _DIGITS.fullmatch(value):
        value = int(value)
    return value if type(value) is int and 0 <= value <= MOST_MINOR else None


def signed_amount(value: object) -> int | None:
    """Return an amount that may be negative; None: *value* is not an amount."""
    if type(value) is int:
        below = minor_amount(-value) if value < 0 else None
    else:
        below = minor_amount(value[1:]) if type(value) is str and value[:1] == "-" else None
    return minor_amount(value) if below is None else -below


def exact_number(value: object) -> Fraction | None:
    """
    Return a number from 0 up that may have decimals; None: *value* is not such a number.

    ``unit_amount_decimal`` has up to twelve decimals, finer than a micro. The fraction stays exact
    so that it is multiplied first and rounded up afterwards.
    """
    if type(value) is float or type(value) is Decimal:
        value = str(value)
    if type(value) is str and _DECIMAL.fullmatch(value):
        number = Fraction(value)
        return number if number <= MOST_MINOR else None
    whole = minor_amount(value)
    return None if whole is None else Fraction(whole)


def micros(minor: int | Fraction, currency: str, usd_per_unit: Fraction) -> int:
    """Return an amount in Stripe's minor unit as micro-USD, rounded up."""
    if type(minor) is int:
        return convert(minor, exponent(currency), usd_per_unit)
    exact = Fraction(minor) / Fraction(10) ** exponent(currency) * usd_per_unit * MICROS
    return math.ceil(exact)
