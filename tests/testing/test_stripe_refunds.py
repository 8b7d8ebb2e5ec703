"""Refunds, charges and the other ways money goes, driven by the real SDK."""

import io

import pytest
import stripe


def paid(amount: int = 1000, method: str = "pm_card_visa") -> stripe.PaymentIntent:
    """Return an intent that took *amount*."""
    return stripe.PaymentIntent.create(
        amount=amount, currency="usd", confirm=True, payment_method=method
    )


def test_a_refund_without_amount_gives_back_what_is_left(fake):
    """First a part, then the rest; the charge knows both."""
    intent = paid()

    part = stripe.Refund.create(payment_intent=intent.id, amount=300)
    rest = stripe.Refund.create(charge=intent.latest_charge)

    charge = stripe.Charge.retrieve(intent.latest_charge)
    assert (part.amount, rest.amount, rest.status) == (300, 700, "succeeded")
    assert (rest.charge, rest.payment_intent) == (charge.id, intent.id)
    assert (charge.amount_refunded, charge.refunded) == (1000, True)
    assert fake.journal.total("refund") == 1000
    assert fake.journal.total("charge") == 1000


def test_nobody_gets_back_more_than_they_paid(fake):
    """Over-refunds are refused, and say whether anything is left."""
    intent = paid()
    with pytest.raises(stripe.InvalidRequestError) as too_much:
        stripe.Refund.create(payment_intent=intent.id, amount=1001)
    stripe.Refund.create(payment_intent=intent.id)
    with pytest.raises(stripe.InvalidRequestError) as again:
        stripe.Refund.create(payment_intent=intent.id, amount=1)

    assert too_much.value.param == "amount"
    assert again.value.code == "charge_already_refunded"
    assert fake.journal.total("refund") == 1000


@pytest.mark.usefixtures("fake")
def test_only_what_was_taken_can_be_refunded():
    """An intent that only holds money, or has none, has nothing to give back."""
    held = stripe.PaymentIntent.create(
        amount=100,
        currency="usd",
        capture_method="manual",
        confirm=True,
        payment_method="pm_card_visa",
    )
    bare = stripe.PaymentIntent.create(amount=100, currency="usd")

    for intent in (held, bare):
        with pytest.raises(stripe.InvalidRequestError):
            stripe.Refund.create(payment_intent=intent.id)
    with pytest.raises(stripe.InvalidRequestError) as missing:
        stripe.Refund.create(amount=1)
    assert missing.value.code == "parameter_missing"


def test_a_pending_refund_can_be_canceled(fake):
    """The charge gets back what the refund had taken from it."""
    refund = stripe.Refund.create(payment_intent=paid(method="pm_card_pendingRefund").id)
    canceled = stripe.Refund.cancel(refund.id)

    assert (refund.status, canceled.status) == ("pending", "canceled")
    assert stripe.Charge.retrieve(refund.charge).amount_refunded == 0
    assert (fake.journal.total("refund"), fake.journal.standing("refund")) == (1000, 0)
    with pytest.raises(stripe.InvalidRequestError):
        stripe.Refund.cancel(refund.id)


def test_a_refund_that_fails_moves_nothing(fake):
    """A failed refund leaves the charge as it was."""
    refund = stripe.Refund.create(payment_intent=paid(method="pm_card_refundFail").id)

    assert refund.status == "failed"
    assert stripe.Charge.retrieve(refund.charge).amount_refunded == 0
    assert fake.journal.moved("refund") == []


@pytest.mark.usefixtures("fake")
def test_refunds_are_listed_and_updated():
    """A list can be narrowed to one charge; metadata can be changed."""
    one, other = paid(), paid()
    refund = stripe.Refund.create(payment_intent=one.id, amount=1)
    stripe.Refund.create(payment_intent=other.id, amount=2)
    stripe.Refund.modify(refund.id, metadata={"why": "late"})

    listed = stripe.Refund.list(charge=one.latest_charge)

    assert [item.id for item in listed.data] == [refund.id]
    assert stripe.Refund.retrieve(refund.id).metadata["why"] == "late"


def test_a_charge_can_be_held_and_captured(fake):
    """An uncaptured charge holds; capturing a part gives the rest back, as one event."""
    charge = stripe.Charge.create(amount=900, currency="usd", source="tok_visa", capture=False)
    captured = stripe.Charge.capture(charge.id, amount=600)
    noted = stripe.Charge.modify(charge.id, description="two thirds")

    assert (charge.captured, captured.captured) == (False, True)
    assert (captured.amount_captured, captured.amount_refunded) == (600, 300)
    assert (noted.description, noted.source.object) == ("two thirds", "card")
    assert [entry.moved for entry in fake.journal.entries] == [True, False, False]
    with pytest.raises(stripe.InvalidRequestError) as caught:
        stripe.Charge.capture(charge.id)
    assert caught.value.code == "charge_already_captured"


def test_a_declined_charge_moves_nothing(fake):
    """The charge is there, failed, and the error names it."""
    with pytest.raises(stripe.CardError) as caught:
        stripe.Charge.create(amount=100, currency="usd", source="tok_chargeDeclined")

    failed = stripe.Charge.retrieve(caught.value.error.charge)
    assert (failed.status, failed.paid, failed.failure_code) == ("failed", False, "card_declined")
    assert fake.journal.moved() == []
    assert [charge.id for charge in stripe.Charge.list().data] == [failed.id]


