"""Does what needs a person count nothing, and stand in the row with what it may come to?"""

import pytest
import stripe

import keybrake

DATA = {"currency": "usd", "unit_amount": 2000, "product": "prod_1"}
SESSION = {"id": "cs_1", "object": "checkout.session", "status": "open"}
LINK = {"id": "plink_1", "object": "payment_link", "currency": "usd"}
PRICE = {"id": "price_1", "object": "price", "unit_amount": 2000, "currency": "usd"}


DAILY = {"interval": "daily"}


def _post(path, **params):
    """Call an endpoint that older versions of the SDK do not have by name."""
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": stripe.api_base})
    return client.raw_request("post", f"/v1/{path}", **params)


def _one(rows):
    row = rows()[-1]
    assert (row["state"], row["reserved"], row["cost"]) == ("settled", 0, 0)
    return row["contingent"]


def _session(**params):
    return stripe.checkout.Session.create(**({"mode": "payment"} | params))


@pytest.mark.parametrize(
    ("params", "shown", "contingent"),
    [
        ({"line_items": [{"price_data": DATA, "quantity": 2}]}, 4000, 40_000_000),
        ({"line_items": [{"price_data": DATA, "quantity": 2}]}, None, 40_000_000),
        ({"line_items": [{"price": "price_1"}]}, 3000, 30_000_000),
        ({"line_items": [{"price": "price_1"}]}, None, None),
        ({"line_items": [{"price_data": DATA | {"currency": "aed"}}]}, None, None),
        ({"line_items": ["junk"]}, None, None),
        ({"line_items": {"0": {"price_data": DATA}}}, None, 20_000_000),
        ({"line_items": "junk"}, None, None),
        (
            {
                "line_items": [
                    {
                        "price_data": DATA,
                        "adjustable_quantity": {"enabled": True, "maximum": 5},
                    }
                ]
            },
            2000,
            100_000_000,
        ),
        (
            {"line_items": [{"price_data": DATA, "adjustable_quantity": {"enabled": True}}]},
            2000,
            1_980_000_000,
        ),
        ({}, None, None),
    ],
)
def test_a_checkout_session(wire, ledger_url, rows, params, shown, contingent):
    """A session counts nothing; what the customer may be charged at most is written down."""
    wire.answer(200, SESSION | {"amount_total": shown, "currency": "usd" if shown else None})
    with keybrake.run("agent", cap=0) as run:
        _session(**params)

    assert _one(rows) == contingent
    assert run.spent == 0


def test_a_session_that_only_saves_a_card(wire, ledger_url, rows):
    """Setup mode moves nothing at all."""
    wire.answer(200, SESSION | {"amount_total": None, "currency": None})
    with keybrake.run("agent", cap=0):
        _session(mode="setup")

    assert _one(rows) is None


def test_what_becomes_of_a_session(fake, ledger_url, rows):
    """Expiring or reading a session counts nothing either."""
    price = fake.add_price(700, recurring=False)
    with keybrake.run("agent", cap=0) as run:
        made = _session(line_items=[{"price": price, "quantity": 2}])
        assert _one(rows) == 14_000_000
        stripe.checkout.Session.retrieve(made.id)
        stripe.checkout.Session.expire(made.id)

    assert _one(rows) is None
    assert run.spent == 0


def test_a_lost_session_counts_nothing(wire, ledger_url, rows):
    """A session whose answer is lost may be there, and still needs the customer."""
    wire.answer(500, {"error": {}})
    with keybrake.run("agent", cap=0) as run, pytest.raises(stripe.APIError):
        _session(line_items=[{"price_data": DATA}])

    assert (rows()[-1]["state"], rows()[-1]["contingent"]) == ("unknown", 20_000_000)
    assert (run.spent, run.reserved) == (0, 0)


@pytest.mark.parametrize(
    ("params", "price", "contingent"),
    [
        ({"line_items": [{"price": "price_1", "quantity": 3}]}, PRICE, 60_000_000),
        ({"line_items": [{"price": "price_1", "quantity": 3}]}, {}, None),
        (
            {
                "line_items": [{"price": "price_1", "quantity": 3}],
                "restrictions": {"completed_sessions": {"limit": 10}},
            },
            PRICE,
            600_000_000,
        ),
        ({"line_items": [{"price_data": DATA}]}, None, 20_000_000),
    ],
)
def test_a_payment_link(wire, ledger_url, rows, params, price, contingent):
    """One payment of a link is written down, or as many as it allows; its prices are looked up."""
    if price is not None:
        wire.answer(200, price)
    wire.answer(200, LINK)
    with keybrake.run("agent", cap=0):
        stripe.PaymentLink.create(**params)

    assert _one(rows) == contingent


