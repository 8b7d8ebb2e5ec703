"""Amounts: dollars become whole micros, rounded to the safe side."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keybrake import PolicyError
from keybrake.model.money import MOST_MICROS, convert, micros_of, show, usd
from tests._each import each


class OddFloat(float):
    """A float with another ``str()``, like those of numpy."""

    def __repr__(self) -> str:
        return "float64(0.5)"

    __str__ = __repr__


@each(
    ("value", "micros"),
    [
        (0, 0),
        (200, 200_000_000),
        ("200", 200_000_000),
        ("0.50", 500_000),
        (Decimal("12.34"), 12_340_000),
        (0.1 + 0.2, 300_000),
        (0.001, 1_000),
        ("0.0000019", 1),
        (Decimal("0.0000009"), 0),
        (1e-7, 0),
        (Decimal("1E-999999"), 0),
        (OddFloat(0.5), 500_000),
        (1_000_000_000, MOST_MICROS),
        ("000000000000007", 7_000_000),
    ],
)
def test_an_amount_becomes_whole_micros_rounded_down(value, micros):
    """Rounding never raises a cap."""
    assert micros_of(value, field="cap") == micros


@each(
    "value",
    [
        True,
        False,
        None,
        -1,
        -0.0,
        "-0",
        "-1",
        float("nan"),
        float("inf"),
        float("-inf"),
        1e400,
        "NaN",
        "Infinity",
        "1e3",
        "+1",
        "0x10",
        "1,000",
        ".5",
        "5.",
        "",
        "\uff12\uff10\uff10",
        "1_000",
        " 200\n",
        "200\n",
        "٣",
        "1" * 17,
        1_000_000_001,
        10**30,
        2**63,
        pytest.param(10**5000, id="very long"),
        pytest.param(-(10**5000), id="very long, negative"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("-0"),
        Decimal("1E+999999"),
        1 + 2j,
        [200],
        {"usd": 200},
        b"200",
        Fraction(1, 3),
        object(),
    ],
)
def test_an_invalid_amount_is_refused_by_name(value):
    """The error for a bool, NaN, infinite, negative, too large or odd amount names field and remedy."""
    with pytest.raises(PolicyError) as refused:
        micros_of(value, field="cap")

    assert str(refused.value).startswith("cap=")
    assert "write a plain number of dollars" in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "value",
    [[10**5000], {"a": 10**5000}, Fraction(10**5000), (10**5000,)],
    ids=["list", "dict", "Fraction", "tuple"],
)
def test_a_number_too_long_to_print_is_still_a_policy_error(value):
    """A container around a number Python refuses to print is refused like any other."""
    with pytest.raises(PolicyError, match=r"^cap="):
        micros_of(value, field="cap")


@given(st.integers(0, MOST_MICROS))
def test_micros_come_back_from_dollars_exactly(micros):
    """No micro is lost between the ledger and the Decimal a user sees, or its text."""
    dollars = usd(micros)

    assert dollars * 1_000_000 == micros
    assert micros_of(dollars, field="cap") == micros
    assert micros_of(f"{dollars:f}", field="cap") == micros


@given(st.decimals(0, 10**9, allow_nan=False, allow_infinity=False))
def test_rounding_never_raises_a_cap(amount):
    """Rounding subtracts less than one micro, and never adds."""
    if amount.is_signed():
        amount = -amount
    micros = micros_of(amount, field="cap")

    assert 0 <= Fraction(amount) * 1_000_000 - micros < 1


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "$0.00"), (1, "$0.000001"), (1_234_500_000, "$1,234.50"), (-5_000_000, "-$5.00")],
)
def test_amounts_are_shown_in_dollars(micros, text):
    """The text has a sign, a dollar sign and thousands separators."""
    assert show(micros) == text


@pytest.mark.parametrize(
    ("minor", "exponent", "rate", "micros"),
    [
        (2999, 2, Fraction(1), 29_990_000),
        (500, 0, Fraction("0.0065"), 3_250_000),
        (1, 3, Fraction("3.25"), 3_250),
        (1, 2, Fraction(1, 3), 3_334),
        (0, 2, Fraction(1, 3), 0),
    ],
)
def test_a_cost_is_converted_rounded_up(minor, exponent, rate, micros):
    """Zero-, two- and three-decimal currencies become micros, never too few."""
    assert convert(minor, exponent, rate) == micros


@given(
    st.integers(0, 10**12),
    st.sampled_from([0, 2, 3]),
    st.fractions(Fraction(1, 10**6), 10**6),
)
def test_converting_never_loses_a_fraction(minor, exponent, rate):
    """The converted cost is the exact one or less than a micro above it."""
    exact = Fraction(minor, 10**exponent) * rate * 1_000_000

    assert 0 <= convert(minor, exponent, rate) - exact < 1