@pytest.mark.usefixtures("fake")
def test_only_what_is_held_can_be_captured():
    """Not more than the charge, and not the charge of an intent."""
    held = stripe.Charge.create(amount=900, currency="usd", source="tok_visa", capture=False)
    intent = stripe.PaymentIntent.create(
        amount=100,
        currency="usd",
        capture_method="manual",
        confirm=True,
        payment_method="pm_card_visa",
    )
    for call in (
        lambda: stripe.Charge.capture(held.id, amount=901),
        lambda: stripe.Charge.capture(intent.latest_charge),
    ):
        with pytest.raises(stripe.InvalidRequestError):
            call()


@pytest.mark.usefixtures("fake")
def test_a_charge_that_is_only_held_can_be_refunded_whole():
    """That was the way to let a held charge go before there were intents."""
    held = stripe.Charge.create(amount=900, currency="usd", source="tok_visa", capture=False)
    stripe.Refund.create(charge=held.id)

    assert stripe.Charge.retrieve(held.id).refunded is True
    with pytest.raises(stripe.InvalidRequestError) as caught:
        stripe.Charge.capture(held.id)
    assert caught.value.code == "charge_already_refunded"


@pytest.mark.usefixtures("fake")
def test_a_charge_needs_a_source():
    """Without a source or a customer there is nobody to charge."""
    with pytest.raises(stripe.InvalidRequestError):
        stripe.Charge.create(amount=100, currency="usd")


def test_transfers_take_their_amount_from_a_charge_if_told_to(fake):
    """A transfer without amount sends what is left of its source."""
    charge = stripe.Charge.create(amount=900, currency="usd", source="tok_visa")
    stripe.Refund.create(charge=charge.id, amount=100)
    ask = {"currency": "usd", "destination": "acct_fake"}

    sent = stripe.Transfer.create(amount=50, **ask)
    whole = stripe.Transfer.create(source_transaction=charge.id, **ask)

    assert (sent.amount, whole.amount) == (50, 800)
    assert stripe.Transfer.retrieve(sent.id).destination == "acct_fake"
    assert [item.id for item in stripe.Transfer.list().data] == [whole.id, sent.id]
    assert fake.journal.total("transfer") == 850
    with pytest.raises(stripe.InvalidRequestError):
        stripe.Transfer.create(**ask)


def test_payouts_can_be_canceled_once(fake):
    """A payout is pending until it is canceled, and then stays so."""
    payout = stripe.Payout.create(amount=5000, currency="usd")
    canceled = stripe.Payout.cancel(payout.id)

    assert (payout.status, canceled.status) == ("pending", "canceled")
    assert stripe.Payout.retrieve(payout.id).status == "canceled"
    assert len(stripe.Payout.list().data) == 1
    assert (fake.journal.total("payout"), fake.journal.standing("payout")) == (5000, 0)
    with pytest.raises(stripe.InvalidRequestError):
        stripe.Payout.cancel(payout.id)


@pytest.mark.usefixtures("fake")
def test_customers_come_and_go():
    """A deleted customer answers as deleted and leaves the list."""
    customer = stripe.Customer.create(name="Ada", address={"city": "London", "line1": "1 St"})
    changed = stripe.Customer.modify(customer.id, name="Ada L.", metadata={"0": "zero"})
    other = stripe.Customer.create(email="b@example.com")
    stripe.Customer.delete(customer.id)

    assert (changed.name, changed.address.city) == ("Ada L.", "London")
    assert changed.metadata["0"] == "zero"
    assert stripe.Customer.retrieve(customer.id).deleted is True
    assert [item.id for item in stripe.Customer.list(email="b@example.com").data] == [other.id]
    for wrong in ("plain", {str(n): "x" for n in range(51)}):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            stripe.Customer.create(metadata=wrong)
        assert caught.value.param == "metadata"


@pytest.mark.usefixtures("fake")
def test_the_balance_is_what_all_of_it_comes_to():
    """Charges less fees, refunds and payouts make the balance."""
    intent = paid(10_000)
    stripe.Refund.create(payment_intent=intent.id, amount=1000)
    stripe.Payout.create(amount=500, currency="usd")

    balance = stripe.Balance.retrieve()

    assert (balance.available[0].amount, balance.available[0].currency) == (8180, "usd")


def test_files_quotes_and_v2_answer_in_their_own_shapes(fake):
    """An upload makes a file, a quote streams a PDF, the v2 list is a v2 list."""
    upload = stripe.File.create(purpose="dispute_evidence", file=io.BytesIO(b"tea, 2 cups"))
    client = stripe.StripeClient(
        "sk_test_fake", base_addresses={"api": fake.url, "files": fake.url}
    )
    pdf = getattr(client, "v1", client).quotes.pdf("qt_fake")

    assert (upload.object, upload.size) == ("file", 11)
    assert pdf.io.read().startswith(b"%PDF")
    pdf.io.close()
    if hasattr(client, "v2"):
        assert client.v2.core.events.list({"object_id": "x"}).data == []


def test_everything_else_is_an_unknown_url(fake):
    """What the fake does not do is a 404, never a silent success."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        stripe.Product.create(name="tea")

    assert caught.value.http_status == 404
    assert "Unrecognized request URL" in str(caught.value)
    assert fake.journal.entries[-1].http_status == 404
