"""Readers of single settings: a number, a word or a boolean. Errors say how to write it."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

from keybrake.errors import PolicyError
from keybrake.model.shown import shown

_SHORTEST_WAIT_S, _LONGEST_WAIT_S = Decimal("0.01"), 600
_MOST_DAYS = 3650


def seconds(value: object, where: str) -> float:
    """Read the time that a call waits for the ledger, in seconds."""
    plain = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if isinstance(value, float | Decimal):
        plain = math.isfinite(value)
    # Compare before float(): an int may be too large for a float.
    if plain and _SHORTEST_WAIT_S <= value <= _LONGEST_WAIT_S:  # type: ignore[operator]  # plain means a number
        return float(value)  # type: ignore[arg-type]  # plain means a number
    msg = (
        f"{where}={shown(value)} is not a number of seconds from {_SHORTEST_WAIT_S} to "
        f"{_LONGEST_WAIT_S}"
    )
    raise PolicyError(msg)


def one_of(*choices: str) -> Callable[[object, str], str]:
    """Return a reader for a setting with a few possible values."""
    *first, last = (f'"{choice}"' for choice in choices)

    def read(value: object, where: str) -> str:
        if value not in choices:
            msg = f"{where}={shown(value)} is unknown; write {', '.join(first)} or {last}"
            raise PolicyError(msg)
        return str(value)

    return read


def yes_or_no(value: object, where: str) -> bool:
    """Read a boolean setting."""
    if isinstance(value, bool):
        return value
    msg = f"{where}={shown(value)} is unknown; write true or false"
    raise PolicyError(msg)


def days(value: object, where: str) -> int:
    """Read a number of days."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST_DAYS:
        msg = f"{where}={shown(value)} is not a whole number of days from 1 to {_MOST_DAYS}"
        raise PolicyError(msg)
    return value


def basis_points(value: object, where: str) -> int:
    """Read a margin in 1/10,000."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10_000:
        msg = f"{where}={shown(value)} is not a whole number of basis points from 0 to 10000"
        raise PolicyError(msg)
    return value
