"""Does a subscription count its first period, and a change of one what Stripe says it comes to?"""

import asyncio

import pytest
import stripe

import keybrake

SUBSCRIPTION = {"id": "sub_1", "object": "subscription", "status": "active", "currency": "usd"}
PRICE = {"id": "price_1", "object": "price", "unit_amount": 2000, "currency": "usd"}
PREVIEW = {"object": "invoice", "amount_due": 4321, "currency": "usd"}


@pytest.fixture
def customer(fake):
    """Return the id of a customer."""
    return stripe.Customer.create(name="Ada").id


def _create(**params):
    return stripe.Subscription.create(**({"customer": "cus_1"} | params))


def _paths(wire):
    return [seen.split(b" ", 2)[1].decode() for seen in wire.seen]


def test_a_subscription_and_its_first_invoice_are_one_event(fake, ledger_url, rows, customer):
    """Prices times quantities are reserved, one look-up each; the invoice adds nothing."""
    price, other = fake.add_price(500), fake.add_price(100)
    items = [{"price": price, "quantity": 2}, {"price": other}, {"price": price}]
    with keybrake.run("agent", cap=16) as run:
        made = stripe.Subscription.create(customer=customer, items=items)
        assert str(run.spent) == "16.00"
        with pytest.raises(stripe.InvalidRequestError):
            stripe.Invoice.pay(made.latest_invoice)

    looks = [row["path"] for row in rows() if row["endpoint"] == "stripe.lookup"]
    assert looks[:2] == [f"/v1/prices/{price}", f"/v1/prices/{other}"]
    assert rows()[2]["recurring"] == 1
    assert (fake.journal.total(), str(run.spent)) == (1600, "16.00")


def test_an_expanded_invoice_settles(wire, ledger_url):
    """Where the answer shows the first invoice, that is what counts."""
    paid = {"id": "in_1", "object": "invoice", "status": "paid", "currency": "usd"}
    wire.answer(200, PRICE)
    wire.answer(200, SUBSCRIPTION | {"latest_invoice": paid | {"amount_paid": 1500}})
    with keybrake.run("agent", cap=20) as run:
        _create(items=[{"price": "price_1"}])

    assert str(run.spent) == "15.00"


def test_prices_in_the_request_need_no_look_up(wire, ledger_url, rows):
    """What the request says is not asked for; fractions of a cent round up at the end."""
    wire.answer(200, SUBSCRIPTION)
    data = {"currency": "usd", "unit_amount_decimal": "0.00005", "product": "prod_1"}
    with keybrake.run("agent", cap=1):
        _create(
            items=[{"price_data": data, "quantity": 3}],
            add_invoice_items=[{"price_data": data | {"unit_amount_decimal": "10"}}],
        )

    assert rows()[-1]["reserved"] == 100_002


@pytest.mark.parametrize(
    ("price", "reserved"),
    [
        (PRICE | {"recurring": {"usage_type": "metered"}}, 0),
        (PRICE | {"transform_quantity": {"divide_by": 4, "round": "down"}}, 60_000_000),
        (PRICE | {"unit_amount": None, "unit_amount_decimal": "0.5"}, 50_000),
        (PRICE | {"object": "plan"}, 200_000_000),
    ],
)
def test_what_a_price_may_say(wire, ledger_url, rows, price, reserved):
    """Metered prices count nothing at first; packages are started whole."""
    wire.answer(200, price)
    wire.answer(200, SUBSCRIPTION)
    with keybrake.run("agent", cap=1000):
        _create(items=[{"price": "price_1", "quantity": 10}])

    assert rows()[-1]["reserved"] == reserved


def test_another_currency_than_the_prices_own(wire, ledger_url, rows):
    """The price is asked for its other currencies, and counts in the one that is wanted."""
    keybrake.configure(usd_per={"EUR": "2"}, margin_bps=0)
    options = {"eur": {"unit_amount": 1000, "unit_amount_decimal": "1000"}}
    wire.answer(200, PRICE | {"currency_options": options})
    wire.answer(200, SUBSCRIPTION | {"currency": "eur"})
    with keybrake.run("agent", cap=1000):
        _create(items=[{"price": "price_1"}], currency="eur")

    assert "currency_options" in _paths(wire)[0]
    assert rows()[-1]["reserved"] == 20_000_000


