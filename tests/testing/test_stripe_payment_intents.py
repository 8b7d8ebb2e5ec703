"""Payment intents of the fake Stripe, driven by the real SDK."""

import asyncio
import inspect

import pytest
import stripe

from keybrake.testing import FakeStripe


def held(amount: int = 1000) -> stripe.PaymentIntent:
    """Return an intent that holds *amount*."""
    return stripe.PaymentIntent.create(
        amount=amount,
        currency="usd",
        capture_method="manual",
        confirm=True,
        payment_method="pm_card_visa",
    )


def test_an_unconfirmed_intent_waits_for_a_payment_method(fake):
    """An intent that is only created is open, and counts as committed."""
    intent = stripe.PaymentIntent.create(amount=2999, currency="USD", metadata={"order": "7"})

    assert intent.id.startswith("pi_")
    assert intent.object == "payment_intent"
    assert intent.livemode is False
    assert intent.currency == "usd"
    assert intent.status == "requires_payment_method"
    assert intent.client_secret.startswith(f"{intent.id}_secret_")
    assert intent.metadata["order"] == "7"
    assert [entry.amount for entry in fake.journal.moved("charge")] == [2999]


def test_confirming_at_once_charges_the_card(fake):
    """A confirmed intent has succeeded, has its money, and shows its charge."""
    intent = stripe.PaymentIntent.create(
        amount=2999,
        currency="usd",
        confirm=True,
        payment_method="pm_card_visa",
        expand=["latest_charge.balance_transaction"],
    )

    assert (intent.status, intent.amount_received) == ("succeeded", 2999)
    assert intent.latest_charge.payment_intent == intent.id
    assert intent.latest_charge.captured is True
    assert intent.latest_charge.balance_transaction.fee == 117
    assert fake.journal.total() == 2999


def test_confirming_later_is_the_same_event(fake):
    """Creating, updating and confirming one intent moves its amount once."""
    intent = stripe.PaymentIntent.create(amount=500, currency="usd")
    stripe.PaymentIntent.modify(intent.id, description="tea")
    confirmed = stripe.PaymentIntent.confirm(intent.id, payment_method="pm_card_visa")

    assert (confirmed.status, confirmed.description) == ("succeeded", "tea")
    assert [entry.moved for entry in fake.journal.entries] == [True, False, False]
    assert [entry.kind for entry in fake.journal.entries] == ["charge", None, "charge"]


def test_raising_an_open_amount_moves_the_difference(fake):
    """A larger amount on an open intent adds what it grew by; a smaller one adds nothing."""
    intent = stripe.PaymentIntent.create(amount=500, currency="usd")
    stripe.PaymentIntent.modify(intent.id, amount=800)
    stripe.PaymentIntent.modify(intent.id, amount=300)

    assert fake.journal.total("charge") == 800
    assert fake.journal.standing("charge") == 300


def test_a_partial_capture_releases_the_rest(fake):
    """What is not captured is let go, and can no longer be refunded."""
    intent = held()
    assert (intent.status, intent.amount_capturable) == ("requires_capture", 1000)

    captured = stripe.PaymentIntent.capture(intent.id, amount_to_capture=400)

    charge = stripe.Charge.retrieve(captured.latest_charge)
    assert (captured.status, captured.amount_received) == ("succeeded", 400)
    assert captured.amount_capturable == 0
    assert (charge.amount, charge.amount_captured, charge.amount_refunded) == (1000, 400, 600)
    assert (fake.journal.total(), fake.journal.standing()) == (1000, 400)


def test_a_capture_that_is_not_final_keeps_the_rest(fake):
    """With final_capture=False more can be captured later, up to what was held."""
    intent = held()

    first = stripe.PaymentIntent.capture(intent.id, amount_to_capture=400, final_capture=False)
    last = stripe.PaymentIntent.capture(intent.id)

    assert (first.status, first.amount_received, first.amount_capturable) == (
        "requires_capture",
        400,
        600,
    )
    assert (last.status, last.amount_received) == ("succeeded", 1000)
    assert fake.journal.standing() == 1000


