"""Do fees, metered units, tons and balances count at their configured or looked-up prices?"""

from decimal import Decimal

import pytest
import stripe

import keybrake

SESSION = {"id": "vs_1", "object": "identity.verification_session", "status": "requires_input"}
VERIFY = "stripe.identity.verification_sessions.create"
ACCOUNT = {"id": "acct_1", "object": "account", "default_currency": "eur"}
CUSTOMER = {"id": "cus_1", "object": "customer"}
ORDER = {"id": "climorder_1", "object": "climate.order", "status": "open", "currency": "usd"}


def _configure(**prices):
    keybrake.configure(usd_per={"EUR": "2"}, margin_bps=0, prices={"stripe": prices})


def _verify():
    return stripe.identity.VerificationSession.create(type="document")


def _tax():
    return stripe.tax.Calculation.create(currency="usd", line_items=[{"amount": 10}])


def test_a_verification_has_to_have_a_price(wire, ledger_url):
    """Stripe bills each one, and its API names no price."""
    with keybrake.run("agent", cap=10), pytest.raises(keybrake.UnknownCost) as caught:
        _verify()

    assert (caught.value.reason, wire.seen) == ("no_rate", [])
    assert VERIFY in str(caught.value)


def test_a_fee_counts_at_its_price(wire, ledger_url, rows):
    """A configured price is reserved and counted, voided by an error, in doubt after a 500."""
    _configure(endpoint={VERIFY: "1.50"})
    wire.answer(200, SESSION)
    wire.answer(400, {"error": {}})
    wire.answer(500, {"error": {}})
    with keybrake.run("agent", cap=3) as run:
        _verify()
        for _ in range(2):
            with pytest.raises(stripe.StripeError):
                _verify()
        with pytest.raises(keybrake.CapExceeded):
            _verify()

    assert [row["cost"] for row in rows()] == [1_500_000, 0, None, None]
    assert (str(run.spent), str(run.reserved)) == ("1.50", "1.50")
    assert {row["meter"] for row in rows()} == {"usage"}


def test_other_fees_cost_nothing_unless_priced(wire, ledger_url, rows):
    """What the operator gave no price for is taken to be in what Stripe is paid anyway."""
    wire.otherwise = (200, {"id": "taxcalc_1", "object": "tax.calculation"}, {})
    with keybrake.run("agent", cap=1):
        _tax()
        _configure(endpoint={"*": "0.05"})
        _tax()

    assert [row["cost"] for row in rows()] == [0, 50_000]


def _meter(value=..., **payload):
    given = {"stripe_customer_id": "cus_1", **payload}
    if value is not ...:
        given["value"] = value
    return stripe.billing.MeterEvent.create(event_name="tokens", payload=given)


def test_metered_units_cost_nothing_without_a_price(wire, ledger_url, rows):
    """Where no event has a price, none is counted."""
    wire.answer(200, {"object": "billing.meter_event", "identifier": "x"})
    with keybrake.run("agent", cap=0):
        _meter("25")

    assert rows()[0]["cost"] == 0


@pytest.mark.parametrize(
    ("payload", "micros"),
    [
        ({"value": "25"}, 50_000),
        ({"value": 25}, 50_000),
        ({"value": "0.0001"}, 1),
        ({"value": "-5"}, 0),
        ({"value": -5}, 0),
        ({"tokens": "3"}, 6_000),
        ({}, 2_000),
    ],
)
def test_metered_units(wire, ledger_url, rows, payload, micros):
    """Units times their price, rounded up; a meter may call its value something else."""
    _configure(meter_event={"tokens": "0.002"})
    wire.answer(200, {"object": "billing.meter_event", "identifier": "x"})
    with keybrake.run("agent", cap=1) as run:
        _meter(**payload)

    assert (rows()[0]["reserved"], rows()[0]["cost"]) == (micros, micros)
    assert run.spent * 1_000_000 == micros


