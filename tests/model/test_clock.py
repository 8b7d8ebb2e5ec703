"""Durations are parsed, and times are shown in UTC."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keybrake import PolicyError
from keybrake.model import clock
from tests._each import each


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30s", 30),
        ("30m", 1800),
        ("2h", 7200),
        ("7d", 604_800),
        ("3650d", 315_360_000),
        (timedelta(minutes=90), 5400),
        (timedelta(microseconds=1), 0.000001),
    ],
)
def test_a_duration_is_a_number_and_a_unit(value, seconds):
    """Seconds, minutes, hours, days and timedeltas are accepted."""
    assert clock.duration(value, field="expires_in") == seconds * 1_000_000


@each(
    "value",
    [
        "0s", "-1h", "1e9h", "NaN", "2h2h", "2 h", " 2h", "2h\n", "∞", "1mo", "1w", "2H", "h", "2", "",
        "٣h", "\uff12h", "1.5h", "1_0h", "9999999999s", "3651d", True, 1, 1.5, None, b"2h", ["2h"],
        timedelta(0), timedelta(seconds=-1), timedelta.max, timedelta(days=3650, microseconds=1),
    ],
)  # fmt: skip
def test_an_invalid_duration_is_refused_by_name(value):
    """The error for a zero, negative, endless, doubled or odd duration names field and remedy."""
    with pytest.raises(PolicyError) as refused:
        clock.duration(value, field="expires_in")

    assert str(refused.value).startswith("expires_in=")
    assert "write a number and s, m, h or d" in str(refused.value)


def test_a_duration_too_long_to_print_is_still_a_policy_error():
    """A number with thousands of digits is refused like any other."""
    with pytest.raises(PolicyError, match=r"^expires_in="):
        clock.duration(10**5000, field="expires_in")


def test_a_time_is_shown_in_utc():
    """The text has six decimals and a Z, so that times sort as text."""
    assert clock.iso(1_795_440_306_123_456) == "2026-11-23T13:25:06.123456Z"
    assert clock.iso(0) == "1970-01-01T00:00:00.000000Z"
    assert clock.iso(None) is None


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001 -- made UTC below
def test_a_month_begins_on_its_first_day_in_utc(moment):
    """The start of a month is midnight of day one, and not later than any time in the month."""
    at = int(moment.replace(tzinfo=UTC).timestamp()) * clock.SECOND
    start = datetime.fromtimestamp(clock.month_start(at) / clock.SECOND, UTC)

    assert (start.year, start.month) == (moment.year, moment.month)
    assert (start.day, start.hour, start.minute, start.second) == (1, 0, 0, 0)


def test_the_clock_is_the_wall_clock():
    """The clock returns microseconds since 1970."""
    before = datetime.now(UTC).timestamp()

    assert before - 1 <= clock.now() / clock.SECOND <= before + 60
