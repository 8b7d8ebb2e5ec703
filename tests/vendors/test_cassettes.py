"""Do vcrpy's cassettes of https://api.stripe.com replay under the guard?"""

from pathlib import Path

import pytest
import stripe
import vcr

import keybrake

CASSETTES = Path(__file__).parents[1] / "cassettes"


@pytest.fixture(autouse=True)
def at_stripe(monkeypatch):
    """Leave the SDK where it points by itself, with a client of this test's own."""
    client = stripe.RequestsClient()
    monkeypatch.setattr(stripe, "api_key", "sk_test_not_a_key")
    monkeypatch.setattr(stripe, "max_network_retries", 0)
    monkeypatch.setattr(stripe, "default_http_client", client)
    assert stripe.api_base == "https://api.stripe.com"
    yield
    client.close()


def _replay(name):
    # The idempotency key is new in each run, so it neither stands in a cassette nor is matched.
    return vcr.use_cassette(
        str(CASSETTES / f"{name}.yaml"),
        record_mode="none",
        match_on=["method", "uri", "body"],
        filter_headers=["authorization", "idempotency-key"],
    )


def test_from_intent_to_refund(ledger_url, rows):
    """Create, confirm, capture of a part and a refund replay, and each has its row."""
    with _replay("intent_to_refund") as cassette, keybrake.run("agent", cap=35) as run:
        made = stripe.PaymentIntent.create(
            amount=2999,
            currency="usd",
            capture_method="manual",
            payment_method="pm_card_visa",
            description="Invoice 1042",
        )
        assert stripe.PaymentIntent.confirm(made.id).status == "requires_capture"
        assert str(run.spent) == "29.99"
        assert stripe.PaymentIntent.capture(made.id, amount_to_capture=2500).status == "succeeded"
        assert str(run.spent) == "25.00"
        assert stripe.Refund.create(payment_intent=made.id, amount=500).status == "succeeded"

    assert cassette.all_played
    assert [
        (row["endpoint"], row["state"], row["reserved"], row["cost"], row["object_id"])
        for row in rows()
    ] == [
        ("stripe.payment_intents.create", "settled", 29_990_000, 25_000_000, made.id),
        ("stripe.payment_intents.confirm", "settled", 0, 0, made.id),
        ("stripe.payment_intents.capture", "settled", 0, 0, made.id),
        ("stripe.refunds.create", "settled", 5_000_000, 5_000_000, "re_Kbr001"),
    ]
    assert str(run.spent) == "30.00"


def test_declined(ledger_url, rows):
    """A recorded decline is a decline: a CardError, and nothing counted."""
    with (
        _replay("declined") as cassette,
        keybrake.run("agent", cap=200) as run,
        pytest.raises(stripe.CardError) as caught,
    ):
        stripe.PaymentIntent.create(
            amount=1250,
            currency="usd",
            payment_method="pm_card_chargeDeclined",
            confirm=True,
            off_session=True,
        )

    assert cassette.all_played
    assert caught.value.code == "card_declined"
    assert [(row["state"], row["cost"], row["http_status"]) for row in rows()] == [
        ("voided", 0, 402)
    ]
    assert str(run.remaining) == "200.00"


def test_two_pages(ledger_url, rows):
    """A recorded list replays page by page, a free row for each."""
    with _replay("two_pages") as cassette, keybrake.run("agent", cap=0):
        found = [intent.amount for intent in stripe.PaymentIntent.list(limit=2).auto_paging_iter()]

    assert cassette.all_played
    assert sorted(found) == [700, 800, 900]
    assert [(row["endpoint"], row["cost"]) for row in rows()] == [
        ("stripe.payment_intents.list", 0)
    ] * 2


def test_a_refused_call_plays_nothing(ledger_url):
    """What the guard refuses asks no cassette."""
    with (
        _replay("intent_to_refund") as cassette,
        keybrake.run("agent", cap=1),
        pytest.raises(keybrake.CapExceeded),
    ):
        stripe.PaymentIntent.create(amount=2999, currency="usd")

    assert cassette.play_count == 0


def test_what_is_not_recorded_is_unknown(ledger_url, rows):
    """A call that is in no cassette fails as the SDK lets it fail, and is not taken for nothing."""
    with (
        _replay("declined"),
        keybrake.run("agent", cap=200),
        pytest.raises(stripe.APIConnectionError),
    ):
        stripe.PaymentIntent.create(amount=1, currency="usd")

    assert [row["state"] for row in rows()] == ["unknown"]


@pytest.mark.parametrize("cassette", sorted(CASSETTES.glob("*.yaml")), ids=lambda path: path.stem)
def test_cassettes_hold_no_key(cassette):
    """No cassette holds a credential, a vault key, an idempotency key or a client secret."""
    text = cassette.read_text("utf-8").lower()

    for word in ("authorization", "bearer", "sk_", "rk_", "kb_live", "idempotency-key", "_secret_"):
        assert word not in text
    assert "https://api.stripe.com/v1/" in text
