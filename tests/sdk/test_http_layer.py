"""Is a request on an SDK's own HTTP client refused inside a run, and left alone elsewhere."""

import asyncio

import pytest
import resend
import stripe
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient

import keybrake
from keybrake import EndpointNotAllowed

FORM = {"Authorization": "Bearer sk_test_1", "Content-Type": "application/x-www-form-urlencoded"}


def charge(fake, name="request", **more):
    """Ask Stripe's default HTTP client for a charge."""
    http = stripe.new_default_http_client()
    body = "amount=100&currency=usd&source=tok_visa"
    return getattr(http, name)("post", f"{fake.url}/v1/charges", FORM, body, **more)


@pytest.mark.parametrize("name", ["request", "request_with_retries", "request_stream"])
def test_stripes_client_is_refused_in_a_run(fake, ledger_url, rows, name):
    """Nothing is sent, the refusal is Stripe's own error too, and its row says past_the_guard."""
    run = keybrake.run("agent", cap=10)
    with run, pytest.raises(EndpointNotAllowed, match="past the guard") as refusal:
        charge(fake, name)

    assert isinstance(refusal.value, stripe.PermissionError)
    assert refusal.value.reason == "past_the_guard"
    assert (run.refused, fake.journal.entries) == (1, ())
    assert [(row["state"], row["reason"], row["path"]) for row in rows()] == [
        ("refused", "past_the_guard", "/v1/charges")
    ]


def test_stripes_async_client_is_refused_in_a_run(fake, ledger_url):
    """The client of the async calls is refused as the plain one is."""

    async def go():
        http = stripe.HTTPXClient()
        try:
            await http.request_async("post", f"{fake.url}/v1/charges", FORM, "amount=100")
        finally:
            await http.close_async()

    with keybrake.run("agent", cap=10), pytest.raises(EndpointNotAllowed, match="past the guard"):
        asyncio.run(go())
    assert fake.journal.entries == ()


def test_twilios_client_is_refused_in_a_run(fake_twilio, ledger_url):
    """The refusal is Twilio's own error too."""
    http = TwilioHttpClient()
    with keybrake.run("agent", cap=10), pytest.raises(TwilioRestException) as refusal:
        http.request("POST", f"{fake_twilio.url}/2010-04-01/Accounts/AC1/Messages.json")

    assert isinstance(refusal.value, EndpointNotAllowed)
    assert fake_twilio.journal.entries == ()


def test_resends_request_is_refused_in_a_run(fake_resend, ledger_url):
    """Request.make_request and the HTTP client below it are refused."""
    asked = resend.Request(path="/emails", params={}, verb="post")
    with keybrake.run("agent", cap=10):
        with pytest.raises(EndpointNotAllowed) as refusal:
            asked.make_request(f"{fake_resend.url}/emails")
        with pytest.raises(EndpointNotAllowed):
            resend.default_http_client.request("post", f"{fake_resend.url}/emails", {}, {})

    assert isinstance(refusal.value, resend.exceptions.ResendError)
    assert fake_resend.journal.entries == ()


def test_elsewhere_in_the_process_of_a_run(fake, ledger_url):
    """Where a run is open and this call stands in none, it is refused as every call is."""
    with keybrake.run("agent", cap=10), keybrake.unguarded("a test"):
        assert charge(fake)[1] == 200
    run = keybrake.run("agent", cap=10)
    with run:
        keybrake._scope.active.set(None)
        with pytest.raises(keybrake.NoActiveRun):
            charge(fake)


def test_without_a_run_it_is_left_alone(fake, ledger_url, rows):
    """After install(), with no run open, the SDK's HTTP client does as it does alone."""
    keybrake.install()

    assert charge(fake)[1] == 200
    assert charge(fake, "request_with_retries")[1] == 200


def test_report_mode_refuses_it_too(fake, ledger_url):
    """The guard cannot count such a request, so report mode does not let it go out."""
    with keybrake.run("agent", cap=10, mode="report"), pytest.raises(EndpointNotAllowed):
        charge(fake)
