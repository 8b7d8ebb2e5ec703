"""Is each economic event counted once, at the largest value it can still take?"""

import threading
import time

import pytest
import stripe

import keybrake
from keybrake.testing import Fault

MANUAL = {
    "amount": 1000,
    "currency": "usd",
    "capture_method": "manual",
    "payment_method": "pm_card_visa",
    "confirm": True,
}
ASK = {"amount": 1000, "currency": "usd"}


def _held():
    return stripe.PaymentIntent.create(**MANUAL)


def test_a_replay_adds_nothing(fake, ledger_url, rows):
    """The same call again under the caller's own key costs nothing more."""
    with keybrake.run("agent", cap=100) as run:
        first = stripe.PaymentIntent.create(**ASK, idempotency_key="order-7")
        again = stripe.PaymentIntent.create(**ASK, idempotency_key="order-7")

    assert first.id == again.id
    assert [row["cost"] for row in rows()] == [10_000_000, 0]
    assert (str(run.spent), run.calls) == ("10.00", 2)


def test_a_fresh_key_is_a_new_charge(fake, ledger_url):
    """An agent's own retry is another charge."""
    with keybrake.run("agent", cap=100) as run:
        stripe.PaymentIntent.create(**ASK)
        stripe.PaymentIntent.create(**ASK)

    assert str(run.spent) == "20.00"


def test_confirm_reserves_nothing_more(fake, ledger_url, rows):
    """Confirming what was created in the same run fits under a cap that is used up."""
    with keybrake.run("agent", cap=10) as run:
        made = stripe.PaymentIntent.create(**ASK, payment_method="pm_card_visa")
        stripe.PaymentIntent.confirm(made.id)

    assert [row["reserved"] for row in rows()] == [10_000_000, 0]
    assert str(run.spent) == "10.00"


def test_confirm_of_an_intent_made_elsewhere_counts(fake, ledger_url, rows):
    """An intent the ledger has not seen is looked up and counts when it is confirmed."""
    made = stripe.PaymentIntent.create(**ASK, payment_method="pm_card_visa")
    with keybrake.run("agent", cap="9.99"), pytest.raises(keybrake.CapExceeded):
        stripe.PaymentIntent.confirm(made.id)
    with keybrake.run("agent", cap=10) as run:
        stripe.PaymentIntent.confirm(made.id)

    assert str(run.spent) == "10.00"
    assert [row["endpoint"] for row in rows()] == [
        "stripe.lookup",
        "stripe.payment_intents.confirm",
    ] * 2


def test_cancel_gives_the_cap_back(fake, ledger_url):
    """A canceled intent counts nothing, and leaves room for another."""
    with keybrake.run("agent", cap=10) as run:
        stripe.PaymentIntent.cancel(_held().id)
        assert str(run.spent) == "0.00"
        _held()
        assert str(run.spent) == "10.00"


def test_a_smaller_capture_gives_the_rest_back(fake, ledger_url):
    """What a final capture leaves is given back."""
    with keybrake.run("agent", cap=10) as run:
        stripe.PaymentIntent.capture(_held().id, amount_to_capture=600)

    assert str(run.spent) == "6.00"


def test_a_capture_that_is_not_final_keeps_the_rest(fake, ledger_url):
    """What may still be captured still counts."""
    with keybrake.run("agent", cap=10) as run:
        made = _held()
        stripe.PaymentIntent.capture(made.id, amount_to_capture=600, final_capture=False)
        assert str(run.spent) == "10.00"
        stripe.PaymentIntent.capture(made.id, amount_to_capture=100)
        assert str(run.spent) == "7.00"


def test_capture_of_a_charge(fake, ledger_url):
    """A charge that is held counts, and its capture gives back what it does not take."""
    with keybrake.run("agent", cap=10) as run:
        held = stripe.Charge.create(**ASK, source="tok_visa", capture=False)
        assert str(run.spent) == "10.00"
        stripe.Charge.capture(held.id, amount=400)

    assert str(run.spent) == "4.00"


