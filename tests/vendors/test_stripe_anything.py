"""Whatever is asked and answered, is every Stripe call described, completed and judged?"""

import csv
import json
from fractions import Fraction
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keybrake.config.settings import Money
from keybrake.model.call import Attempt, Call, Effect, Outcome, Position, Reply, Request, State
from keybrake.vendors import VENDORS
from keybrake.vendors.stripe.table import FILE
from tests._each import each

STRIPE = VENDORS["stripe"]
_TEXT = resources.files("keybrake.vendors.stripe").joinpath(FILE).read_text("utf-8")
_LINES = (line for line in _TEXT.splitlines() if not line.startswith("#"))
RULED = [row for row in csv.DictReader(_LINES) if row["rule"]]
MOST_LOOKUPS = 20

_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
_AMOUNT = st.integers(-5, 10**13) | st.sampled_from(["5", "-5", "1.5", "x", True, 0.5])
_WORD = st.sampled_from(
    [
        *("usd", "eur", "aed", "price_1", "in_1", "pi_1", "../x", "price", "draft", "open", "paid"),
        *("succeeded", "active", "trialing", "requires_capture", "canceled", "invoice", "charge"),
        *("send_invoice", "exclude", "metered", "tiered", "tokens", "payment_intent", "posted"),
    ]
)
_NAME = st.sampled_from(
    [
        *("amount", "currency", "value", "monetary", "balance", "items", "line_items", "lines"),
        *("price", "price_data", "unit_amount", "unit_amount_decimal", "quantity", "phases", "id"),
        *("charge", "payment_intent", "invoice", "customer", "subscription", "auto_advance"),
        *("payload", "events", "event_name", "metric_tons", "product", "refunds", "object", "data"),
        *("status", "amount_due", "amount_paid", "amount_remaining", "amount_received", "total"),
        *("amount_captured", "amount_refunded", "computed", "upfront", "amount_total", "captured"),
        *("latest_invoice", "has_more", "collection_method", "default_currency", "approved"),
        *("transform_quantity", "divide_by", "recurring", "usage_type", "currency_options", "usd"),
        *(
            "current_prices_per_metric_ton",
            "pending_request",
            "items[0][price]",
            "deleted",
            "error",
        ),
        *("adjustable_quantity", "enabled", "maximum", "restrictions", "completed_sessions"),
    ]
)
_THING = st.recursive(
    _PLAIN | _AMOUNT | _WORD,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAME, inner, max_size=4),
    max_leaves=8,
)
_BODY = st.dictionaries(_NAME, _THING, max_size=8)
_POSITION = st.builds(
    Position,
    key=st.just("stripe::pi_1"),
    state=st.sampled_from(["open", "held", "settled"]),
    value_micros=st.integers(0, 10**9),
    currency=st.sampled_from(["usd", "eur", None]),
    usd_per_unit=st.none() | st.fractions(0, 5),
)
_MONEY = st.builds(
    Money,
    usd_per=st.just({"eur": 2}),
    margin_bps=st.just(0),
    refunds=st.sampled_from(["gross", "net", "ignore"]),
)


@pytest.mark.parametrize("row", RULED, ids=lambda row: row["endpoint"])
@settings(max_examples=12)
@given(st.data())
def test_nothing_breaks_it(row, data):
    """No request, object or answer raises; a price is never negative; only proof voids."""
    money = data.draw(_MONEY)
    path = row["path"].replace("{}", "x_1")
    request = Request("stripe", row["method"], f"https://api.stripe.com{path}", data.draw(_BODY))
    call = STRIPE.describe(request, money)
    for _ in range(MOST_LOOKUPS):
        if call.refusal is not None or call.lookup is None:
            break
        lookup, call = call.lookup, call._replace(lookup=None)
        assert lookup.path is None or lookup.path.startswith("/v")
        assert lookup.path is None or "/../" not in lookup.path
        call = STRIPE.complete(call, data.draw(_BODY | _POSITION), money)
    assert isinstance(call, Call)
    assert call.value_micros is None or call.value_micros >= 0
    _is_judged(call, data, money)


