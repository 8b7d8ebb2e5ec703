"""Does a guarded read let a counted position become what the object is now, and never more?"""

import pytest
import stripe

import keybrake

ASK = {"amount": 1000, "currency": "usd"}
V2 = {"amount": {"value": 1000, "currency": "usd"}}


def _thing(kind, **fields):
    return {"id": "x_1", "object": kind, **ASK, **fields}


_V2 = "/v2/money_management"
_TREASURY = "/v1/treasury"


_MADE = [
    ("/v1/topups", ASK, _thing("topup", status="pending"), {"status": "failed"}),
    ("/v1/payouts", ASK, _thing("payout", status="pending"), {"status": "failed"}),
    ("/v1/transfers", ASK, _thing("transfer"), None),
    (
        "/v1/climate/orders",
        ASK,
        _thing("climate.order", amount_total=1000, status="open"),
        {"status": "canceled"},
    ),
    *[
        (
            f"{_TREASURY}/{name}s",
            ASK,
            _thing(f"treasury.{name}", status="processing"),
            {"status": "failed"},
        )
        for name in ("outbound_payment", "outbound_transfer", "inbound_transfer")
    ],
    *[
        (
            f"{_V2}/{name}s",
            V2,
            _thing(f"v2.money_management.{name}", **V2, status="pending"),
            {"status": "canceled"},
        )
        for name in ("outbound_payment", "payout_intent", "inbound_transfer")
    ],
]


@pytest.mark.parametrize(("path", "params", "made", "gone"), _MADE)
def test_what_a_read_shows(wire, ledger_url, path, params, made, gone):
    """A read that shows an object that came to nothing gives back; a larger one adds nothing."""
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": wire.url})
    larger = {"amount": {"value": 9000, "currency": "usd"}} if params is V2 else {"amount": 9000}
    with keybrake.run("agent", cap=100) as run:
        wire.answer(200, made)
        client.raw_request("post", path, **params, product="x")
        counted = run.spent
        wire.answer(200, made | larger | {"amount_total": 9000})
        client.raw_request("get", f"{path}/x_1")
        assert run.spent == counted
        wire.answer(200, made | (gone or {}))
        client.raw_request("get", f"{path}/x_1")

    assert counted >= 10
    assert run.spent == (0 if gone else counted)


@pytest.mark.parametrize(
    ("path", "params", "made"),
    [
        *[
            made[:3]
            for made in _MADE
            if made[0] not in ("/v1/transfers", f"{_V2}/inbound_transfers")
        ],
        ("/v1/refunds", {**ASK, "charge": "ch_1"}, _thing("refund", status="pending")),
    ],
)
def test_a_cancellation_gives_back(wire, ledger_url, path, params, made):
    """What was canceled counts nothing; a cancellation that did not work leaves it as it was."""
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": wire.url})
    with keybrake.run("agent", cap=100) as run:
        wire.answer(200, made)
        client.raw_request("post", path, **params, product="x")
        counted = run.spent
        wire.answer(400, {"error": {"message": "too late"}})
        with pytest.raises(stripe.StripeError):
            client.raw_request("post", f"{path}/x_1/cancel")
        assert run.spent == counted >= 10
        wire.answer(200, made | {"status": "canceled"})
        client.raw_request("post", f"{path}/x_1/cancel")

    assert (run.spent, run.reserved) == (0, 0)


def test_an_authorization_that_is_declined_gives_back(wire, ledger_url):
    """What was approved and then declined was not spent."""
    held = {"id": "iauth_1", "object": "issuing.authorization", "status": "pending", **ASK}
    with keybrake.run("agent", cap=10) as run:
        wire.answer(200, held)
        wire.answer(200, held | {"approved": True})
        stripe.issuing.Authorization.approve("iauth_1", amount=1000)
        assert str(run.spent) == "10.00"
        wire.answer(200, held | {"approved": False})
        stripe.issuing.Authorization.decline("iauth_1")

    assert run.spent == 0


@pytest.mark.parametrize(
    ("status", "counted"),
    [("open", 7), ("paid", 7), ("void", 0), ("uncollectible", 0), ("draft", 0)],
)
def test_what_a_read_of_an_invoice_shows(wire, ledger_url, status, counted):
    """An invoice that cannot be collected any more, or not by itself, gives back."""
    shown = {"id": "in_1", "object": "invoice", "amount_due": 700, "currency": "usd"}
    shown |= {"auto_advance": False, "amount_paid": 0}
    wire.answer(200, shown | {"status": "draft"})
    wire.answer(200, shown | {"status": "open"})
    wire.answer(200, shown | {"status": status, "amount_paid": 700 if status == "paid" else 0})
    with keybrake.run("agent", cap=100) as run:
        stripe.Invoice.finalize_invoice("in_1")
        stripe.Invoice.retrieve("in_1")

    assert run.spent == counted


def test_a_subscription_settles_by_a_read_of_its_invoice(fake, ledger_url):
    """What the first invoice really came to is seen when somebody looks at it."""
    customer, price = stripe.Customer.create(name="Ada").id, fake.add_price(500)
    with keybrake.run("agent", cap=100) as run:
        made = stripe.Subscription.create(customer=customer, items=[{"price": price}])
        stripe.Invoice.retrieve(made.latest_invoice)

    assert str(run.spent) == "5.00"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 100_000,
        {},
        _thing("topup", status="failed") | {"id": "x_2"},
        _thing("topup", status="pending") | {"currency": "eur"},
        _thing("something_new"),
    ],
)
def test_a_read_that_shows_nothing_changes_nothing(wire, ledger_url, body):
    """What cannot be read, or is another object, or in another currency, moves no position."""
    with keybrake.run("agent", cap=100) as run:
        wire.answer(200, _thing("topup", status="pending"))
        stripe.Topup.create(**ASK)
        wire.answer(200, body)
        try:
            stripe.Topup.retrieve("x_1")
        except Exception as error:  # noqa: BLE001 -- the SDK's, whatever it is
            assert not isinstance(error, keybrake.KeybrakeError)  # noqa: PT017

    assert str(run.spent) == "10.00"


def test_a_read_of_what_nobody_counts(fake, ledger_url):
    """Looking at an object that no guarded call made costs nothing."""
    invoice = fake.add_invoice(900)
    with keybrake.run("agent", cap=0) as run:
        stripe.Invoice.retrieve(invoice)

    assert run.spent == 0
