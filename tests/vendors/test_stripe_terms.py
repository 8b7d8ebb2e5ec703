"""Is every parameter of a subscription priced, shown to Stripe's preview, harmless or refused?"""

import urllib.parse

import pytest
import stripe

import keybrake
from keybrake.vendors.stripe import terms

SUBSCRIPTION = {"id": "sub_1", "object": "subscription", "status": "active", "currency": "usd"}
PRICE = {"id": "price_1", "object": "price", "unit_amount": 2000, "currency": "usd"}
PREVIEW = {"object": "invoice", "amount_due": 4321, "currency": "usd"}
ITEMS = [{"price": "price_1"}]
YEARS_AGO = 1_500_000_000
PREBILLED = [{"bill_until": {"type": "duration", "duration": {"interval": "year"}}}]

# Parameters of the newest Stripe SDK that are refused by name.
REFUSED = {"pause_schedules", "current_trial"}


def _create(**params):
    return stripe.Subscription.create(**({"customer": "cus_1", "items": ITEMS} | params))


def _schedule(**params):
    given = {"customer": "cus_1", "phases": [{"items": ITEMS}]} | params
    return stripe.SubscriptionSchedule.create(**given)


def _asked(wire, nr=0):
    """Return what a request says, by the names in the form."""
    form = wire.seen[nr].decode().partition("\r\n\r\n")[2]
    return dict(urllib.parse.parse_qsl(form, keep_blank_values=True))


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("SubscriptionCreateParams", terms.OF_NEW),
        ("SubscriptionUpdateParams", terms.OF_CHANGE),
        ("SubscriptionScheduleCreateParams", terms.OF_SCHEDULE),
        ("SubscriptionScheduleCreateParamsPhase", terms.OF_PHASE),
        ("SubscriptionCreateParamsItem", terms.OF_LINE),
        ("SubscriptionUpdateParamsItem", terms.OF_LINE),
        ("SubscriptionCreateParamsAddInvoiceItem", terms.OF_LINE),
        ("SubscriptionScheduleCreateParamsPhaseItem", terms.OF_LINE),
    ],
)
def test_no_parameter_of_the_sdk_is_in_no_list(kind, known):
    """A new version of Stripe's SDK with a parameter that nobody has judged fails here."""
    options = set(stripe.RequestOptions.__annotations__)
    given = set(getattr(stripe.params, kind).__annotations__) - options

    assert given - known - REFUSED == set()


@pytest.mark.parametrize(
    ("call", "asked"),
    [
        (
            lambda: _create(backdate_start_date=YEARS_AGO),
            {"subscription_details[start_date]": str(YEARS_AGO)},
        ),
        (
            lambda: _schedule(start_date=YEARS_AGO),
            {"schedule_details[phases][0][start_date]": str(YEARS_AGO)},
        ),
        (
            lambda: _create(billing_schedules=PREBILLED, billing_mode={"type": "flexible"}),
            {
                "subscription_details[billing_schedules][0][bill_until][type]": "duration",
                "subscription_details[billing_mode][type]": "flexible",
            },
        ),
        (
            lambda: stripe.Subscription.modify("sub_1", billing_schedules=PREBILLED),
            {"subscription_details[billing_schedules][0][bill_until][type]": "duration"},
        ),
        (
            lambda: _schedule(default_settings={"automatic_tax": {"enabled": True}}),
            {
                "automatic_tax[enabled]": "true",
                "schedule_details[phases][0][start_date]": "now",
            },
        ),
        (
            lambda: _create(customer=None, customer_account="acct_1", default_tax_rates=["txr_1"]),
            {"customer_account": "acct_1", "subscription_details[default_tax_rates][0]": "txr_1"},
        ),
        (
            lambda: _create(
                automatic_tax={"enabled": True},
                invoice_settings={"issuer": {"type": "self"}},
                on_behalf_of="acct_2",
            ),
            {"issuer[type]": "self", "on_behalf_of": "acct_2"},
        ),
        (lambda: stripe.Subscription.modify("sub_1", coupon=""), {"discounts": ""}),
        (
            lambda: stripe.Subscription.modify("sub_1", coupon="half"),
            {"discounts[0][coupon]": "half"},
        ),
    ],
)
def test_the_preview_is_told_what_made_it_necessary(wire, ledger_url, rows, call, asked):
    """Whatever changes the next invoice is in the preview's question, and its answer is reserved."""
    wire.answer(200, PREVIEW)
    wire.answer(200, SUBSCRIPTION)
    with keybrake.run("agent", cap=1000):
        call()

    said = _asked(wire)
    assert {name: said.get(name) for name in asked} == asked
    assert rows()[-1]["reserved"] == 43_210_000