def test_increment_counts_the_new_total(fake, ledger_url, rows):
    """The amount of an increment is the new total; only what is added is reserved."""
    with keybrake.run("agent", cap=15) as run:
        made = _held()
        stripe.PaymentIntent.increment_authorization(made.id, amount=1500)
        assert (rows()[-1]["reserved"], str(run.spent)) == (5_000_000, "15.00")
        with pytest.raises(keybrake.CapExceeded):
            stripe.PaymentIntent.increment_authorization(made.id, amount=1501)


def test_a_declined_increment_keeps_the_old_total(wire, ledger_url):
    """A 402 for more leaves what was held before."""
    held = {"id": "pi_1", "object": "payment_intent", "status": "requires_capture"}
    wire.answer(200, held | {"amount_capturable": 1000, "amount_received": 0, "currency": "usd"})
    wire.answer(402, {"error": {"type": "card_error", "message": "no"}})
    with keybrake.run("agent", cap=100) as run:
        stripe.PaymentIntent.create(**ASK)
        with pytest.raises(stripe.CardError):
            stripe.PaymentIntent.increment_authorization("pi_1", amount=1500)

    assert (str(run.spent), str(run.reserved)) == ("10.00", "0.00")


def test_an_update_may_not_outgrow_the_cap(fake, ledger_url):
    """Raising the amount of an open intent counts the difference."""
    with keybrake.run("agent", cap=12) as run:
        made = stripe.PaymentIntent.create(**ASK)
        stripe.PaymentIntent.modify(made.id, description="nothing to do with money")
        stripe.PaymentIntent.modify(made.id, amount=1200)
        assert str(run.spent) == "12.00"
        with pytest.raises(keybrake.CapExceeded):
            stripe.PaymentIntent.modify(made.id, amount=1201)


@pytest.mark.parametrize("amount", [{}, {"amount": 100_000}])
def test_an_update_may_not_outgrow_the_cap_by_its_currency(fake, ledger_url, amount):
    """100,000 dong are four dollars; making them dollars is refused, or counted as a thousand."""
    keybrake.configure(usd_per={"VND": "0.000038"}, margin_bps=0)
    with keybrake.run("agent", cap=5) as run:
        made = stripe.PaymentIntent.create(
            amount=100_000, currency="vnd", payment_method="pm_card_visa"
        )
        assert str(run.spent) == "3.80"
        try:
            stripe.PaymentIntent.modify(made.id, currency="usd", **amount)
            stripe.PaymentIntent.confirm(made.id)
        except keybrake.CallRefused:
            pass

    moved = stripe.PaymentIntent.retrieve(made.id)
    assert (moved.currency, moved.amount_received) in {("vnd", 0), ("vnd", 100_000)}


def test_two_runs_on_one_intent(fake, ledger_url):
    """What is given back goes to the run that was charged, whoever cancels."""
    with keybrake.run("maker", cap=10) as maker:
        made = _held()
    with keybrake.run("canceller", cap=0) as canceller:
        stripe.PaymentIntent.cancel(made.id)

    assert (str(maker.spent), str(canceller.spent)) == ("0.00", "0.00")


def test_two_runs_share_a_give_back_in_order(fake, ledger_url):
    """Each run pays what it added; a smaller capture gives back to the newest first."""
    with keybrake.run("first", cap=10) as first:
        made = _held()
    with keybrake.run("second", cap=5) as second:
        stripe.PaymentIntent.increment_authorization(made.id, amount=1500)
    with keybrake.run("third", cap=0) as third:
        stripe.PaymentIntent.capture(made.id, amount_to_capture=1200)

    assert [str(run.spent) for run in (first, second, third)] == ["10.00", "2.00", "0.00"]


def test_a_read_that_shows_less_gives_back(fake, ledger_url):
    """Seeing that an intent was canceled elsewhere frees what it held."""
    with keybrake.run("agent", cap=10) as run:
        made = _held()
        with keybrake.unguarded("somebody else"):
            stripe.PaymentIntent.cancel(made.id)
        assert str(run.spent) == "10.00"
        stripe.PaymentIntent.retrieve(made.id)

    assert str(run.spent) == "0.00"


