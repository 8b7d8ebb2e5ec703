"""Do Twilio's late prices and lost answers come to be known by asking?"""

import contextlib

import pytest
from twilio.base.exceptions import TwilioRestException

import keybrake
from keybrake.testing import FakeTwilio, Fault

PRICES = {"twilio": {"sms_segment": {"+1": "0.0145"}}}
TOML = """
[prices.twilio]
sms_segment = {{ "+1" = "0.0145" }}
[vendors.twilio]
extra_hosts = ["{url}"]
"""


@pytest.fixture
def texts(tmp_path, ledger_url):
    """Start a fake Twilio that the operator has named as one of Twilio's hosts."""
    with FakeTwilio() as running:
        (tmp_path / "keybrake.toml").write_text(TOML.format(url=running.url))
        keybrake.configure(prices=PRICES)
        yield running


@pytest.fixture
def reconcile(cli, ledger_url, texts):
    """Return a function that asks the fake about everything that is open."""
    environ = {"TWILIO_ACCOUNT_SID": texts.account_sid, "TWILIO_AUTH_TOKEN": texts.auth_token}

    def ask():
        words = ("reconcile", "--base", f"twilio={texts.url}", "--json")
        told = cli("--ledger", ledger_url, *words, **environ)
        assert told.code == 0, told.err
        return told.json

    return ask


def send(texts, body="Your table is ready."):
    """Send one text in a run of its own."""
    client = texts.client()
    lost = contextlib.suppress(TwilioRestException, OSError)
    with keybrake.run("concierge", cap=1) as run, lost:
        client.messages.create(to="+14155550100", from_="+14155550199", body=body)
    return run


def test_a_late_price_takes_the_place_of_the_estimate(texts, reconcile, rows):
    """Until the price is there the estimate counts; then the price, once."""
    run = send(texts)
    assert [found["result"] for found in reconcile()] == ["estimated"]
    assert str(run.spent) == "0.0145"
    texts.set_price(rows()[0]["object_id"], "-0.0079", "USD")

    assert [found["result"] for found in reconcile()] == ["settled"]
    assert str(run.spent) == "0.0079"
    assert reconcile() == []


def test_a_text_whose_answer_was_lost_is_found_in_the_list(texts, reconcile):
    """Twilio has no idempotency keys: the text to that number at that time is the proof."""
    texts.inject(Fault("reset_after"))
    run = send(texts)
    assert str(run.reserved) == "0.0145"
    found = reconcile()

    assert "settled" in [one["result"] for one in found], found
    assert (str(run.spent), run.reserved) == ("0.0145", 0)
    assert len(texts.journal.moved("message")) == 1


def test_two_texts_that_it_could_be_prove_nothing(texts, reconcile):
    """Where the list shows two that fit, the lost one stays unknown and counts."""
    texts.inject(Fault("reset_after"), times=2)
    runs = [send(texts), send(texts)]
    reconcile()

    assert [str(run.reserved) for run in runs] == ["0.0145", "0.0145"]


def test_a_text_that_is_known_is_not_taken_for_the_lost_one(texts, reconcile):
    """A text that another call is charged for is no proof for the one whose answer was lost."""
    known = send(texts)
    texts.inject(Fault("reset_before"))
    lost = send(texts)
    reconcile()

    assert str(known.spent) == "0.0145"
    assert str(lost.reserved) == "0.0145"