@pytest.mark.usefixtures("fake")
def test_capturing_more_than_is_held_is_refused():
    """Nobody gets more than was held."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        stripe.PaymentIntent.capture(held().id, amount_to_capture=1001)

    assert caught.value.code == "amount_too_large"


def test_incrementing_names_the_new_total(fake):
    """An increment to 1500 moves the 500 it adds."""
    intent = stripe.PaymentIntent.increment_authorization(held().id, amount=1500)

    assert (intent.amount, intent.amount_capturable) == (1500, 1500)
    assert [entry.amount for entry in fake.journal.moved()] == [1000, 500]
    assert fake.journal.standing() == 1500


def test_a_canceled_intent_commits_nothing_any_more(fake):
    """Cancelling ends an intent for good."""
    intent = stripe.PaymentIntent.cancel(held().id, cancellation_reason="abandoned")

    assert (intent.status, intent.cancellation_reason) == ("canceled", "abandoned")
    assert stripe.Charge.retrieve(intent.latest_charge).refunded is True
    assert fake.journal.standing() == 0
    with pytest.raises(stripe.InvalidRequestError) as caught:
        stripe.PaymentIntent.confirm(intent.id, payment_method="pm_card_visa")
    assert caught.value.code == "payment_intent_unexpected_state"


@pytest.mark.parametrize(
    ("method", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
    ],
)
def test_a_declined_card_is_a_card_error(fake, method, code, decline_code):
    """A decline is a 402 that brings the intent along, and nothing has moved."""
    with pytest.raises(stripe.CardError) as caught:
        stripe.PaymentIntent.create(amount=100, currency="usd", confirm=True, payment_method=method)

    error = caught.value
    intent = stripe.PaymentIntent.retrieve(error.error.payment_intent.id)
    assert (error.http_status, error.code, error.error.decline_code) == (402, code, decline_code)
    assert intent.status == "requires_payment_method"
    assert intent.last_payment_error.code == code
    assert stripe.Charge.retrieve(intent.latest_charge).status == "failed"
    assert fake.journal.moved() == []


def test_a_declined_intent_can_be_paid_with_another_card(fake):
    """The money moves with the confirmation that works."""
    with pytest.raises(stripe.CardError) as caught:
        stripe.PaymentIntent.create(
            amount=100, currency="usd", confirm=True, payment_method="pm_card_chargeDeclined"
        )
    intent_id = caught.value.error.payment_intent.id

    intent = stripe.PaymentIntent.confirm(intent_id, payment_method="pm_card_mastercard")

    assert intent.status == "succeeded"
    assert [entry.object_id for entry in fake.journal.moved("charge")] == [intent_id]


def test_a_card_that_wants_its_owner_asks_for_action(fake):
    """With the owner there it waits for them; without, it is a decline."""
    ask = {
        "amount": 100,
        "currency": "usd",
        "confirm": True,
        "payment_method": "pm_card_authenticationRequired",
    }
    intent = stripe.PaymentIntent.create(**ask)

    assert intent.status == "requires_action"
    assert intent.next_action.type == "use_stripe_sdk"
    with pytest.raises(stripe.CardError) as caught:
        stripe.PaymentIntent.create(**ask, off_session=True)
    assert caught.value.code == "authentication_required"
    assert fake.journal.total() == 100


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"currency": "usd"}, "parameter_missing", "amount"),
        ({"amount": 100}, "parameter_missing", "currency"),
        ({"amount": "29.99", "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ({"amount": -1, "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ({"amount": 0, "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ({"amount": "", "currency": "usd"}, "parameter_invalid_empty", "amount"),
        ({"amount": 10**12, "currency": "usd"}, "amount_too_large", "amount"),
        ({"amount": "9" * 5000, "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ({"amount": 100, "currency": "xyz"}, None, "currency"),
        ({"amount": 100, "currency": "usd", "customer": "cus_no"}, "resource_missing", "customer"),
        ({"amount": 100, "currency": "usd", "payment_method": "x"}, "resource_missing", None),
        ({"amount": 100, "currency": "usd", "capture_method": "x"}, None, "capture_method"),
        ({"amount": 100, "currency": "usd", "confirm": "perhaps"}, None, "confirm"),
        (
            {"amount": 100, "currency": "usd", "confirm": True},
            "payment_intent_unexpected_state",
            None,
        ),
    ],
)
def test_wrong_parameters_are_refused(fake, params, code, param):
    """A parameter error is a 400 that names it, and leaves nothing behind."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        stripe.PaymentIntent.create(**params)

    assert (caught.value.http_status, caught.value.code) == (400, code)
    assert param in {None, caught.value.param}
    assert stripe.PaymentIntent.list().data == []
    assert fake.journal.moved() == []


