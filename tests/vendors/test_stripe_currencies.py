"""Does every currency and direction count in dollars?"""

import pytest
import stripe

import keybrake

ASK = {"amount": 1000, "currency": "usd"}


@pytest.mark.parametrize(
    ("currency", "amount", "micros"),
    [
        ("jpy", 500, 3_180_000),
        ("JPY", "500", 3_180_000),
        ("kwd", 5120, 16_640_000),
        ("isk", 500, 39_500),
        ("ugx", 500, 1_350),
        ("mga", 1000, 220_000),
        ("eur", 1001, 11_183_172),
    ],
)
def test_currencies(wire, ledger_url, rows, currency, amount, micros):
    """Each currency counts by Stripe's own decimals, rounded up to whole micros."""
    keybrake.configure(
        usd_per={
            "JPY": "0.00636",
            "KWD": "3.25",
            "ISK": "0.0079",
            "UGX": "0.00027",
            "MGA": "0.00022",
            "EUR": "1.1172",
        },
        margin_bps=0,
    )
    body = {"id": "pi_1", "object": "payment_intent", "status": "succeeded"}
    wire.answer(200, body | {"amount_received": int(amount), "currency": currency.lower()})
    with keybrake.run("agent", cap=200):
        stripe.PaymentIntent.create(amount=amount, currency=currency)

    (row,) = rows()
    assert (row["reserved"], row["cost"]) == (micros, micros)


def test_no_rate_is_refused(fake, ledger_url):
    """A currency nobody gave a rate for sends nothing, and says what to do."""
    with keybrake.run("agent", cap=200), pytest.raises(keybrake.UnknownCost) as caught:
        stripe.PaymentIntent.create(amount=100, currency="aed")

    assert caught.value.reason == "no_rate"
    assert "AED" in str(caught.value)
    assert fake.journal.entries == ()


@pytest.mark.parametrize(
    "send",
    [
        lambda: stripe.Transfer.create(**ASK, destination="acct_1"),
        lambda: stripe.Payout.create(**ASK),
        lambda: stripe.Charge.create(**ASK, source="tok_visa"),
    ],
)
def test_every_direction_counts(fake, ledger_url, send):
    """Money out is spent like money in."""
    with keybrake.run("agent", cap="10.00") as run:
        send()
        with pytest.raises(keybrake.CapExceeded):
            send()

    assert str(run.spent) == "10.00"
