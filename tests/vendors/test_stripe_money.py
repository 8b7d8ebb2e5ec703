"""Are Stripe's amounts read as Stripe means them?"""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from keybrake.vendors.stripe.money import MOST_MINOR, currency_code, exponent, micros, minor_amount
from tests._each import each


@each(
    ("value", "expected"),
    [
        *[(0, 0), (5, 5), ("5", 5), ("005", 5), (MOST_MINOR, MOST_MINOR)],
        *[(-1, None), (True, None), (False, None), (5.0, None), ("5.0", None), ("-5", None)],
        *[("", None), (" 5", None), ("5 ", None), ("1_0", None), ("\uff11", None), ("٣", None)],
        *[("1e3", None), (None, None), ([5], None), (10**20, None), ("9" * 16, None), (b"5", None)],
        *[(MOST_MINOR + 1, None), ("5\n", None), (float("nan"), None)],
    ],
)
def test_minor_amount(value, expected):
    """Only a whole number, or its plain digits, is an amount."""
    assert minor_amount(value) == expected


@each(
    ("code", "decimals"),
    [
        ("usd", 2),
        ("jpy", 0),
        ("kwd", 3),
        ("isk", 2),
        ("ugx", 2),
        ("mga", 0),
        ("huf", 2),
        ("twd", 2),
    ],
)
def test_exponent(code, decimals):
    """Stripe's decimals hold, where they differ from ISO 4217 as well."""
    assert exponent(code) == decimals


@each("value", ["", "us", "usdd", "usd ", "usd\n", "\uff35\uff33\uff24", "u$d", None, 5, b"usd"])
def test_no_currency(value):
    """What is not three plain letters is no currency."""
    assert currency_code(value) is None


@given(st.integers(0, MOST_MINOR), st.sampled_from(["usd", "jpy", "kwd"]), st.fractions(0, 10**6))
def test_costs_round_up(minor, currency, rate):
    """An amount never loses a fraction of a micro by conversion."""
    exact = Fraction(minor, 10 ** exponent(currency)) * rate * 10**6

    assert 0 <= micros(minor, currency, rate) - exact < 1