@pytest.mark.usefixtures("fake")
def test_lists_are_paged_newest_first():
    """A cursor leads through every intent once, and has_more says when to stop."""
    made = [stripe.PaymentIntent.create(amount=n, currency="usd").id for n in range(1, 8)]

    page = stripe.PaymentIntent.list(limit=3)
    rest = stripe.PaymentIntent.list(limit=100, starting_after=page.data[-1].id)
    before = stripe.PaymentIntent.list(limit=2, ending_before=made[0])
    walked = [intent.id for intent in stripe.PaymentIntent.list(limit=2).auto_paging_iter()]

    assert (page.has_more, rest.has_more, before.has_more) == (True, False, True)
    assert [intent.id for intent in [*page.data, *rest.data]] == made[::-1]
    assert [intent.id for intent in before.data] == [made[2], made[1]]
    assert walked == made[::-1]


@pytest.mark.usefixtures("fake")
def test_lists_are_filtered_by_customer():
    """A list for one customer holds only theirs."""
    customer = stripe.Customer.create(email="ada@example.com")
    theirs = stripe.PaymentIntent.create(amount=1, currency="usd", customer=customer.id)
    stripe.PaymentIntent.create(amount=2, currency="usd")

    listed = stripe.PaymentIntent.list(
        customer=customer.id, created={"gte": 1}, expand=["data.customer"]
    )

    assert [intent.id for intent in listed.data] == [theirs.id]
    assert listed.data[0].customer.email == "ada@example.com"


@pytest.mark.usefixtures("fake")
def test_what_a_status_does_not_allow_is_refused():
    """A wrong turn says so and brings the intent along."""
    intent = stripe.PaymentIntent.create(amount=100, currency="usd")
    paid = stripe.PaymentIntent.create(
        amount=100, currency="usd", confirm=True, payment_method="pm_card_visa"
    )
    for call in (
        lambda: stripe.PaymentIntent.confirm(intent.id),
        lambda: stripe.PaymentIntent.capture(intent.id),
        lambda: stripe.PaymentIntent.increment_authorization(intent.id, amount=200),
        lambda: stripe.PaymentIntent.cancel(paid.id),
        lambda: stripe.PaymentIntent.confirm(paid.id),
        lambda: stripe.PaymentIntent.modify(paid.id, amount=200),
    ):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            call()
        assert caught.value.code == "payment_intent_unexpected_state"
        assert caught.value.error.payment_intent.object == "payment_intent"