@pytest.mark.parametrize(
    ("ask", "status", "contingent"),
    [
        (lambda: stripe.Quote.create(customer="cus_1"), "draft", 9_000_000),
        (lambda: stripe.Quote.modify("qt_1", description="x"), "draft", 9_000_000),
        (lambda: stripe.Quote.finalize_quote("qt_1"), "open", 9_000_000),
        (lambda: stripe.Quote.cancel("qt_1"), "canceled", None),
    ],
)
def test_a_quote(wire, ledger_url, rows, ask, status, contingent):
    """A quote counts nothing until it is accepted."""
    quote = {"id": "qt_1", "object": "quote", "amount_total": 900, "currency": "usd"}
    wire.answer(200, quote | {"status": status})
    with keybrake.run("agent", cap=0):
        ask()

    assert _one(rows) == contingent


@pytest.mark.parametrize(
    "ask",
    [
        lambda: stripe.issuing.Card.create(currency="usd", type="virtual", cardholder="ich_1"),
        lambda: stripe.issuing.Card.modify("ic_1", status="active"),
        lambda: stripe.issuing.Cardholder.modify("ich_1", email="a@example.com"),
        lambda: stripe.forwarding.Request.create(
            payment_method="pm_1", url="https://x", replacements=["card_number"]
        ),
        lambda: stripe.treasury.FinancialAccount.close("fa_1"),
        lambda: _post("balance_settings", payments={"payouts": {"schedule": DAILY}}),
        lambda: _post(
            "balance_settings", payments={"payouts": {"minimum_balance_by_currency": {"usd": 0}}}
        ),
        lambda: stripe.Account.modify("acct_1", settings={"payouts": {"schedule": DAILY}}),
        lambda: stripe.Account.modify("acct_1", external_account="btok_1"),
        lambda: stripe.Account.create_external_account(
            "acct_1", external_account="btok_1", default_for_currency=True
        ),
        lambda: stripe.Account.modify_external_account("acct_1", "ba_1", default_for_currency=True),
    ],
)
def test_standing_authority(wire, ledger_url, rows, ask):
    """What cannot be priced goes out only where the allowlist names it exactly, and counts nothing."""
    with keybrake.run("agent", cap=1000), pytest.raises(keybrake.EndpointNotAllowed) as caught:
        ask()
    assert caught.value.reason == "standing_authority"
    wire.answer(200, {"id": "x_1", "object": "anything"})
    with keybrake.run("agent", cap=0, allow=[caught.value.endpoint]):
        ask()

    assert rows()[-1]["state"] == "settled"


@pytest.mark.parametrize(
    "ask",
    [
        lambda: _post("balance_settings", payments={"debit_negative_balances": True}),
        lambda: stripe.Account.modify("acct_1", email="a@example.com"),
        lambda: stripe.Account.create_external_account("acct_1", external_account="btok_1"),
        lambda: stripe.Account.modify_external_account(
            "acct_1", "ba_1", default_for_currency=False
        ),
        lambda: stripe.Customer.create(name="Ada"),
        lambda: stripe.SetupIntent.create(customer="cus_1"),
        lambda: stripe.SetupIntent.confirm("seti_1"),
        lambda: stripe.Coupon.create(amount_off=100, currency="usd", duration="once"),
        lambda: stripe.Product.create(name="tea"),
        lambda: stripe.CreditNote.modify("cn_1", memo="x"),
    ],
)
@pytest.mark.parametrize("status", [200, 500])
def test_free_writes(wire, ledger_url, rows, ask, status):
    """What moves no money costs nothing, whatever comes back."""
    wire.answer(status, {"id": "x_1", "object": "anything", "amount": 5, "currency": "usd"})
    with keybrake.run("agent", cap=0):
        if status == 200:
            ask()
        else:
            with pytest.raises(stripe.StripeError):
                ask()

    assert _one(rows) is None
