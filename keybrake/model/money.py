"""Amounts of money: integer micro-USD inside keybrake, ``Decimal`` dollars in its public API."""

from __future__ import annotations

import re
from decimal import ROUND_FLOOR, Decimal, localcontext
from fractions import Fraction
from numbers import Integral

from keybrake.errors import PolicyError
from keybrake.model.shown import shown

MICROS = 1_000_000
"""Micro-USD in one US dollar."""

MOST_MICROS = 10**15
"""The largest cap: a billion dollars. Sums stay far below the limit of an int64."""

_CENT = 10_000
_MICRO_DIGITS = 6
_PLAIN = re.compile(r"[0-9]{1,16}(\.[0-9]{1,32})?")


def micros_of(value: object, *, field: str) -> int:
    """
    Return an amount in USD as whole micros, rounded down so that no cap grows.

    Args:
        value: An int, Decimal, str or float (a float through ``Decimal(str(x))``) from 0 to
            1,000,000,000. A string is plain ASCII digits with at most one point.
        field: Name of the argument or setting, for the error text.

    Raises:
        PolicyError: The value is a bool, NaN, infinite, negative, too large, or not a number.
    """
    amount = _decimal(value)
    if amount is None or not amount.is_finite():
        raise _not_an_amount(field, value, "is not an amount in USD")
    if amount.is_signed():
        raise _not_an_amount(field, value, "is negative")
    if amount > MOST_MICROS // MICROS:
        raise _not_an_amount(field, value, "is more than 1,000,000,000 USD")
    with localcontext(prec=60):
        return int(amount.quantize(Decimal("0.000001"), rounding=ROUND_FLOOR) * MICROS)


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, Decimal):
        return value
    if isinstance(value, Integral):
        number = int(value)
        # Decimal() of a gigantic int could exhaust memory; the caller rejects 1E+40 as too large.
        return Decimal(number) if abs(number) < 10**40 else Decimal("1E+40")
    if isinstance(value, float):
        return Decimal(str(float(value)))
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return Decimal(value)
    return None


def _not_an_amount(field: str, value: object, why: str) -> PolicyError:
    return PolicyError(
        f'{field}={shown(value)} {why}; write a plain number of dollars such as 200, "0.50" or '
        f'Decimal("12.34")'
    )


def usd(micros: int) -> Decimal:
    """Return micros as Decimal dollars: two decimals, or more if the amount has parts of a cent."""
    if micros % _CENT == 0:
        return (Decimal(micros) / MICROS).quantize(Decimal("0.01"))
    return (Decimal(micros) / MICROS).normalize()


def show(micros: int) -> str:
    """Return micros as text in dollars: ``$1,234.50``."""
    amount = usd(abs(micros))
    return f"{'-' if micros < 0 else ''}${amount:,f}"


def convert(minor: int, exponent: int, usd_per_unit: Fraction) -> int:
    """
    Return *minor* units of a currency in micro-USD, rounded up so that no cost shrinks.

    Args:
        minor: The amount in the vendor's minor unit of the currency.
        exponent: Decimals of that minor unit at the vendor (2: cents).
        usd_per_unit: US dollars for one major unit, margin included.
    """
    if usd_per_unit == 1 and exponent <= _MICRO_DIGITS:
        return minor * int(10 ** (_MICRO_DIGITS - exponent))
    exact = Fraction(minor, 10**exponent) * usd_per_unit * MICROS
    return -(-exact.numerator // exact.denominator)