def _is_judged(call, data, money):
    status = data.draw(st.sampled_from([200, 201, 400, 402, 409, 500]))
    body = json.dumps(data.draw(_BODY))
    reply = Reply(status, {}, body, (Attempt(status),))
    outcome = STRIPE.outcome(call, reply, data.draw(st.sampled_from([money, None])))

    assert isinstance(outcome, Outcome)
    assert outcome.value_micros is None or outcome.value_micros >= 0
    assert outcome.contingent_micros is None or outcome.contingent_micros >= 0
    if outcome.state is State.VOIDED:
        assert 400 <= status < 500
    if status == 500 and call.effect is Effect.MONEY:
        assert outcome.state is State.UNKNOWN


@each("row", RULED, ids=lambda row: row["endpoint"])
def test_a_look_up_that_finds_nothing_never_prices(row):
    """Where the vendor cannot say it, a call that depends on it is refused."""
    params = {"charge": "ch_1", "payment_intent": "pi_1", "invoice": "in_1", "balance": -5}
    params |= {"subscription": "sub_1", "items": [{"price": "price_1"}], "customer": "cus_1"}
    params |= {"phases": [{"items": [{"price": "price_1"}]}], "auto_advance": True}
    params |= {"source_transaction": "ch_1", "product": "x", "metric_tons": "1", "currency": "usd"}
    params |= {"received_credit": "rc_1", "received_debit": "rd_1", "invoice_now": True}
    path = row["path"].replace("{}", "x_1")
    call = STRIPE.describe(
        Request("stripe", row["method"], f"https://api.stripe.com{path}", params), Money()
    )
    if call.lookup is None or call.lookup.path is None:
        return
    done = STRIPE.complete(call._replace(lookup=None), {}, Money())

    assert done.refusal is not None
    assert done.refusal[0] == "unknown_amount"


@each("row", RULED, ids=lambda row: row["endpoint"])
def test_a_position_in_the_place_of_an_object(row):
    """A rule that asks for an object takes no position for it, and never prices it at nothing."""
    params = {"charge": "ch_1", "payment_intent": "pi_1", "invoice": "in_1", "balance": -5}
    params |= {"subscription": "sub_1", "items": [{"price": "price_1"}], "customer": "cus_1"}
    params |= {"phases": {"0": {"items": {"0": {"price": "price_1"}}}}, "auto_advance": True}
    params |= {"source_transaction": "ch_1", "product": "x", "metric_tons": "1", "currency": "usd"}
    params |= {"received_credit": "rc_1", "received_debit": "rd_1", "invoice_now": True}
    params |= {"line_items": [{"price": "price_1"}], "lines": [{"unit_amount_decimal": "5"}]}
    path = row["path"].replace("{}", "x_1")
    call = STRIPE.describe(
        Request("stripe", row["method"], f"https://api.stripe.com{path}", params), Money()
    )
    known = Position("stripe::x_1", "open", 5_000_000, "usd", Fraction(1))
    done = STRIPE.complete(call, known, Money())

    asks = call.effect is Effect.MONEY and call.lookup is not None and call.lookup.path is not None
    goes_on = done.lookup is not None and done.lookup.path is not None
    assert not asks or goes_on or done.refusal or done.value_micros or call.value_micros == 0


def test_parameters_without_names():
    """A body that is a list says no amount by any name."""
    request = Request("stripe", "POST", "https://api.stripe.com/v1/charges", [5])

    assert STRIPE.describe(request, Money()).refusal[0] == "invalid_amount"


@pytest.mark.parametrize("endpoint", ["payouts", "customers/cus_1/balance_transactions"])
def test_an_answer_that_never_came(endpoint):
    """Without a body, a success is no success anybody can read."""
    params = {"amount": -5 if "balance" in endpoint else 5, "currency": "usd"}
    request = Request("stripe", "POST", f"https://api.stripe.com/v1/{endpoint}", params)
    call = STRIPE.describe(request, Money())

    assert STRIPE.outcome(call, Reply(200, {}, None, (Attempt(200),))).state is State.UNKNOWN
