"""Does a limit on a kind of money bind across endpoints and vendors, and leave other kinds alone?"""

import pytest
import resend
import stripe

import keybrake
from keybrake import Limit
from keybrake.testing import FakeResend

OUTFLOW = {"meter:outflow": Limit(cap=60)}


def test_nine_refunds_of_one_charge_are_one(fake, ledger_url):
    """Of nine refunds of 47 EUR, under 60 USD of outflow, one goes through."""
    keybrake.configure(usd_per={"EUR": "1.1172"}, margin_bps=0)
    charge = stripe.Charge.create(amount=9 * 4700, currency="eur", source="tok_visa")
    refused = 0
    with keybrake.run("refund-agent", cap=None, limits=OUTFLOW) as run:
        for _ in range(9):
            try:
                stripe.Refund.create(charge=charge.id, amount=4700)
            except keybrake.CapExceeded:
                refused += 1

    assert (len(fake.journal.moved("refund")), refused) == (1, 8)
    assert str(run.spent) == "52.5084"


def test_what_goes_out_is_one_sum_whatever_the_endpoint(fake, ledger_url):
    """Refunds, transfers and payouts share the limit on outflow; charges do not touch it."""
    with keybrake.run("agent", cap=None, limits=OUTFLOW) as run:
        charge = stripe.Charge.create(amount=100_000, currency="usd", source="tok_visa")
        stripe.Refund.create(charge=charge.id, amount=2000)
        stripe.Payout.create(amount=2500, currency="usd")
        with pytest.raises(keybrake.CapExceeded) as caught:
            stripe.Transfer.create(amount=1501, currency="usd", destination="acct_1")
        stripe.Transfer.create(amount=1500, currency="usd", destination="acct_1")

    assert str(caught.value.remaining) == "15.00"
    assert str(run.spent) == "1060.00"


def test_usage_is_a_meter_of_its_own(ledger_url, monkeypatch):
    """Emails count as usage, at whichever vendor the rest of the money is."""
    with FakeResend() as mails:
        monkeypatch.setattr(resend, "api_url", mails.url)
        monkeypatch.setattr(resend, "api_key", "re_test")
        email = {"from": "a@x.dev", "to": ["b@x.dev", "c@x.dev"], "subject": "s", "text": "t"}
        with keybrake.run("agent", cap=None, limits={"meter:usage": Limit(cap="0.0045")}):
            resend.Emails.send(email)
            resend.Emails.send(email)
            with pytest.raises(keybrake.CapExceeded):
                resend.Emails.send(email)

        assert len(mails.journal.moved("email")) == 2


@pytest.mark.parametrize(
    ("refunds", "spent"), [("gross", "200.00"), ("ignore", "100.00"), ("net", "0.00")]
)
def test_how_refunds_count_is_the_operators_choice(fake, ledger_url, refunds, spent):
    """A refund counts like any outflow, or nothing, or takes back what its run spent."""
    keybrake.configure(refunds=refunds)
    with keybrake.run("agent", cap=200) as run:
        charge = stripe.Charge.create(amount=10_000, currency="usd", source="tok_visa")
        stripe.Refund.create(charge=charge.id, amount=10_000)

    assert str(run.spent) == spent