def test_a_preview_of_a_later_charge_shows_the_full_period(wire, ledger_url):
    """A near anchor or a discount for one invoice would make the preview show less than will come."""
    wire.answer(200, PREVIEW)
    wire.answer(200, SUBSCRIPTION)
    with keybrake.run("agent", cap=1000):
        _create(
            default_tax_rates=["txr_1"],
            discounts=[{"coupon": "once"}],
            billing_cycle_anchor=YEARS_AGO * 2,
            proration_behavior="none",
        )

    assert set(_asked(wire)) == {
        "customer",
        "subscription_details[items][0][price]",
        "subscription_details[default_tax_rates][0]",
    }


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: _create(tax_percent=90), "tax_percent=90"),
        (lambda: _create(surprise_fee=5), "surprise_fee=5"),
        (lambda: _create(items=[ITEMS[0] | {"current_trial": {"trial_offer": "to_1"}}]), "to_1"),
        (lambda: _create(items={"0": ITEMS[0] | {"surprise": 5}}), "items.0.surprise=5"),
        (lambda: _create(add_invoice_items=[ITEMS[0] | {"surprise": 5}]), "add_invoice_items.0"),
        (lambda: _schedule(pause_schedules=[{"key": "a"}]), "pause_schedules="),
        (lambda: _schedule(phases=[{"items": ITEMS, "tax_percent": 5}]), "phases.0.tax_percent=5"),
        (lambda: _schedule(phases=[{"items": [ITEMS[0] | {"x": 1}]}]), "phases.0.items.0.x=1"),
        (lambda: stripe.Subscription.modify("sub_1", tax_percent=90), "default_tax_rates"),
        (lambda: stripe.Subscription.modify("sub_1", plan="gold"), "plan='gold'"),
        (
            lambda: stripe.Subscription.modify(
                "sub_1", items=[{"id": "si_1", "current_trial": {"trial_offer": "to_1"}}]
            ),
            "trial_end",
        ),
        (
            lambda: stripe.SubscriptionItem.modify("si_1", current_trial={"trial_offer": "to_1"}),
            "current_trial=",
        ),
        (
            lambda: stripe.SubscriptionItem.create(
                subscription="sub_1", price="price_1", current_trial={"trial_offer": "to_1"}
            ),
            "current_trial=",
        ),
        (
            lambda: stripe.SubscriptionSchedule.modify("sub_sched_1", pause_schedules=[{}]),
            "pause_schedules=",
        ),
        (
            lambda: stripe.StripeClient(
                "sk_test_x", base_addresses={"api": stripe.api_base}
            ).raw_request("post", "/v1/subscriptions/sub_1/pause", invoicing_behavior="invoice"),
            "invoicing_behavior='invoice'",
        ),
    ],
)
def test_what_cannot_be_shown_to_the_preview_is_refused(wire, ledger_url, call, named):
    """A parameter that may raise the next invoice unseen is refused, with its value and a remedy."""
    with keybrake.run("agent", cap=1000), pytest.raises(keybrake.UnknownCost) as caught:
        call()

    assert named in str(caught.value)
    assert "; " in str(caught.value)
    assert wire.seen == []


def test_an_invoice_that_is_sent_may_say_anything(wire, ledger_url):
    """Nothing is collected by itself then, so an unknown parameter raises nothing."""
    wire.answer(200, SUBSCRIPTION)
    with keybrake.run("agent", cap=0) as run:
        _create(tax_percent=90, collection_method="send_invoice", days_until_due=3)

    assert str(run.spent) == "0.00"


@pytest.mark.parametrize(
    "when",
    [
        {"billing_cycle_anchor": YEARS_AGO * 2, "proration_behavior": "none"},
        {"billing_cycle_anchor_config": {"day_of_month": 1}},
    ],
)
@pytest.mark.parametrize("taxed", [{}, {"default_tax_rates": ["txr_1"]}])
def test_a_first_invoice_for_less_gives_nothing_back(wire, ledger_url, when, taxed):
    """The first full period is charged by itself at the anchor, so it stays counted."""
    first = {"id": "in_1", "object": "invoice", "status": "paid", "currency": "usd"}
    wire.answer(200, PREVIEW if taxed else PRICE)
    wire.answer(200, SUBSCRIPTION | {"latest_invoice": first | {"amount_paid": 0}})
    with keybrake.run("agent", cap=50) as run:
        _create(**when, **taxed)
        counted = "43.21" if taxed else "20.00"
        assert str(run.spent) == counted
        wire.answer(200, first | {"amount_paid": 0})
        stripe.Invoice.retrieve("in_1")
        assert str(run.spent) == counted


def test_a_first_invoice_for_more_counts_what_it_shows(wire, ledger_url):
    """What an answer shows is never counted at less."""
    first = {"id": "in_1", "object": "invoice", "status": "paid", "currency": "usd"}
    wire.answer(200, PRICE)
    wire.answer(200, SUBSCRIPTION | {"latest_invoice": first | {"amount_paid": 2500}})
    with keybrake.run("agent", cap=20) as run:
        _create(billing_cycle_anchor=YEARS_AGO * 2)

    assert str(run.spent) == "25.00"


_CENTS = {"currency": "usd", "product": "prod_1"}


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (
            lambda: stripe.InvoiceItem.create(amount="x", currency="usd"),
            "amount='x' is not an amount; change that",
        ),
        (
            lambda: _create(
                customer=None, items=[ITEMS[0], {"price_data": _CENTS | {"unit_amount": -5}}]
            ),
            "line 2: price_data.unit_amount=-5 is not an amount; change that, or name a customer",
        ),
        (
            lambda: _create(customer=None, items=[ITEMS[0] | {"tax_rates": ["txr_1"]}]),
            "tax_rates=['txr_1'] adds taxes; change that, or name a customer",
        ),
        (
            lambda: _create(customer=None, items=[ITEMS[0] | {"quantity": "many"}]),
            "'quantity': 'many'} is not a number; change that",
        ),
        (
            lambda: _create(customer=None, default_tax_rates=["txr_1"]),
            "default_tax_rates=['txr_1'] changes it; change that, or name a customer",
        ),
        (
            lambda: _create(customer=None, items=[{"price_data": _CENTS | {"currency": "?"}}]),
            "price_data.unit_amount=None is not an amount",
        ),
    ],
)
def test_a_refusal_names_field_value_and_remedy(wire, ledger_url, call, named):
    """What cannot be priced is told by its name, so that the caller can change it."""
    with keybrake.run("agent", cap=1000), pytest.raises(keybrake.UnknownCost) as caught:
        call()

    assert named in str(caught.value)
    assert wire.seen == []
