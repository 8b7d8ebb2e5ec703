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
