"""Does what a trial's end will charge count with the call that makes it so?"""

import urllib.parse

import pytest
import stripe

import keybrake

PRICE = {"id": "price_1", "object": "price", "unit_amount": 2000, "currency": "usd"}
TRIAL_END = 2_000_000_000
TRIAL = {
    "id": "sub_1",
    "object": "subscription",
    "status": "trialing",
    "currency": "usd",
    "customer": "cus_1",
    "trial_end": TRIAL_END,
}
ACTIVE = TRIAL | {"status": "active", "trial_end": None}
PREVIEW = {"object": "invoice", "amount_due": 4321, "currency": "usd"}
SCHEDULE = {"id": "sub_sched_1", "object": "subscription_schedule", "subscription": "sub_1"}
ITEM = {"id": "si_1", "object": "subscription_item", "subscription": "sub_1"}
QUOTE = {
    "id": "qt_1",
    "object": "quote",
    "status": "open",
    "customer": "cus_1",
    "currency": "usd",
    "amount_total": 300,
    "computed": {"upfront": {"amount_total": 300}, "recurring": {"amount_total": 5000}},
}


def _preview_of(wire):
    """Return what the preview was asked, by the names in the form; None: it was not asked."""
    asked = [seen for seen in wire.seen if b"/create_preview" in seen.partition(b"\r\n")[0]]
    if not asked:
        return None
    (head,) = asked
    return dict(urllib.parse.parse_qsl(head.decode().partition("\r\n\r\n")[2]))


def _answering(wire, *found):
    for body in (*found, PREVIEW, ACTIVE):
        wire.answer(200, body)


@pytest.mark.parametrize(
    ("data", "counted"),
    [
        ({"trial_period_days": 1}, "53.00"),
        ({"effective_date": TRIAL_END}, "53.00"),
        ({"trial_period_days": None}, "50.00"),
    ],
)
def test_a_quote_with_a_trial_counts_its_first_period(wire, ledger_url, data, counted):
    """When the trial ends, the first period is charged without a further call; a read shows no less."""
    quote = QUOTE | {"subscription_data": data}
    wire.answer(200, quote)
    accepted = quote | {"status": "accepted", "invoice": "in_1", "subscription": "sub_1"}
    wire.answer(200, accepted)
    wire.answer(200, accepted)
    first = {"id": "in_1", "object": "invoice", "status": "paid", "amount_paid": 300}
    wire.answer(200, first | {"currency": "usd"})
    with keybrake.run("agent", cap=53) as run:
        stripe.Quote.accept("qt_1")
        assert str(run.spent) == counted
        stripe.Quote.retrieve("qt_1")
        assert str(run.spent) == counted
        stripe.Invoice.retrieve("in_1")
        # Without a trial the quote is the event of its invoice, which was for less.
        assert str(run.spent) == ("53.00" if counted == "53.00" else "3.00")


@pytest.mark.parametrize(
    ("found", "change"),
    [
        (
            [TRIAL],
            lambda: stripe.Subscription.modify(
                "sub_1",
                items=[{"id": "si_1", "quantity": 500}],
                proration_behavior="always_invoice",
            ),
        ),
        (
            [TRIAL],
            lambda: stripe.Subscription.modify(
                "sub_1", items=[{"id": "si_1", "quantity": 500}], billing_cycle_anchor="now"
            ),
        ),
        (
            [],
            lambda: stripe.Subscription.modify(
                "sub_1",
                items=[{"id": "si_1", "quantity": 500}],
                proration_behavior="always_invoice",
                trial_end=TRIAL_END,
            ),
        ),
        (
            [TRIAL],
            lambda: stripe.SubscriptionItem.create(
                subscription="sub_1", price="price_1", proration_behavior="always_invoice"
            ),
        ),
        (
            [ITEM, TRIAL],
            lambda: stripe.SubscriptionItem.modify(
                "si_1", quantity=500, proration_behavior="always_invoice"
            ),
        ),
        (
            [SCHEDULE, TRIAL],
            lambda: stripe.SubscriptionSchedule.modify(
                "sub_sched_1",
                phases=[{"items": [{"price": "price_1"}]}],
                proration_behavior="always_invoice",
            ),
        ),
    ],
)
def test_a_change_in_a_trial_counts_the_first_period(wire, ledger_url, rows, found, change):
    """Nothing is prorated in a trial, so the preview is asked for the invoice at its end."""
    _answering(wire, *found)
    with keybrake.run("agent", cap=1000):
        change()

    asked = _preview_of(wire)
    assert [name for name in asked if "proration" in name or "anchor" in name] == []
    assert rows()[-1]["reserved"] == 43_210_000


