"""Idempotency keys of the fake Stripe, driven by the real SDK."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import stripe

from keybrake.testing import Fault

ASK = {"amount": 2999, "currency": "usd"}


def create(**options: object) -> stripe.PaymentIntent:
    """Create the intent every test here creates."""
    return stripe.PaymentIntent.create(**ASK, **options)


def test_the_same_key_brings_the_same_answer(fake):
    """A repetition is replayed, says so, and moves nothing."""
    first = create(idempotency_key="k")
    again = create(idempotency_key="k")

    assert again.id == first.id
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert again.last_response.headers["Original-Request"] == first.last_response.request_id
    assert [entry.replayed for entry in fake.journal.entries] == [False, True]
    assert [entry.moved for entry in fake.journal.entries] == [True, False]


def test_every_answer_echoes_key_and_version_and_has_its_own_request_id(fake):
    """What the SDK sent about a request comes back with it."""
    answers = [
        create(idempotency_key="k", stripe_version="2024-06-20").last_response,
        create(idempotency_key="k", stripe_version="2024-06-20").last_response,
    ]

    assert {answer.idempotency_key for answer in answers} == {"k"}
    assert {answer.headers["Stripe-Version"] for answer in answers} == {"2024-06-20"}
    assert len({answer.request_id for answer in answers}) == 2
    assert [entry.request_id for entry in fake.journal.entries] == [
        answer.request_id for answer in answers
    ]


@pytest.mark.usefixtures("fake")
def test_a_replay_shows_the_answer_of_then():
    """What happened to the object since does not change the stored answer."""
    first = create(idempotency_key="k")
    stripe.PaymentIntent.cancel(first.id)

    assert create(idempotency_key="k").status == "requires_payment_method"
    assert stripe.PaymentIntent.retrieve(first.id).status == "canceled"


def test_a_key_with_other_parameters_is_an_error(fake):
    """A key stands for one request, with its path and parameters."""
    create(idempotency_key="k")

    for other in (
        lambda: create(idempotency_key="k", description="more"),
        lambda: stripe.Customer.create(idempotency_key="k"),
    ):
        with pytest.raises(stripe.IdempotencyError) as caught:
            other()
        assert caught.value.http_status == 400
    assert len(fake.journal.moved()) == 1


def test_keys_of_other_accounts_are_other_keys(fake):
    """Two API keys, or two accounts, can use one idempotency key each."""
    made = [
        create(idempotency_key="k"),
        create(idempotency_key="k", api_key="sk_test_other"),
        create(idempotency_key="k", api_key="rk_test_other"),
        create(idempotency_key="k", stripe_account="acct_other"),
    ]

    assert len({intent.id for intent in made}) == 4
    assert len(fake.journal.moved("charge")) == 4


def test_a_decline_is_replayed(fake):
    """A 402 was carried out, so it is answered again with the same intent."""
    seen = []
    for _ in range(2):
        with pytest.raises(stripe.CardError) as caught:
            create(confirm=True, payment_method="pm_card_chargeDeclined", idempotency_key="k")
        seen.append(caught.value.error.payment_intent.id)

    assert seen[0] == seen[1]
    assert [entry.replayed for entry in fake.journal.entries] == [False, True]


@pytest.mark.usefixtures("fake")
def test_a_refused_parameter_does_not_use_the_key_up():
    """What was not begun may be asked again, even with other parameters."""
    with pytest.raises(stripe.InvalidRequestError):
        stripe.PaymentIntent.create(amount=-1, currency="usd", idempotency_key="k")

    assert create(idempotency_key="k").amount == 2999


def test_a_500_after_the_charge_is_replayed(fake):
    """Once carried out, even a 500 is the answer for ever; the money moved once."""
    fake.inject(Fault("error_500_after"))
    for _ in range(2):
        with pytest.raises(stripe.APIError) as caught:
            create(idempotency_key="k")
        assert caught.value.http_status == 500

    assert [entry.replayed for entry in fake.journal.entries] == [False, True]
    assert fake.journal.total() == 2999


def test_a_500_before_the_charge_is_not_kept(fake):
    """If nothing happened, the same key works the next time."""
    fake.inject(Fault("error_500_before"))
    with pytest.raises(stripe.APIError):
        create(idempotency_key="k")

    assert create(idempotency_key="k").last_response.code == 200
    assert fake.journal.total() == 2999


def test_a_key_in_flight_is_a_conflict(fake):
    """While the first request is on its way, the second is told to wait."""
    fake.inject(Fault("slow", delay=0.5))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(create, idempotency_key="k")
        while not fake.journal.entries:
            threading.Event().wait(0.01)
        with pytest.raises(stripe.StripeError) as caught:
            create(idempotency_key="k")
        made = first.result()

    assert (caught.value.http_status, caught.value.error.code) == (
        409,
        "idempotency_key_in_use",
    )
    assert create(idempotency_key="k").id == made.id
    assert fake.journal.total() == 2999


def test_racing_threads_with_one_key_charge_once(fake):
    """Sixteen threads with one key make one intent."""

    def attempt(_: int) -> str:
        try:
            return create(idempotency_key="k").id
        except stripe.StripeError as error:
            return error.error.code

    with ThreadPoolExecutor(16) as pool:
        seen = set(pool.map(attempt, range(64)))

    assert len(seen - {"idempotency_key_in_use"}) == 1
    assert len(fake.journal.moved()) == 1


def test_racing_threads_with_keys_of_their_own_are_all_counted(fake):
    """The journal has every one of many concurrent charges, numbered without a gap."""
    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(lambda _: create().id, range(100)))

    assert len(ids) == 100
    assert {entry.object_id for entry in fake.journal.moved("charge")} == ids
    assert [entry.seq for entry in fake.journal.entries] == list(range(1, 101))
    assert fake.journal.total() == 100 * 2999


def test_the_sdk_retries_its_own_call_with_one_key(fake, monkeypatch):
    """A reset after the charge is healed by the SDK's retry: one charge, replayed."""
    monkeypatch.setattr(stripe, "max_network_retries", 2)
    fake.inject(Fault("reset_after"))

    intent = create()

    assert [entry.replayed for entry in fake.journal.entries] == [False, True]
    assert fake.journal.moved()[0].object_id == intent.id
    assert len({entry.idempotency_key for entry in fake.journal.entries}) == 1