@pytest.mark.parametrize(
    "price",
    [
        PRICE | {"billing_scheme": "tiered"},
        PRICE | {"unit_amount": None},
        PRICE | {"currency": None},
        {},
    ],
)
def test_a_price_without_an_amount(wire, ledger_url, price):
    """A price that is no single amount is previewed; one that cannot be looked up is refused."""
    wire.answer(200, price)
    wire.answer(200, PREVIEW)
    wire.answer(200, SUBSCRIPTION)
    with keybrake.run("agent", cap=43) as run, pytest.raises(keybrake.CallRefused) as caught:
        _create(items=[{"price": "price_1"}])
    assert caught.value.reason == ("cap_exceeded" if price else "unknown_amount")
    assert str(run.spent) == "0.00"


@pytest.mark.parametrize(
    "params",
    [
        {"automatic_tax": {"enabled": True}},
        {"default_tax_rates": ["txr_1"]},
        {"backdate_start_date": 1},
        {"items": [{"price": "price_1", "tax_rates": ["txr_1"]}]},
        {"items": [{"price": "price_1", "quantity": "many"}]},
        {"items": [{"quantity": 1}]},
        {"items": ["price_1"]},
        {"items": [{"price": "../x"}]},
        {"items": [{"price_data": {"currency": "usd", "unit_amount": -5}}]},
        {"items": [{"price_data": {"currency": "?", "unit_amount": 5}}]},
        {
            "items": [
                {"price_data": {"currency": "usd", "unit_amount": 5}},
                {"price_data": {"currency": "eur", "unit_amount": 5}},
            ]
        },
    ],
)
def test_what_prices_do_not_tell_is_previewed(wire, ledger_url, rows, params):
    """Taxes, times and odd lines are for Stripe's preview; it changes nothing, and is recorded."""
    wire.answer(200, PREVIEW)
    wire.answer(200, SUBSCRIPTION)
    with keybrake.run("agent", cap=1000):
        _create(**({"items": [{"price": "price_1"}]} | params))

    look, row = rows()
    assert (look["method"], look["path"]) == ("POST", "/v1/invoices/create_preview")
    assert row["reserved"] == 43_210_000
    assert b"customer=cus_1" in wire.seen[0]


def test_nothing_to_preview_with(wire, ledger_url):
    """A subscription of nobody, or of nothing, cannot be previewed and is refused."""
    with keybrake.run("agent", cap=1000):
        for params in ({"items": [{}], "customer": None}, {"items": []}, {}):
            with pytest.raises(keybrake.UnknownCost):
                _create(**params)

    assert wire.seen == []


def test_a_schedule_of_phases_counts_whatever_it_is_made_from(wire, ledger_url):
    """An empty parameter is none to Stripe, and hides no phase here."""
    phases = [{"items": [{"price": "price_1"}]}]
    for former in ("", "sub_1"):
        wire.answer(200, PRICE)
        with keybrake.run("agent", cap=0), pytest.raises(keybrake.CapExceeded):
            stripe.SubscriptionSchedule.create(
                customer="cus_1", from_subscription=former, phases=phases
            )

    assert len(wire.seen) == 2


def test_a_bracketed_line_is_refused(wire, ledger_url):
    """A line spelt out by hand could be read in two ways."""
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": wire.url})
    with keybrake.run("agent", cap=1000), pytest.raises(keybrake.UnknownCost) as caught:
        client.raw_request("post", "/v1/subscriptions", **{"items[0][price]": "price_1"})

    assert caught.value.reason == "invalid_amount"


def test_a_trial_counts_what_will_be_charged(wire, ledger_url):
    """When the trial ends, the first period is charged without a further call."""
    wire.answer(200, PRICE)
    free = {"id": "in_1", "object": "invoice", "status": "paid", "amount_paid": 0}
    wire.answer(200, SUBSCRIPTION | {"status": "trialing", "latest_invoice": free})
    with keybrake.run("agent", cap=20) as run:
        _create(items=[{"price": "price_1"}], trial_period_days=7)

    assert str(run.spent) == "20.00"


def test_an_invoice_that_is_sent_waits_for_the_customer(wire, ledger_url, rows):
    """Nothing is charged by itself; what the customer is asked for is on record, where known."""
    data = {"currency": "usd", "unit_amount": 700, "product": "prod_1"}
    for items in ([{"price_data": data}], [{"price": "price_1"}]):
        wire.answer(200, SUBSCRIPTION)
        with keybrake.run("agent", cap=0):
            _create(items=items, collection_method="send_invoice", days_until_due=3)

    assert [row["contingent"] for row in rows()] == [7_000_000, None]
    assert [row["cost"] for row in rows()] == [0, 0]


