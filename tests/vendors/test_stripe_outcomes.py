"""Does each way a Stripe call can end count what it must?"""

import pytest
import stripe

import keybrake
from keybrake.testing import Fault

ASK = {"amount": 2999, "currency": "usd"}


def _ends(rows):
    return [(row["state"], row["cost"] if row["state"] == "settled" else None) for row in rows()]


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("error_500_before", "unknown"),
        ("error_500_after", "unknown"),
        ("reset_before", "unknown"),
        ("reset_after", "unknown"),
        ("timeout_after", "unknown"),
        ("truncate", "unknown"),
        ("garbage", "unknown"),
        ("rate_limit", "voided"),
        ("conflict", "voided"),
    ],
)
def test_faults(fake, ledger_url, rows, kind, state):
    """Only proof voids; the SDK's own error passes on, and unknown counts in full."""
    fake.inject(Fault(kind, hang=0.1))
    with keybrake.run("agent", cap=200) as run:
        with pytest.raises(stripe.StripeError) as caught:
            stripe.PaymentIntent.create(**ASK)
        assert not isinstance(caught.value, keybrake.KeybrakeError)

        assert [row["state"] for row in rows()] == [state]
        assert str(run.spent) == "0.00"
        assert str(run.reserved) == ("29.99" if state == "unknown" else "0.00")


def test_unknown_binds_the_cap(fake, ledger_url, rows):
    """What may have been charged leaves no room for another."""
    fake.inject(Fault("timeout_after", hang=0.1))
    with keybrake.run("agent", cap="29.99"):
        with pytest.raises(stripe.APIConnectionError):
            stripe.PaymentIntent.create(**ASK)
        with pytest.raises(keybrake.CapExceeded):
            stripe.PaymentIntent.create(amount=1, currency="usd")

    assert fake.journal.total() == 2999


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
def test_a_definitive_no_voids(wire, ledger_url, rows, status):
    """A 4xx that says nothing was charged gives the reservation back."""
    wire.answer(status, {"error": {"type": "card_error", "message": "no"}})
    with keybrake.run("agent", cap=200) as run, pytest.raises(stripe.StripeError):
        stripe.PaymentIntent.create(**ASK)

    assert [(row["state"], row["http_status"]) for row in rows()] == [("voided", status)]
    assert str(run.remaining) == "200.00"


@pytest.mark.parametrize("status", [408, 425, 499, 500, 502, 503, 504, 529, 302])
def test_any_other_status_is_unknown(wire, ledger_url, rows, status):
    """A status that does not say whether it happened counts in full."""
    wire.answer(status, {"error": {"message": "?"}})
    with keybrake.run("agent", cap=200) as run, pytest.raises(stripe.StripeError):
        stripe.PaymentIntent.create(**ASK)

    assert [(row["state"], row["http_status"]) for row in rows()] == [("unknown", status)]
    assert str(run.reserved) == "29.99"


def test_a_decline_is_voided(fake, ledger_url, rows):
    """A declined card charged nothing, and the CardError is the SDK's."""
    with keybrake.run("agent", cap=200) as run, pytest.raises(stripe.CardError):
        stripe.PaymentIntent.create(
            **ASK, payment_method="pm_card_chargeDeclined", confirm=True, off_session=True
        )

    assert [row["state"] for row in rows()] == ["voided"]
    assert str(run.spent) == "0.00"


def test_a_refused_connection_is_voided(fake, ledger_url, rows):
    """Nothing can have happened at a vendor nobody could connect to."""
    fake.stop()
    with keybrake.run("agent", cap=200) as run, pytest.raises(stripe.APIConnectionError):
        stripe.PaymentIntent.create(**ASK)

    assert [row["state"] for row in rows()] == ["voided"]
    assert str(run.remaining) == "200.00"


def test_a_missing_api_key_is_voided(fake, ledger_url, rows, monkeypatch):
    """A call the SDK itself refuses to make sent nothing."""
    monkeypatch.setattr(stripe, "api_key", None)
    with keybrake.run("agent", cap=200), pytest.raises(stripe.AuthenticationError):
        stripe.PaymentIntent.create(**ASK)

    assert fake.journal.entries == ()
    assert [row["state"] for row in rows()] == ["voided"]


def test_parameters_that_cannot_be_encoded_are_voided(fake, ledger_url, rows):
    """A call that fails while it is being encoded sent nothing."""
    with keybrake.run("agent", cap=200), pytest.raises(UnicodeEncodeError):
        stripe.PaymentIntent.create(**ASK, description="half a pair: \ud800")

    assert fake.journal.entries == ()
    assert [row["state"] for row in rows()] == ["voided"]


_INTENT = {"id": "pi_1", "object": "payment_intent", "status": "succeeded", "currency": "usd"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"5",
        b"[" * 100_000,
        {},
        {"error": {"message": "in a 200"}},
        _INTENT,
        _INTENT | {"amount_received": -5},
        _INTENT | {"amount_received": "5"},
        _INTENT | {"amount_received": 10**30},
        _INTENT | {"amount_received": True},
        _INTENT | {"amount_received": 29.99},
        _INTENT | {"amount_received": 2999, "currency": "eur"},
        _INTENT | {"amount_received": 2999, "currency": None},
        _INTENT | {"amount_received": 2999, "id": None},
        {"id": "x_1", "object": "something_new", "amount": 5},
        b'{"id": "pi_1", "object": "payment_intent", "status": "succeeded", "currency": "usd", "amount_received": NaN}',
    ],
)
def test_an_unreadable_success_is_unknown(wire, ledger_url, rows, body):
    """A 2xx nobody can read an amount from counts in full, and is passed on."""
    wire.answer(200, body)
    with keybrake.run("agent", cap=200) as run:
        try:
            stripe.PaymentIntent.create(**ASK)
        except Exception as error:  # noqa: BLE001 -- the SDK's, whatever it is
            assert not isinstance(error, keybrake.KeybrakeError)  # noqa: PT017

    assert [row["state"] for row in rows()] == ["unknown"]
    assert str(run.reserved) == "29.99"


def test_more_than_asked_is_counted(wire, ledger_url, rows):
    """What the answer says beyond the reservation is counted, and stops what comes next."""
    wire.answer(200, _INTENT | {"amount_received": 30_000})
    with keybrake.run("agent", cap=200) as run:
        stripe.PaymentIntent.create(**ASK)
        assert str(run.spent) == "300.00"
        with pytest.raises(keybrake.CapExceeded):
            stripe.PaymentIntent.create(amount=1, currency="usd")