def test_a_change_outside_of_a_trial_is_previewed_as_it_is(wire, ledger_url, rows):
    """Of a subscription that is charged already, the invoice at once is what counts."""
    _answering(wire, ACTIVE)
    with keybrake.run("agent", cap=1000):
        stripe.Subscription.modify(
            "sub_1", items=[{"id": "si_1", "quantity": 5}], proration_behavior="always_invoice"
        )

    name = "subscription_details[proration_behavior]"
    assert _preview_of(wire)[name] == "always_invoice"


def test_a_raised_trial_may_not_outgrow_the_cap(fake, ledger_url):
    """The fake charges a trial in full at its end, and nothing before."""
    price, customer = fake.add_price(1000), stripe.Customer.create(name="Ada").id
    with keybrake.run("agent", cap=20) as run:
        made = stripe.Subscription.create(
            customer=customer, items=[{"price": price}], trial_period_days=7
        )
        item = made.to_dict()["items"]["data"][0]["id"]
        more = {"items": [{"id": item, "quantity": 500}], "proration_behavior": "always_invoice"}
        with pytest.raises(keybrake.CapExceeded):
            stripe.Subscription.modify(made.id, **more)
        assert str(run.spent) == "10.00"

    with keybrake.unguarded("what the vendor does"):
        stripe.Subscription.modify(made.id, **more)
    assert fake.charged() == 0
    fake.advance()
    assert fake.charged() == 500_000


GOES_ON = [
    ([], {"cancel_at_period_end": False}),
    ([], {"cancel_at": ""}),
    ([], {"cancel_at": TRIAL_END + 60}),
    ([], {"pause_collection": ""}),
    ([], {"pause_collection": {"behavior": "void", "resumes_at": TRIAL_END}}),
    ([], {"trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}}}),
    ([SCHEDULE], {"end_behavior": "release"}),
]


def _change(found, params):
    kind, name = stripe.Subscription, "sub_1"
    if found:
        kind, name = stripe.SubscriptionSchedule, "sub_sched_1"
    return kind.modify(name, **params)


@pytest.mark.parametrize(("found", "params"), GOES_ON)
def test_a_trial_that_goes_on_counts_its_first_period(wire, ledger_url, rows, found, params):
    """A trial that was to end with nothing, and is to go on, is charged without a further call."""
    _answering(wire, *found, TRIAL)
    with keybrake.run("agent", cap=1000):
        _change(found, params)

    assert rows()[-1]["reserved"] == 43_210_000


@pytest.mark.parametrize(("found", "params"), GOES_ON)
def test_a_subscription_that_goes_on_costs_nothing(wire, ledger_url, rows, found, params):
    """Outside of a trial it is later periods that are charged then, which are outside of every run."""
    for body in (*found, ACTIVE, ACTIVE):
        wire.answer(200, body)
    with keybrake.run("agent", cap=0):
        _change(found, params)

    assert _preview_of(wire) is None
    assert rows()[-1]["state"] == "settled"


@pytest.mark.parametrize(
    ("found", "params"),
    [
        ([TRIAL], {"cancel_at": TRIAL_END}),
        ([], {"cancel_at": "min_period_end"}),
        ([], {"pause_collection": {"behavior": "void"}}),
        ([], {"trial_settings": {"end_behavior": {"missing_payment_method": "cancel"}}}),
    ],
)
def test_a_trial_that_ends_with_nothing_costs_nothing(wire, ledger_url, rows, found, params):
    """To end a subscription with its trial, or to pause it, is free."""
    for body in (*found, TRIAL):
        wire.answer(200, body)
    with keybrake.run("agent", cap=0):
        stripe.Subscription.modify("sub_1", **params)

    assert (_preview_of(wire), rows()[-1]["state"]) == (None, "settled")


def test_a_schedule_that_has_not_begun_has_no_trial(wire, ledger_url):
    """Its end costs nothing, and a change of its phases is previewed as it is."""
    wire.answer(200, SCHEDULE | {"subscription": None})
    wire.answer(200, SCHEDULE)
    with keybrake.run("agent", cap=0):
        stripe.SubscriptionSchedule.modify("sub_sched_1", end_behavior="release")
    wire.answer(200, SCHEDULE | {"subscription": None})
    wire.answer(200, PREVIEW)
    with keybrake.run("agent", cap=0), pytest.raises(keybrake.CapExceeded):
        stripe.SubscriptionSchedule.modify(
            "sub_sched_1",
            phases=[{"items": [{"price": "price_1"}]}],
            proration_behavior="always_invoice",
        )


def test_a_subscription_that_cannot_be_looked_up(wire, ledger_url):
    """Whether it is on trial is not known then, so the change is refused."""
    wire.answer(200, {"id": "sub_1", "object": "subscription"})
    with keybrake.run("agent", cap=1000), pytest.raises(keybrake.UnknownCost):
        stripe.Subscription.modify("sub_1", cancel_at_period_end=False)
