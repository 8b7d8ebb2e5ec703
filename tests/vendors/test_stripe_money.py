"""Are Stripe's amounts and objects read as Stripe means them?"""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keybrake.vendors._stripe_money import (
    MOST_MINOR,
    currency_code,
    exponent,
    micros,
    minor_amount,
    worth,
)


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
    "value", ["", "us", "usdd", "usd ", "usd\n", "\uff35\uff33\uff24", "u$d", None, 5, b"usd"]
)
def test_no_currency(value):
    """What is not three plain letters is no currency."""
    assert currency_code(value) is None


@given(st.integers(0, MOST_MINOR), st.sampled_from(["usd", "jpy", "kwd"]), st.fractions(0, 10**6))
def test_costs_round_up(minor, currency, rate):
    """An amount never loses a fraction of a micro by conversion."""
    exact = Fraction(minor, 10 ** exponent(currency)) * rate * 10**6

    assert 0 <= micros(minor, currency, rate) - exact < 1


_PI = {"object": "payment_intent", "id": "pi_1", "currency": "usd", "amount": 9}
_CH = {"object": "charge", "id": "ch_1", "currency": "usd", "amount": 9}


@pytest.mark.parametrize(
    ("body", "state", "minor"),
    [
        (_PI | {"status": "succeeded", "amount_received": 7}, "settled", 7),
        (
            _PI | {"status": "requires_capture", "amount_capturable": 5, "amount_received": 2},
            "held",
            7,
        ),
        (_PI | {"status": "requires_capture", "amount_capturable": 5}, "held", None),
        (_PI | {"status": "processing"}, "in_flight", 9),
        (_PI | {"status": "canceled", "amount_received": 0}, "released", 0),
        (_PI | {"status": "canceled", "amount_received": 3}, "released", 3),
        (_PI | {"status": "requires_action"}, "open", 9),
        (_PI | {"status": "a status of tomorrow"}, "open", 9),
        (_PI | {"status": "succeeded"}, "settled", None),
        (_PI | {"status": "succeeded", "amount_received": -1}, "settled", None),
        (_CH | {"status": "succeeded", "captured": True, "amount_captured": 4}, "settled", 4),
        (_CH | {"status": "succeeded", "captured": True}, "settled", 9),
        (_CH | {"status": "succeeded", "captured": False}, "held", 9),
        (_CH | {"status": "pending"}, "in_flight", 9),
        (_CH | {"status": "failed"}, "released", 0),
        (_CH | {"object": "refund", "status": "succeeded"}, "settled", 9),
        (_CH | {"object": "refund", "status": "pending"}, "in_flight", 9),
        (_CH | {"object": "refund", "status": "failed"}, "released", 0),
        (_CH | {"object": "payout", "status": "in_transit"}, "settled", 9),
        (_CH | {"object": "payout", "status": "pending"}, "in_flight", 9),
        (_CH | {"object": "payout", "status": "canceled"}, "released", 0),
        (_CH | {"object": "transfer"}, "settled", 9),
    ],
)
def test_worth(body, state, minor):
    """Each status of each object is worth the most it can still take."""
    found = worth(body)

    assert (found.state, found.minor, found.currency) == (state, minor, "usd")


def test_a_charge_of_an_intent_is_the_intents_event():
    """The charge and the intent it was made for are one position."""
    body = _CH | {"status": "succeeded", "captured": True, "payment_intent": "pi_1"}

    assert worth(body).object_id == "pi_1"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "object": st.sampled_from(["payment_intent", "charge", "refund", "payout"]) | _JSON,
            "id": st.just("x_1") | _JSON,
            "status": st.sampled_from(["succeeded", "requires_capture", "canceled"]) | _JSON,
            "currency": st.just("usd") | _JSON,
            "captured": _JSON,
            **dict.fromkeys(
                ("amount", "amount_received", "amount_capturable", "amount_captured"),
                st.integers() | _JSON,
            ),
        },
    )
)
def test_worth_never_raises(body):
    """Any JSON object is worth something, or nothing anybody can read."""
    found = worth(body)

    assert found is None or found.minor is None or 0 <= found.minor <= MOST_MINOR