# An answer may be older than what is counted: it gives nothing back then.


@pytest.fixture
def slow_client(fake):
    """Return a client whose requests wait for a gate before they are sent."""
    gate = threading.Event()

    class Slow(stripe.RequestsClient):
        def request(self, *args, **kwargs):
            assert gate.wait(10)
            return super().request(*args, **kwargs)

    http_client = Slow()
    client = stripe.StripeClient(
        "sk_test_fake", http_client=http_client, base_addresses={"api": fake.url}
    )
    yield client, gate
    gate.set()
    http_client.close()


def test_a_replay_of_an_older_answer_gives_nothing_back(fake, ledger_url):
    """The stored answer of the creation says less than what the intent was raised to since."""
    with keybrake.run("agent", cap=100) as run:
        made = stripe.PaymentIntent.create(**ASK, idempotency_key="order-7")
        stripe.PaymentIntent.modify(made.id, amount=9000)
        stripe.PaymentIntent.create(**ASK, idempotency_key="order-7")

        assert str(run.spent) == "90.00"
        with pytest.raises(keybrake.CapExceeded):
            stripe.PaymentIntent.create(amount=1001, currency="usd")


def test_a_retry_inside_a_call_is_that_call(fake, ledger_url, rows, monkeypatch):
    """When the SDK's own retry gets the stored answer, the money it speaks of is counted."""
    monkeypatch.setattr(stripe, "max_network_retries", 2)
    with keybrake.run("agent", cap=100) as run:
        made = stripe.PaymentIntent.create(**ASK)
        fake.inject(Fault("reset_after"))
        stripe.PaymentIntent.modify(made.id, amount=9000)

    assert str(run.spent) == "90.00"
    assert [row["cost"] for row in rows()] == [10_000_000, 80_000_000]


def test_a_look_that_began_before_a_write_gives_nothing_back(fake, ledger_url):
    """A read that was answered late shows what was, not what is."""
    with keybrake.run("agent", cap=100) as run:
        made = stripe.PaymentIntent.create(**ASK)
        fake.inject(Fault("slow", method="GET", delay=0.5))
        look = threading.Thread(target=lambda: stripe.PaymentIntent.retrieve(made.id))
        look.start()
        while run.calls < 2:
            time.sleep(0.005)
        stripe.PaymentIntent.modify(made.id, amount=9000)
        look.join()

        assert str(run.spent) == "90.00"


def test_less_gives_nothing_back_while_more_is_under_way(fake, ledger_url, slow_client):
    """A lowered amount frees no cap as long as a raise of the same intent may still arrive."""
    client, gate = slow_client
    with keybrake.run("agent", cap=100) as run:
        made = stripe.PaymentIntent.create(amount=3000, currency="usd")
        update = getattr(client, "v1", client).payment_intents.update
        slow = threading.Thread(target=lambda: update(made.id, {"amount": 10_000}))
        slow.start()
        while str(run.reserved) != "70.00":
            time.sleep(0.005)
        stripe.PaymentIntent.modify(made.id, amount=1000)
        with pytest.raises(keybrake.CapExceeded):
            stripe.PaymentIntent.create(amount=2000, currency="usd")
        gate.set()
        slow.join()

        assert (str(run.spent), str(run.reserved)) == ("100.00", "0.00")


def test_an_amount_is_what_is_sent(fake, ledger_url):
    """An int that prints as another number would be counted as one and sent as the other."""

    class Dollars(int):
        def __str__(self) -> str:
            return f"{int(self)}00"

    with keybrake.run("agent", cap=20), pytest.raises(keybrake.UnknownCost):
        stripe.PaymentIntent.create(amount=Dollars(1900), currency="usd")

    assert not fake.journal.entries