@pytest.mark.parametrize(
    ("event", "payload", "reason"),
    [
        ("other", {"value": "1"}, "no_rate"),
        ("tokens", {"value": "many"}, "invalid_amount"),
        ("tokens", {"value": "-many"}, "invalid_amount"),
        ("tokens", {"a": "1", "b": "2"}, "invalid_amount"),
        ("tokens", "x", "invalid_amount"),
    ],
)
def test_units_nobody_can_price(wire, ledger_url, event, payload, reason):
    """An event without a price among priced ones, or without a number, is refused."""
    _configure(meter_event={"tokens": "0.002"})
    with keybrake.run("agent", cap=1), pytest.raises(keybrake.UnknownCost) as caught:
        stripe.billing.MeterEvent.create(event_name=event, payload=payload)

    assert (caught.value.reason, wire.seen) == (reason, [])


def test_a_stream_of_events_adds_up(wire, ledger_url, rows):
    """Every event of a stream counts; v2 sends them as JSON."""
    _configure(meter_event={"tokens": "0.002", "pages": "0.10"})
    wire.answer(200, {})
    client = stripe.StripeClient(
        "sk_test_x", base_addresses={"api": wire.url, "meter_events": wire.url}
    )
    events = [
        {"event_name": "tokens", "payload": {"stripe_customer_id": "cus_1", "value": "100"}},
        {"event_name": "pages", "payload": {"stripe_customer_id": "cus_1", "value": "2"}},
    ]
    with keybrake.run("agent", cap=1):
        client.v2.billing.meter_event_stream.create({"events": events})
        with pytest.raises(keybrake.UnknownCost):
            client.v2.billing.meter_event_stream.create({"events": "none"})

    assert rows()[0]["cost"] == 400_000


def test_a_climate_order_by_amount(wire, ledger_url, rows):
    """The margin covers fees that only the answer names; what the answer says is counted."""
    keybrake.configure(climate_fee_margin_bps=300)
    wire.answer(200, ORDER | {"amount_total": 10_250})
    with keybrake.run("agent", cap=103):
        stripe.climate.Order.create(amount=10_000, currency="usd", product="climsku_1")

    assert (rows()[0]["reserved"], rows()[0]["cost"]) == (103_000_000, 102_500_000)


@pytest.mark.parametrize(
    "params",
    [
        {"amount": 10_000},
        {"amount": 10_000, "currency": "aed"},
        {"amount": -1, "currency": "usd"},
        {"currency": "usd"},
        {"metric_tons": Decimal("NaN"), "currency": "usd"},
        {"metric_tons": "1", "currency": "eur"},
    ],
)
def test_climate_orders_nobody_can_price(wire, ledger_url, params):
    """No currency, no rate, no amount, a product without a price in it: refused."""
    wire.otherwise = (200, {"current_prices_per_metric_ton": {"usd": {"amount_total": 5}}}, {})
    with keybrake.run("agent", cap=1000), pytest.raises(keybrake.UnknownCost):
        stripe.climate.Order.create(product="climsku_1", **params)

    assert [seen[:4] for seen in wire.seen] in ([], [b"GET "])


@pytest.mark.parametrize(
    ("amount", "reserved"),
    [(-500, 5_000_000), ("-500", 5_000_000), (500, 5_000_000), ("500", 5_000_000), (0, 0)],
)
def test_a_balance_transaction(wire, ledger_url, rows, amount, reserved):
    """What is given to the customer counts, and what the next invoice collects by itself."""
    shown = {"id": "cbtxn_1", "object": "customer_balance_transaction", "currency": "usd"}
    wire.answer(200, shown | {"amount": int(amount)})
    with keybrake.run("agent", cap=5) as run:
        stripe.Customer.create_balance_transaction("cus_1", amount=amount, currency="usd")

    assert (rows()[0]["reserved"], run.spent * 1_000_000) == (reserved, reserved)


@pytest.mark.parametrize("amount", [-0.5, "five", True, None])
def test_a_balance_transaction_of_no_amount(wire, ledger_url, amount):
    """What is not a whole number, of either sign, is refused."""
    with keybrake.run("agent", cap=5), pytest.raises(keybrake.UnknownCost):
        stripe.Customer.create_balance_transaction("cus_1", amount=amount, currency="usd")

    assert wire.seen == []


def test_a_new_customers_balance_is_in_the_accounts_currency(wire, ledger_url, rows):
    """The request names no currency, and the customer has none yet."""
    _configure()
    wire.answer(200, ACCOUNT)
    wire.answer(200, CUSTOMER | {"balance": -500, "currency": None})
    with keybrake.run("agent", cap=10) as run:
        stripe.Customer.create(balance=-500)

    assert str(run.spent) == "10.00"
    assert [row["path"] for row in rows()] == ["/v1/account", "/v1/customers"]