@pytest.mark.usefixtures("fake")
def test_an_increment_only_goes_up():
    """The new total has to be more than the old."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        stripe.PaymentIntent.increment_authorization(held().id, amount=1000)

    assert caught.value.param == "amount"


@pytest.mark.usefixtures("fake")
def test_a_payment_method_can_come_with_an_update():
    """An intent that was given a card is ready to be confirmed, and remembers which card."""
    intent = stripe.PaymentIntent.create(
        amount=100, currency="usd", automatic_payment_methods={"enabled": True}
    )
    ready = stripe.PaymentIntent.modify(intent.id, payment_method="pm_card_chargeDeclined")
    own = stripe.PaymentIntent.modify(intent.id, payment_method="pm_1MadeElsewhere")

    assert ready.automatic_payment_methods.enabled is True
    assert ready.status == "requires_confirmation"
    assert own.payment_method == "pm_1MadeElsewhere"
    assert stripe.PaymentIntent.confirm(intent.id).status == "succeeded"


@pytest.mark.usefixtures("fake")
def test_a_confirmation_can_name_the_amount_and_where_to_return():
    """The amount to confirm becomes the amount; a return URL brings a redirect."""
    intent = stripe.PaymentIntent.create(
        amount=100, currency="usd", payment_method_data={"type": "card"}
    )
    confirmed = stripe.PaymentIntent.confirm(intent.id, amount_to_confirm=150)
    waiting = stripe.PaymentIntent.create(
        amount=100,
        currency="usd",
        confirm=True,
        payment_method="pm_card_authenticationRequired",
        return_url="https://shop.example/",
    )

    assert (confirmed.status, confirmed.amount_received) == ("succeeded", 150)
    assert waiting.next_action.redirect_to_url.return_url == "https://shop.example/"


def test_cancelling_after_a_part_keeps_the_part(fake):
    """What was captured stays captured; only the rest is let go."""
    intent = held()
    stripe.PaymentIntent.capture(intent.id, amount_to_capture=400, final_capture=False)
    ended = stripe.PaymentIntent.cancel(intent.id)

    charge = stripe.Charge.retrieve(intent.latest_charge)
    assert (ended.status, ended.amount_received) == ("succeeded", 400)
    assert (charge.amount_captured, charge.amount_refunded) == (400, 600)
    assert fake.journal.standing() == 400


@pytest.mark.usefixtures("fake")
def test_lists_refuse_what_they_cannot_page():
    """A limit over 100 and a cursor nobody has are 400s; an unknown expansion is passed over."""
    for wrong in ({"limit": 101}, {"limit": 0}, {"starting_after": "pi_nobody"}):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            stripe.PaymentIntent.list(**wrong)
        assert caught.value.http_status == 400
    made = stripe.PaymentIntent.create(amount=1, currency="usd", expand=["invoice", "customer.x"])
    when = made.created

    assert [item.id for item in stripe.PaymentIntent.list(created=when).data] == [made.id]
    assert stripe.PaymentIntent.list(created={"gt": when + 5}).data == []
    assert stripe.PaymentIntent.list(expand=["data"]).data[0].id == made.id


@pytest.mark.usefixtures("fake")
def test_an_unknown_intent_is_missing():
    """An id nobody has is a 404."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        stripe.PaymentIntent.retrieve("pi_nobody")

    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")


def services(client: stripe.StripeClient) -> stripe.StripeClient:
    """Return where *client* keeps its v1 services, which moved between versions."""
    return getattr(client, "v1", client)


def test_a_client_object_works_like_the_module(fake):
    """StripeClient reaches the same objects."""
    http_client = stripe.new_default_http_client()
    client = services(
        stripe.StripeClient(
            "sk_test_other", base_addresses={"api": fake.url}, http_client=http_client
        )
    )
    intent = client.payment_intents.create(params={"amount": 700, "currency": "eur"})
    raised = client.payment_intents.update(intent.id, params={"metadata": {"a": "b"}})
    cleared = client.payment_intents.update(intent.id, params={"metadata": ""})
    http_client.close()

    assert (raised.metadata["a"], "a" in cleared.metadata) == ("b", False)
    assert stripe.PaymentIntent.retrieve(intent.id).amount == 700


async def spend(fake: FakeStripe, times: int) -> list[str]:
    """Create *times* intents at once with the SDK's httpx client."""
    http_client = stripe.HTTPXClient()
    client = stripe.StripeClient(
        "sk_test_fake", base_addresses={"api": fake.url}, http_client=http_client
    )
    create = services(client).payment_intents.create_async
    params = {"amount": 10, "currency": "usd", "confirm": True, "payment_method": "pm_card_visa"}
    intents = await asyncio.gather(*(create(params=params) for _ in range(times)))
    closing = http_client.close_async()
    if inspect.isawaitable(closing):
        await closing
    return [intent.status for intent in intents]


# The SDK hands httpx its body in a way httpx would rather not see any more.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_async_calls_at_once_are_all_counted(fake):
    """Twenty concurrent calls of the async SDK are twenty charges."""
    statuses = asyncio.run(spend(fake, 20))

    assert statuses == ["succeeded"] * 20
    assert len(fake.journal.moved("charge")) == 20
    assert [entry.seq for entry in fake.journal.entries] == list(range(1, 21))