def test_an_intent_is_not_confirmed_while_a_raise_of_it_is_unknown(fake, ledger_url):
    """It may arrive yet: nobody can say what confirming the intent would move."""
    with keybrake.run("agent", cap=60) as run:
        intent = stripe.PaymentIntent.create(amount=1000, currency="usd")
        fake.inject(Fault("error_500_after"))
        with pytest.raises(stripe.APIError):
            stripe.PaymentIntent.modify(intent.id, amount=5000)
        with pytest.raises(keybrake.UnknownCost) as no:
            stripe.PaymentIntent.confirm(intent.id, payment_method="pm_card_visa")

    assert no.value.reason == "price_may_change"
    assert run.spent + run.reserved <= 60
    assert not any(entry.path.endswith("/confirm") for entry in fake.journal.entries)


def test_a_second_capture_comes_on_top(wire, ledger_url, rows):
    """What is captured of an intent seen elsewhere counts with what was captured of it before."""
    intent = {"id": "pi_1", "object": "payment_intent", "amount": 1000, "currency": "usd"}
    partly = intent | {"status": "requires_capture", "amount_received": 600}
    wire.answer(200, partly | {"amount_capturable": 400})
    wire.answer(200, intent | {"status": "succeeded", "amount_received": 1100})
    with keybrake.run("agent", cap=11) as run:
        stripe.PaymentIntent.capture("pi_1", amount_to_capture=500)

    assert (rows()[-1]["reserved"], str(run.spent)) == (11_000_000, "11.00")


def test_a_capture_that_is_not_the_last_one_counts_the_rest_as_well(wire, ledger_url, rows):
    """What stays held may be captured by a later call, which then adds nothing."""
    intent = {"id": "pi_1", "object": "payment_intent", "amount": 1000, "currency": "usd"}
    held = intent | {"status": "requires_capture"}
    wire.answer(200, held | {"amount_received": 0, "amount_capturable": 1000})
    wire.answer(200, held | {"amount_received": 300, "amount_capturable": 700})
    with keybrake.run("agent", cap=10) as run:
        stripe.PaymentIntent.capture("pi_1", amount_to_capture=300, final_capture=False)

    assert (rows()[-1]["reserved"], rows()[-1]["reason"]) == (10_000_000, None)
    assert str(run.spent) == "10.00"


def test_a_payout_is_not_raised_past_the_cap_before_it_is_confirmed(wire, ledger_url):
    """A payout of ten dollars that is to become five hundred is refused where it is changed."""
    client = stripe.StripeClient(
        "sk_test_fake", base_addresses={"api": wire.url}, http_client=stripe.default_http_client
    )
    path, ten = "/v2/money_management/payout_intents", {"value": 1000, "currency": "usd"}
    made = {"id": "pyi_1", "object": "v2.money_management.payout_intent", "status": "pending"}
    wire.answer(200, {**made, "amount": ten})
    with keybrake.run("agent", cap=80) as run:
        client.raw_request("post", path, amount=ten)
        with pytest.raises(keybrake.CapExceeded):
            client.raw_request("post", f"{path}/pyi_1", amount={**ten, "value": 50_000})

    assert str(run.spent) == "10.00"


def test_a_decline_that_shows_what_was_captured(wire, ledger_url, rows):
    """A capture that is declined after an earlier one took money counts what was taken."""
    intent = {"id": "pi_1", "object": "payment_intent", "amount": 1000, "currency": "usd"}
    partly = intent | {"amount_capturable": 400, "status": "requires_capture"}
    wire.answer(200, partly | {"amount_received": 0})
    taken = intent | {"status": "succeeded", "amount_received": 600}
    wire.answer(402, {"error": {"type": "card_error", "message": "no", "payment_intent": taken}})
    with keybrake.run("agent", cap=10) as run, pytest.raises(stripe.CardError):
        stripe.PaymentIntent.capture("pi_1", amount_to_capture=400)

    assert (rows()[-1]["state"], str(run.spent)) == ("settled", "6.00")


@pytest.mark.parametrize("received", [0, "5", None, -1])
def test_a_decline_that_shows_nothing_captured(wire, ledger_url, rows, received):
    """A decline whose object took nothing, or cannot be read, is voided."""
    intent = {"id": "pi_1", "object": "payment_intent", "amount": 1000, "currency": "usd"}
    shown = intent | {"status": "requires_payment_method", "amount_received": received}
    wire.answer(402, {"error": {"type": "card_error", "message": "no", "payment_intent": shown}})
    with keybrake.run("agent", cap=10) as run, pytest.raises(stripe.CardError):
        stripe.PaymentIntent.create(**ASK)

    assert (rows()[-1]["state"], str(run.spent)) == ("voided", "0.00")