@pytest.mark.parametrize("balance", [0, "0", None])
def test_a_new_customer_without_a_balance(wire, ledger_url, rows, balance):
    """No balance costs nothing, and asks nothing."""
    wire.answer(200, CUSTOMER | {"balance": 0})
    with keybrake.run("agent", cap=0):
        stripe.Customer.create(balance=balance)

    assert len(rows()) == 1


@pytest.mark.parametrize("balance", [500, "500"])
def test_a_new_customer_who_owes(wire, ledger_url, balance):
    """What a customer owes from the beginning is collected with the first invoice: it counts."""
    wire.answer(200, {"id": "acct_1", "object": "account", "default_currency": "usd"})
    with keybrake.run("agent", cap=4), pytest.raises(keybrake.CapExceeded):
        stripe.Customer.create(balance=balance)

    assert len(wire.seen) == 1


@pytest.mark.parametrize(
    ("old", "new", "dollars"),
    [(0, -500, 5), (300, -200, 5), (-500, -200, 3), (0, 500, 5), (300, 0, 3)],
)
def test_another_balance_counts_the_difference(wire, ledger_url, old, new, dollars):
    """A customer who is given credit, or owes more, costs the change of the balance."""
    wire.answer(200, CUSTOMER | {"balance": old, "currency": "usd"})
    wire.answer(200, CUSTOMER | {"balance": new, "currency": "usd"})
    with keybrake.run("agent", cap=dollars) as run:
        stripe.Customer.modify("cus_1", balance=new)

    assert run.spent == dollars


@pytest.mark.parametrize(("old", "new"), [(100, 900), (-300, -500), (300, 100)])
def test_a_new_balance_counts_in_full_beside_the_old_one(wire, ledger_url, old, new):
    """An invoice may use up the old balance after the look-up: then all of the new one is added."""
    wire.answer(200, CUSTOMER | {"balance": old, "currency": "usd"})
    wire.answer(200, CUSTOMER | {"balance": new, "currency": "usd"})
    with keybrake.run("agent", cap=10) as run:
        stripe.Customer.modify("cus_1", balance=new)

    assert run.spent * 100 == max(abs(new), abs(new - old))


def test_a_balance_without_a_currency_asks_once_more(wire, ledger_url, rows):
    """A customer who was never billed has no currency: the account's counts."""
    _configure()
    wire.answer(200, CUSTOMER | {"balance": 0, "currency": None})
    wire.answer(200, ACCOUNT)
    wire.answer(200, CUSTOMER | {"balance": -500})
    with keybrake.run("agent", cap=10) as run:
        stripe.Customer.modify("cus_1", balance=-500)

    assert str(run.spent) == "10.00"
    assert [row["path"] for row in rows()][:2] == ["/v1/customers/cus_1", "/v1/account"]


@pytest.mark.parametrize("found", [{}, {"balance": "5"}, {"balance": 0, "currency": 5}])
def test_a_balance_nobody_can_read(wire, ledger_url, found):
    """Without the old balance, or any currency, nothing is sent."""
    wire.answer(200, found)
    wire.answer(200, {})
    with keybrake.run("agent", cap=10), pytest.raises(keybrake.UnknownCost):
        stripe.Customer.modify("cus_1", balance=-500)


def test_a_balance_that_is_no_number(wire, ledger_url):
    """A balance of words is refused, for a new customer and for an old one."""
    with keybrake.run("agent", cap=10):
        for call in (
            lambda: stripe.Customer.create(balance="much"),
            lambda: stripe.Customer.modify("cus_1", balance=[5]),
        ):
            with pytest.raises(keybrake.UnknownCost):
                call()

    assert wire.seen == []


def test_a_grant_of_something_else_than_money(wire, ledger_url):
    """Credit that is not in a currency cannot be counted."""
    amount = {"type": "custom_pricing_unit", "custom_pricing_unit": {"value": "5"}}
    with keybrake.run("agent", cap=10), pytest.raises(keybrake.UnknownCost):
        stripe.billing.CreditGrant.create(
            amount=amount, customer="cus_1", applicability_config={}, category="paid"
        )

    assert wire.seen == []
