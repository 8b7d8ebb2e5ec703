"""Times and durations as integer microseconds: the wall clock, and texts such as ``"2h"``."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

from keybrake.errors import PolicyError
from keybrake.model.shown import shown

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
LONGEST = 3650 * DAY

_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
# [0-9], not \d: \d and int() accept the digits of every script.
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")


def now() -> int:
    """Return the wall clock in microseconds since 1970 (UTC)."""
    return time.time_ns() // 1000


def duration(value: object, *, field: str) -> int:
    """
    Return a duration in microseconds.

    Args:
        value: ``"30s"``, ``"30m"``, ``"2h"``, ``"7d"`` or a ``timedelta``, longer than 0 and at
            most ten years.
        field: Name of the argument or setting, for the error text.

    Raises:
        PolicyError: The value is not such a duration.
    """
    micros = None
    if isinstance(value, timedelta):
        micros = value // timedelta(microseconds=1)
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        micros = int(match[1]) * _UNITS[match[2]]
    if micros is None or not 0 < micros <= LONGEST:
        msg = (
            f"{field}={shown(value)} is not a duration; write a number and s, m, h or d "
            f'("30m", "2h", "7d"), longer than 0 and at most 3650 days'
        )
        raise PolicyError(msg)
    return micros


def iso(at: int | None) -> str | None:
    """Return a moment as ISO 8601 in UTC, ``2026-11-23T14:05:06.123456Z``."""
    if at is None:
        return None
    seconds, micros = divmod(at, SECOND)
    stamp = datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
    return stamp.isoformat(timespec="microseconds").replace("+00:00", "Z")


def month_start(at: int) -> int:
    """Return the first moment of the UTC month that *at* falls in."""
    day = datetime.fromtimestamp(at // SECOND, UTC).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    return int(day.timestamp()) * SECOND
