"""Is one SDK call one call, however many HTTP attempts there are in it?"""

import pytest
import requests
import stripe
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

import keybrake
from keybrake.testing import Fault

ASK = {"amount": 2999, "currency": "usd"}


@pytest.fixture
def retrying(fake, monkeypatch):
    """Return the fake, with an SDK that tries three times and hardly waits in between."""
    monkeypatch.setattr(stripe, "max_network_retries", 2)
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.01)
    monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0.02)
    return fake


@pytest.fixture
def plug_in():
    """Return a function that makes an HTTP client the module's, until the test is over."""
    used = []

    def use(http_client):
        stripe.default_http_client.close()
        stripe.default_http_client = http_client
        used.append(http_client)
        return http_client

    yield use
    for http_client in used:
        http_client.close()


def test_retries_are_inside_one_call(retrying, ledger_url, rows):
    """500, 500, 200 is three attempts, one row, one reservation and one idempotency key."""
    retrying.inject(Fault("error_500_before"), 2)
    with keybrake.run("agent", cap="29.99") as run:
        stripe.PaymentIntent.create(**ASK)

    (row,) = rows()
    assert (row["state"], row["cost"], row["reserved"]) == ("settled", 29_990_000, 29_990_000)
    assert [entry.http_status for entry in retrying.journal.entries] == [500, 500, 200]
    assert {entry.idempotency_key for entry in retrying.journal.entries} == {f"kb-{row['uid']}"}
    assert (run.calls, str(run.spent), str(run.reserved)) == (1, "29.99", "0.00")


def test_a_retry_after_the_charge_moves_nothing_twice(retrying, ledger_url, rows):
    """A charge whose answer was lost is replayed under its own key, and counts once."""
    retrying.inject(Fault("reset_after"))
    with keybrake.run("agent", cap="29.99") as run:
        stripe.PaymentIntent.create(**ASK)

    assert [row["state"] for row in rows()] == ["settled"]
    assert retrying.journal.total() == 2999
    assert str(run.spent) == "29.99"


def test_the_last_attempt_alone_does_not_void(retrying, plug_in, ledger_url, rows):
    """Reset after sending, then connection refused: that may well have charged."""

    class Unplugged(stripe.RequestsClient):
        tries = 0

        def request(self, method, url, *args, **kwargs):
            self.tries += 1
            if self.tries > 1:
                url = "http://127.0.0.1:1/v1/payment_intents"
            return super().request(method, url, *args, **kwargs)

    retrying.inject(Fault("reset_after"))
    http_client = plug_in(Unplugged())
    with keybrake.run("agent", cap=200) as run, pytest.raises(stripe.APIConnectionError):
        stripe.PaymentIntent.create(**ASK)

    assert http_client.tries == 3
    assert [row["state"] for row in rows()] == ["unknown"]
    assert (str(run.spent), str(run.reserved)) == ("0.00", "29.99")


@pytest.mark.parametrize("last", ["conflict", "rate_limit"])
def test_409_or_429_after_an_ambiguous_attempt_is_unknown(retrying, ledger_url, rows, last):
    """What comes before the idempotency layer says nothing about the attempt that was lost."""
    retrying.inject(Fault("reset_after"))
    retrying.inject(Fault(last), None)
    with keybrake.run("agent", cap=200), pytest.raises(stripe.StripeError):
        stripe.PaymentIntent.create(**ASK)

    assert retrying.journal.total() == 2999
    assert [row["state"] for row in rows()] == ["unknown"]


class Interrupted(BaseException):
    """What a signal handler raises in the middle of a call."""


@pytest.mark.parametrize("first", ["conflict", "unsent"])
def test_interrupted_in_a_later_attempt_is_unknown(retrying, plug_in, ledger_url, rows, first):
    """An interrupt proves nothing about the attempt it interrupts, whatever came before."""

    class Interrupting(stripe.RequestsClient):
        tries = 0

        def request(self, method, url, *args, **kwargs):
            self.tries += 1
            if self.tries == 1 and first == "unsent":
                url = "http://127.0.0.1:1/v1/payment_intents"
            answer = super().request(method, url, *args, **kwargs)
            if self.tries == 2:
                raise Interrupted
            return answer

    if first == "conflict":
        retrying.inject(Fault("conflict"))
    plug_in(Interrupting())
    with keybrake.run("agent", cap=200) as run, pytest.raises(Interrupted):
        stripe.PaymentIntent.create(**ASK)

    assert retrying.journal.total() == 2999
    assert [row["state"] for row in rows()] == ["unknown"]
    assert str(run.reserved) == "29.99"


@pytest.mark.parametrize(("retries", "state"), [(1, "unknown"), (0, "voided")])
def test_what_a_session_of_the_users_tried_unseen_is_no_proof(
    fake, ledger_url, rows, plug_in, retries, state
):
    """A session that retries by itself may have charged before the 429 that comes back."""
    session = requests.Session()
    session.mount(
        "http://", HTTPAdapter(max_retries=Retry(total=retries, allowed_methods=None, read=retries))
    )
    plug_in(stripe.RequestsClient(session=session))
    if retries:
        fake.inject(Fault("reset_after"))
    fake.inject(Fault("rate_limit"))
    with keybrake.run("agent", cap=30) as run, pytest.raises(stripe.RateLimitError):
        stripe.PaymentIntent.create(**ASK, payment_method="pm_card_visa", confirm=True)

    assert [row["state"] for row in rows()] == [state]
    assert fake.journal.total("charge") <= (run.spent + run.reserved) * 100