def test_a_subscription_that_ended_at_once(wire, ledger_url):
    """One whose first payment cannot come any more counts nothing."""
    wire.answer(200, PRICE)
    wire.answer(200, SUBSCRIPTION | {"status": "incomplete_expired"})
    with keybrake.run("agent", cap=20) as run:
        _create(items=[{"price": "price_1"}])

    assert str(run.spent) == "0.00"


def test_an_unreadable_subscription_is_unknown(wire, ledger_url, rows):
    """A success that shows no subscription counts in full."""
    wire.answer(200, PRICE)
    wire.answer(200, {"object": "subscription"})
    with keybrake.run("agent", cap=20) as run:
        _create(items=[{"price": "price_1"}])

    assert (rows()[-1]["state"], str(run.reserved)) == ("unknown", "20.00")


def test_too_many_prices(wire, ledger_url):
    """What takes more look-ups than the guard makes is refused."""
    wire.otherwise = (200, PRICE, {})
    items = [{"price": f"price_{nr}"} for nr in range(30)]
    with keybrake.run("agent", cap=20), pytest.raises(keybrake.UnknownCost):
        _create(items=items)

    assert len(wire.seen) == 20


@pytest.mark.parametrize(
    "change",
    [
        lambda: stripe.Subscription.modify("sub_1", metadata={"a": "b"}, description="x"),
        lambda: stripe.Subscription.modify("sub_1", cancel_at_period_end=True),
        lambda: stripe.Subscription.cancel("sub_1"),
        lambda: stripe.Subscription.cancel("sub_1", invoice_now=False),
        lambda: stripe.SubscriptionItem.modify("si_1", metadata={"a": "b"}),
        lambda: stripe.SubscriptionItem.delete("si_1"),
        lambda: stripe.SubscriptionSchedule.modify("sub_sched_1", end_behavior="cancel"),
        lambda: stripe.SubscriptionSchedule.modify("sub_sched_1", default_settings={}),
        lambda: stripe.SubscriptionSchedule.create(from_subscription="sub_1"),
    ],
)
def test_changes_that_cost_nothing(wire, ledger_url, rows, change):
    """A description, an end, a schedule over what exists: nothing is asked, nothing counts."""
    wire.otherwise = (200, SUBSCRIPTION, {})
    with keybrake.run("agent", cap=0):
        change()

    assert [row["state"] for row in rows()] == ["settled"]


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        (
            lambda: stripe.Subscription.modify(
                "sub_1", add_invoice_items=[{"price": "price_1"}], trial_end="now"
            ),
            [b"subscription=sub_1", b"invoice_items%5B0%5D%5Bprice%5D=price_1", b"trial_end"],
        ),
        (
            lambda: stripe.Subscription.modify(
                "sub_1", trial_end="now", billing_cycle_anchor="now"
            ),
            [b"subscription_details%5Bbilling_cycle_anchor%5D=now"],
        ),
        (lambda: stripe.Subscription.resume("sub_1"), [b"resume_at%5D=now"]),
        (
            lambda: stripe.Subscription.cancel("sub_1", invoice_now=True),
            [b"cancel_now%5D=true"],
        ),
        (
            lambda: stripe.SubscriptionItem.create(subscription="sub_1", price="price_1"),
            [b"subscription=sub_1", b"items%5D%5B0%5D%5Bprice%5D=price_1"],
        ),
    ],
)
def test_the_preview_is_asked_about_this_change(wire, ledger_url, rows, change, asked):
    """Stripe is shown what the call would change, and what it says is reserved."""
    wire.answer(200, PREVIEW)
    wire.otherwise = (200, SUBSCRIPTION, {})
    with keybrake.run("agent", cap=1000):
        change()

    head = wire.seen[0].replace(b"[", b"%5B").replace(b"]", b"%5D")
    assert [part for part in asked if part not in head] == []
    assert rows()[-1]["reserved"] == 43_210_000


def test_two_deletes_under_one_key_are_two(wire, ledger_url, rows):
    """Stripe's v1 API ignores the key of a DELETE, so the second one counts like the first."""
    wire.script = [(200, PREVIEW, {}), (200, SUBSCRIPTION, {})] * 2
    with keybrake.run("agent", cap=1000) as run:
        for _ in range(2):
            stripe.Subscription.cancel("sub_1", invoice_now=True, idempotency_key="mine")

    assert [row["state"] for row in rows()] == ["settled"] * 4
    assert str(run.spent) == "86.42"


