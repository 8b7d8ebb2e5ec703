"""Is what goes back to a customer spend like any other?"""

import pytest
import stripe

import keybrake
from keybrake.testing import Fault

ASK = {"amount": 1000, "currency": "usd"}


def test_over_refund_is_voided(fake, ledger_url, rows):
    """A refund Stripe will not make costs nothing; one that it makes is gross spend."""
    charge = stripe.Charge.create(**ASK, source="tok_visa")
    with keybrake.run("agent", cap=100) as run:
        stripe.Refund.create(charge=charge.id, amount=600)
        with pytest.raises(stripe.InvalidRequestError):
            stripe.Refund.create(charge=charge.id, amount=600)

    assert [row["state"] for row in rows() if row["endpoint"] != "stripe.lookup"] == [
        "settled",
        "voided",
    ]
    assert str(run.spent) == "6.00"


def test_refunds_never_give_cap_back(fake, ledger_url):
    """Charging and refunding in turns is spend both ways."""
    with keybrake.run("agent", cap=20) as run:
        charge = stripe.Charge.create(**ASK, source="tok_visa")
        stripe.Refund.create(charge=charge.id, amount=1000)
        assert str(run.spent) == "20.00"
        with pytest.raises(keybrake.CapExceeded):
            stripe.Charge.create(**ASK, source="tok_visa")


def test_a_refund_of_the_rest_is_looked_up(fake, ledger_url, rows):
    """A refund without an amount reserves what is left of its charge."""
    charge = stripe.Charge.create(**ASK, source="tok_visa")
    stripe.Refund.create(charge=charge.id, amount=300)
    with keybrake.run("agent", cap=7) as run:
        stripe.Refund.create(charge=charge.id)

    assert rows()[-1]["reserved"] == 7_000_000
    assert str(run.spent) == "7.00"


def test_a_refund_of_an_object(fake, ledger_url):
    """The charge may be given as an object in the place of its id, as the SDK takes it."""
    charge = stripe.Charge.create(**ASK, source="tok_visa")
    with keybrake.run("agent", cap=100) as run:
        stripe.Refund.create(charge=charge)

    assert str(run.spent) == "10.00"


@pytest.mark.parametrize("kind", ["error_500_before", "reset_before", "rate_limit"])
def test_a_failing_look_up_refuses(fake, ledger_url, kind):
    """What nobody can say the amount of is not sent."""
    charge = stripe.Charge.create(**ASK, source="tok_visa")
    fake.inject(Fault(kind, method="GET"))
    with keybrake.run("agent", cap=100), pytest.raises(keybrake.UnknownCost):
        stripe.Refund.create(charge=charge.id)

    assert fake.journal.total("refund") == 0


PAID = {**ASK, "confirm": True, "payment_method": "pm_card_visa"}


def _refunds(mode):
    keybrake.configure(refunds=mode)


def test_net_refunds_take_back_their_own_charge(fake, ledger_url, rows):
    """A refund offsets what the same run spent on that charge, whole or in part, once."""
    _refunds("net")
    with keybrake.run("agent", cap=10) as run:
        intent = stripe.PaymentIntent.create(**PAID)
        stripe.Refund.create(payment_intent=intent.id, amount=400)
        assert str(run.spent) == "6.00"
        stripe.Refund.create(charge=intent.latest_charge)
        assert str(run.spent) == "0.00"
        stripe.PaymentIntent.create(**PAID)

    assert str(run.spent) == "10.00"


def test_a_net_refund_by_the_intents_charge(fake, ledger_url):
    """A charge that the ledger knows as its intent's is told by the answer."""
    _refunds("net")
    with keybrake.run("agent", cap=20) as run:
        intent = stripe.PaymentIntent.create(**PAID)
        stripe.Refund.create(charge=intent.latest_charge, **ASK)

    assert str(run.spent) == "0.00"


def test_net_refunds_of_what_another_run_charged_are_gross(fake, ledger_url):
    """Only the same run's charge is taken back; any other refund is money out."""
    _refunds("net")
    with keybrake.run("first", cap=10) as first:
        charge = stripe.Charge.create(**ASK, source="tok_visa")
    with keybrake.run("second", cap=10) as second:
        stripe.Refund.create(charge=charge.id, amount=1000)
        assert str(second.spent) == "10.00"

    assert str(first.spent) == "10.00"


def test_a_net_refund_that_is_only_under_way_gives_nothing_back(fake, ledger_url):
    """A pending refund may still fail; what it would take back stays spent."""
    _refunds("net")
    with keybrake.run("agent", cap=20) as run:
        intent = stripe.PaymentIntent.create(**PAID | {"payment_method": "pm_card_pendingRefund"})
        stripe.Refund.create(payment_intent=intent.id)

    assert str(run.spent) == "10.00"