def _declined(intent, **options):
    with pytest.raises(stripe.CardError):
        stripe.PaymentIntent.confirm(intent, payment_method="pm_card_chargeDeclined", **options)


def test_a_declined_confirmation_that_raised_the_intent_counts(fake, ledger_url, rows):
    """An intent that a declined confirmation left open at $500 counts $500 until it is canceled."""
    with keybrake.run("agent", cap=501) as run:
        made = stripe.PaymentIntent.create(amount=100, currency="usd").id
        _declined(made, amount_to_confirm=50_000)
        assert (rows()[-1]["state"], str(run.spent)) == ("settled", "500.00")
        with pytest.raises(keybrake.CapExceeded):
            stripe.PaymentIntent.create(amount=50_000, currency="usd")
        stripe.PaymentIntent.cancel(made)

    assert (str(run.spent), fake.charged()) == ("0.00", 0)


def test_a_raised_intent_is_confirmed_at_what_it_counts(fake, ledger_url, rows):
    """What a declined confirmation raised is charged within the cap, and takes that from others."""
    with keybrake.unguarded("made elsewhere"):
        others = stripe.PaymentIntent.create(amount=100, currency="usd").id
    with keybrake.run("agent", cap=501) as run:
        for intent in (stripe.PaymentIntent.create(amount=1, currency="usd").id, others):
            with pytest.raises((stripe.CardError, keybrake.CapExceeded)):
                stripe.PaymentIntent.confirm(
                    intent, amount_to_confirm=50_000, payment_method="pm_card_chargeDeclined"
                )
            stripe.PaymentIntent.confirm(intent, payment_method="pm_card_visa")

    assert (str(run.spent), fake.charged()) == ("501.00", 50_100)
    assert not [row for row in rows() if row["reason"] == "overrun"]


def test_a_declined_confirmation_at_the_same_amount_adds_nothing(fake, ledger_url, rows):
    """An intent that is declined as it was counts as before; one made elsewhere counts nothing."""
    with keybrake.unguarded("made elsewhere"):
        others = stripe.PaymentIntent.create(amount=100, currency="usd").id
    with keybrake.run("agent", cap=10) as run:
        made = stripe.PaymentIntent.create(amount=500, currency="usd").id
        for intent in (made, others):
            _declined(intent)
            assert (rows()[-1]["state"], str(run.spent)) == ("voided", "5.00")


def test_a_declined_create_is_priced_by_its_intent_later(fake, ledger_url):
    """A create that is declined counts nothing, and its intent counts in full once confirmed."""
    with keybrake.run("agent", cap=9) as run:
        with pytest.raises(stripe.CardError) as caught:
            stripe.PaymentIntent.create(
                amount=900, currency="usd", confirm=True, payment_method="pm_card_chargeDeclined"
            )
        intent = caught.value.json_body["error"]["payment_intent"]["id"]
        assert str(run.spent) == "0.00"
        stripe.PaymentIntent.create(amount=1, currency="usd")
        with pytest.raises(keybrake.CapExceeded):
            stripe.PaymentIntent.confirm(intent, payment_method="pm_card_visa")


def test_cancelling_what_nobody_counts_costs_nothing(wire, ledger_url):
    """What was captured of an intent before this run is not this run's when it cancels the rest."""
    intent = {"id": "pi_1", "object": "payment_intent", "amount": 1000, "currency": "usd"}
    wire.answer(200, intent | {"status": "canceled", "amount_received": 600})
    with keybrake.run("agent", cap=0) as run:
        stripe.PaymentIntent.cancel("pi_1")

    assert (str(run.spent), str(run.reserved)) == ("0.00", "0.00")