@pytest.mark.parametrize("options", [{}, {"idempotency_key": "mine"}])
def test_a_lost_delete_is_not_repeated(wire, ledger_url, monkeypatch, options):
    """A DELETE has no key to be repeated under, so reconciling sends nothing and proves nothing."""
    keybrake.configure(extra_hosts={"stripe": [wire.url]})
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_fake")
    wire.script = [(200, PREVIEW, {}), None]
    wire.otherwise = (200, SUBSCRIPTION, {})
    with keybrake.run("agent", cap=1000) as run, pytest.raises(stripe.APIConnectionError):
        stripe.Subscription.cancel("sub_1", invoice_now=True, **options)
    (found,) = run.reconcile()

    assert found.result == "unknown"
    assert len(wire.seen) == 2


def test_a_decline_of_a_later_delete_voids_nothing(wire, ledger_url, rows, monkeypatch):
    """The SDK's second attempt has no key in common with the first, which may have gone through."""
    monkeypatch.setattr(stripe, "max_network_retries", 1)
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.01)
    declined = {"error": {"type": "card_error", "code": "card_declined", "message": "no"}}
    wire.script = [(200, PREVIEW, {}), None, (402, declined, {})]
    with keybrake.run("agent", cap=1000) as run, pytest.raises(stripe.CardError):
        stripe.Subscription.cancel("sub_1", invoice_now=True)

    assert rows()[-1]["state"] == "unknown"
    assert str(run.reserved) == "43.21"


def test_changes_nobody_can_preview(wire, ledger_url):
    """A change without a subscription, an item of nothing, a plan as it was: refused."""
    wire.answer(200, {"id": "si_1", "object": "subscription_item", "subscription": None})
    wire.answer(200, {"id": "si_1", "object": "subscription_item", "subscription": "../x"})
    with keybrake.run("agent", cap=1000):
        for change in (
            lambda: stripe.SubscriptionItem.create(price="price_1"),
            lambda: stripe.SubscriptionItem.modify("si_1", quantity=5),
            lambda: stripe.SubscriptionItem.modify("si_1", quantity=5),
            lambda: stripe.Subscription.modify("sub_1", plan="gold"),
        ):
            with pytest.raises(keybrake.CallRefused):
                change()

    assert len(wire.seen) == 2


def test_a_change_is_charged_once(fake, ledger_url, rows, customer):
    """What the preview says is reserved, and the fake charges no more than that."""
    price = fake.add_price(500)
    with keybrake.run("agent", cap=25) as run:
        made = stripe.Subscription.create(customer=customer, items=[{"price": price}])
        item = made.to_dict()["items"]["data"][0]["id"]
        more = {"items": [{"id": item, "quantity": 5}], "proration_behavior": "always_invoice"}
        stripe.Subscription.modify(made.id, **more)

    assert str(run.spent) == "25.00"
    assert fake.journal.total() == 2500


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_the_preview_is_asked_in_a_task_too(fake, ledger_url, rows, customer, monkeypatch):
    """An async change is previewed by the same async client, and v2 objects are asked as v2."""
    price = fake.add_price(500)
    made = stripe.Subscription.create(customer=customer, items=[{"price": price}])
    unknown = "/v2/money_management/payout_intents/pyi_1/confirm"

    async def main():
        http_client = stripe.HTTPXClient()
        monkeypatch.setattr(stripe, "default_http_client", http_client)
        client = stripe.StripeClient(
            "sk_test_x", base_addresses={"api": fake.url}, http_client=http_client
        )
        more = {"items": [{"price": price}], "proration_behavior": "always_invoice"}
        try:
            await stripe.Subscription.modify_async(made.id, **more)
            with pytest.raises(keybrake.UnknownCost):
                await client.raw_request_async("post", unknown)
        finally:
            await http_client.close_async()

    with keybrake.run("agent", cap=5) as run:
        asyncio.run(main())

    assert str(run.spent) == "5.00"
    assert [(row["method"], row["path"].split("/")[2]) for row in rows()] == [
        ("GET", "subscriptions"),
        ("POST", "invoices"),
        ("POST", "subscriptions"),
        ("GET", "money_management"),
        ("POST", "money_management"),
    ]