def test_ignored_refunds_ask_nothing(fake, ledger_url, rows):
    """A refund that counts nothing needs no look-up, and no cap."""
    charge = stripe.Charge.create(**ASK, source="tok_visa")
    _refunds("ignore")
    with keybrake.run("agent", cap=0) as run:
        made = stripe.Refund.create(charge=charge.id)
        stripe.Refund.retrieve(made.id)

    assert [row["endpoint"] for row in rows()] == [
        "stripe.refunds.create",
        "stripe.refunds.retrieve",
    ]
    assert (str(run.spent), fake.journal.total("refund")) == ("0.00", 1000)


def test_ignored_refunds_do_not_hide_other_outflows(fake, ledger_url):
    """Transfers, payouts and reversals count whatever refunds do."""
    _refunds("ignore")
    with keybrake.run("agent", cap=20) as run:
        sent = stripe.Transfer.create(**ASK, destination="acct_1")
        stripe.Transfer.create_reversal(sent.id)
        with pytest.raises(keybrake.CapExceeded):
            stripe.Payout.create(**ASK)

    assert str(run.spent) == "20.00"


def test_nine_refunds_of_one_charge(fake, ledger_url):
    """Under a cap on what goes out, the first of nine refunds of 47 EUR is made, and no other."""
    keybrake.configure(usd_per={"EUR": "1.1172"}, margin_bps=0)
    charge = stripe.Charge.create(amount=4700 * 9, currency="eur", source="tok_visa")
    limits = {"meter:outflow": keybrake.Limit(cap=60)}
    with keybrake.run("agent", cap=None, limits=limits) as run:
        for _ in range(9):
            try:
                stripe.Refund.create(charge=charge.id, amount=4700)
            except keybrake.CapExceeded as refusal:
                assert refusal.cap == 60  # noqa: PT017
        stripe.Charge.create(amount=100_000, currency="usd", source="tok_visa")

    assert fake.journal.total("refund") == 4700
    assert str(run.spent) == "1052.5084"


@pytest.mark.parametrize(
    "send",
    [
        lambda: stripe.Refund.create(charge="ch_1", amount="four"),
        lambda: stripe.Refund.create(charge="ch_1", amount=-4),
        lambda: stripe.Refund.create(charge="ch_1", amount=4, currency="?"),
        lambda: stripe.Refund.create(amount=4, origin="customer_balance", customer="cus_1"),
        lambda: stripe.Refund.create(charge="ch_1", **{"amount[]": 4}),
        lambda: stripe.CreditNote.create(invoice="in_1", amount="four"),
        lambda: stripe.CreditNote.create(invoice="in_1", refunds=[{"refund": "re_1"}]),
        lambda: stripe.CreditNote.create(amount=4),
        lambda: stripe.CreditNote.create(invoice="in_1", refunds="re_1"),
    ],
)
def test_refunds_of_no_amount(wire, ledger_url, send):
    """An amount that cannot be meant, or of nobody knows what, is refused before anything is sent."""
    with keybrake.run("agent", cap=1000), pytest.raises(keybrake.UnknownCost):
        send()

    assert wire.seen == []


def test_a_refund_from_a_cash_balance(wire, ledger_url):
    """It has a currency and no charge."""
    wire.answer(200, {"id": "re_1", "object": "refund", "status": "pending", **ASK})
    with keybrake.run("agent", cap=10) as run:
        stripe.Refund.create(**ASK, origin="customer_balance", customer="cus_1")

    assert (str(run.spent), len(wire.seen)) == ("10.00", 1)


_INVOICE = {"id": "in_1", "object": "invoice", "total": 900, "amount_paid": 1000, "currency": "usd"}


@pytest.mark.parametrize(
    ("params", "dollars"),
    [
        ({"amount": 300}, 3),
        ({"refund_amount": 200, "credit_amount": 50, "out_of_band_amount": 50}, 3),
        ({"amount": 300, "refunds": [{"refund": "re_1", "amount_refunded": 400}]}, 4),
        ({"lines": [{"type": "custom_line_item", "quantity": 1, "unit_amount": 5}]}, 10),
        ({"amount": 300, "shipping_cost": {"shipping_rate": "shr_1"}}, 10),
        ({}, 10),
    ],
)
def test_a_credit_note(wire, ledger_url, rows, params, dollars):
    """The most that its amounts say is reserved; without amounts, the whole invoice."""
    wire.answer(200, _INVOICE)
    wire.answer(200, {"id": "cn_1", "object": "credit_note", "total": 300, "currency": "usd"})
    with keybrake.run("agent", cap=100) as run:
        stripe.CreditNote.create(invoice="in_1", **params)

    assert rows()[-1]["reserved"] == dollars * 1_000_000
    assert str(run.spent) == "3.00"


def test_an_object_that_does_not_say_what_is_left(wire, ledger_url):
    """A charge without its refunded amount cannot be refunded whole."""
    wire.answer(200, {"id": "ch_1", "object": "charge", **ASK})
    with keybrake.run("agent", cap=100), pytest.raises(keybrake.UnknownCost) as caught:
        stripe.Refund.create(charge="ch_1")

    assert caught.value.reason == "unknown_amount"