def test_an_intents_charge_is_captured_once(wire, ledger_url):
    """Capturing the charge of an intent adds nothing to the intent."""
    held = {"id": "pi_1", "object": "payment_intent", "status": "requires_capture"}
    wire.answer(200, held | {"amount_capturable": 1000, "amount_received": 0, "currency": "usd"})
    charge = {"id": "ch_1", "object": "charge", "payment_intent": {"id": "pi_1"}, **ASK}
    wire.answer(200, charge | {"status": "succeeded", "captured": False})
    wire.answer(200, charge | {"status": "succeeded", "captured": True, "amount_captured": 1000})
    with keybrake.run("agent", cap=10) as run:
        stripe.PaymentIntent.create(**MANUAL)
        stripe.Charge.capture("ch_1")

    assert str(run.spent) == "10.00"


def test_a_terminal_payment_is_its_intents(wire, ledger_url):
    """A reader shows no amount: what it is told to collect counts with the intent, once."""
    intent = {"id": "pi_1", "object": "payment_intent", "amount": 1000, "currency": "usd"}
    wire.answer(200, intent | {"status": "requires_payment_method"})
    wire.answer(200, {"id": "tmr_1", "object": "terminal.reader"})
    held = intent | {"status": "requires_capture", "amount_received": 0}
    wire.answer(200, held | {"amount_capturable": 1000})
    with keybrake.run("agent", cap=10) as run:
        stripe.terminal.Reader.process_payment_intent("tmr_1", payment_intent="pi_1")
        assert str(run.spent) == "10.00"
        stripe.PaymentIntent.capture("pi_1")
        assert str(run.spent) == "10.00"
        with pytest.raises(keybrake.UnknownCost):
            stripe.terminal.Reader.process_payment_intent("tmr_1", payment_intent=None)


def test_a_transfer_of_all_of_a_charge(fake, ledger_url, rows):
    """A transfer without an amount takes what its charge came to."""
    charge = stripe.Charge.create(**ASK, source="tok_visa")
    with keybrake.run("agent", cap=10) as run:
        stripe.Transfer.create(currency="usd", destination="acct_1", source_transaction=charge.id)
        with pytest.raises(keybrake.UnknownCost):
            stripe.Transfer.create(currency="usd", destination="acct_1")

    assert (rows()[1]["reserved"], str(run.spent)) == (10_000_000, "10.00")


def test_a_balance_that_is_applied_counts_in_full(wire, ledger_url, rows):
    """For an invoice's intent the whole amount is applied, whatever is sent."""
    intent = {"id": "pi_1", "object": "payment_intent", "amount": 1000, "currency": "usd"}
    for amount in (1, 5000):
        wire.answer(200, intent | {"status": "requires_payment_method"})
        wire.answer(200, intent | {"status": "succeeded", "amount_received": 1000, "id": "pi_2"})
        with keybrake.run("agent", cap=100):
            stripe.PaymentIntent.apply_customer_balance("pi_1", amount=amount)

    assert [row["reserved"] for row in rows()] == [0, 10_000_000, 0, 50_000_000]


def test_a_charge_that_was_let_go_counts_nothing(wire, ledger_url):
    """A held charge that was given back before it was captured has nothing left to take."""
    charge = {"id": "ch_1", "object": "charge", "status": "succeeded", "captured": False, **ASK}
    wire.answer(200, charge)
    wire.answer(200, charge | {"refunded": True})
    with keybrake.run("agent", cap=10) as run:
        stripe.Charge.create(**ASK, source="tok_visa", capture=False)
        stripe.Charge.retrieve("ch_1")

    assert str(run.spent) == "0.00"


def test_an_answer_in_report_mode_without_a_rate(wire, ledger_url, rows):
    """What would have been refused for want of a rate goes out, and is written down at nothing."""
    paid = {"id": "pi_1", "object": "payment_intent", "status": "succeeded", "currency": "aed"}
    wire.answer(200, paid | {"amount_received": 1000})
    with keybrake.run("agent", cap=10, mode="report") as run:
        stripe.PaymentIntent.create(amount=1000, currency="aed")

    assert rows()[0]["would_refuse"] == "no_rate"
    assert str(run.spent) == "0.00"
