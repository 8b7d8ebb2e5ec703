"""Are hooks that another library takes out in again, at once, and is nothing sent unguarded meanwhile."""

import functools
from unittest import mock

import pytest
import requests
import resend
import stripe
from opentelemetry.instrumentation import utils as tracing
from resend.request import Request
from stripe._api_requestor import _APIRequestor
from twilio.base.client_base import ClientBase

import keybrake
from keybrake import sdk
from keybrake.testing import FakeStripe

MAIL = {"from": "a@example.com", "to": "b@example.com", "subject": "s", "text": "t"}
SMS = {"to": "+15558675310", "from_": "+15005550006", "body": "a"}


def stripe_call(_fake):
    """Make a call that costs $1."""
    stripe.PaymentIntent.create(amount=100, currency="usd")


def twilio_call(fake):
    """Make a call that costs $1."""
    fake.client().messages.create(**SMS)


def resend_call(_fake):
    """Make a call that costs $1."""
    resend.Emails.send(MAIL)


VENDORS = {
    "stripe": ("fake", _APIRequestor, "request_raw", stripe_call),
    "twilio": ("fake_twilio", ClientBase, "request", twilio_call),
    "resend": ("fake_resend", Request, "perform", resend_call),
}


@pytest.fixture(params=VENDORS)
def vendor(request, ledger_url):
    """Return a fake vendor, the place of the SDK's hook, and a call of $1."""
    fixture, owner, name, call = VENDORS[request.param]
    fake = request.getfixturevalue(fixture)
    prices = {"twilio": {"sms_segment": {"+1": "1"}}, "resend": {"per_recipient": "1"}}
    keybrake.configure(prices=prices)
    return fake, owner, name, functools.partial(call, fake)


def outcomes(call, times):
    """Make a call so often, and return how each ended."""
    told = []
    for _ in range(times):
        try:
            call()
            told.append("went")
        except keybrake.EndpointNotAllowed as refusal:
            told.append(refusal.reason)
        except keybrake.CapExceeded:
            told.append("cap")
    return told


def test_a_mock_that_was_there_first_ends_inside_a_run(vendor, rows):
    """The first call after it is refused, with the reason; each later one is guarded."""
    fake, owner, name, call = vendor
    keybrake.uninstall()
    replaced = mock.patch.object(owner, name, getattr(owner, name))
    replaced.start()
    with keybrake.run("agent", cap=2):
        replaced.stop()
        assert outcomes(call, 4) == ["hook_taken_out", "went", "went", "cap"]
    assert [row["state"] for row in rows()] == ["refused", "settled", "settled", "refused"]
    assert len(fake.journal.entries) == 2


def test_the_refusal_says_what_has_happened(fake, ledger_url):
    """A developer who called the SDK as ever reads that a hook was out, and that a new call is guarded."""
    before = vars(_APIRequestor)["request_raw"]
    with keybrake.run("agent", cap=2):
        _APIRequestor.request_raw = before
        with pytest.raises(keybrake.EndpointNotAllowed, match="hook is in again"):
            stripe_call(fake)


def test_a_tracer_that_unwraps_whatever_is_outermost(vendor):
    """OpenTelemetry's unwrap() takes off the outermost wrapper, which may be ours."""
    fake, owner, name, call = vendor
    with keybrake.run("agent", cap=2):
        tracing.unwrap(owner, name)
        assert outcomes(call, 4) == ["hook_taken_out", "went", "went", "cap"]
    assert len(fake.journal.entries) == 2


def test_a_hook_below_is_in_again_before_the_next_call(fake, ledger_url, wire):
    """Where the hook against redirects was taken out of requests, the next call is not redirected."""
    mixin = requests.sessions.SessionRedirectMixin
    with keybrake.run("agent", cap=9), FakeStripe() as elsewhere:
        wire.answer(200, {"object": "list", "data": [], "has_more": False})
        stripe.PaymentIntent.list()
        tracing.unwrap(mixin, "get_redirect_target")
        wire.otherwise = (307, {}, {"Location": f"{elsewhere.url}/v1/payment_intents"})
        with pytest.raises(keybrake.CallStopped):
            stripe_call(wire)
        assert elsewhere.journal.entries == ()


def test_a_mock_of_an_http_library_is_no_unsupported_version(fake, ledger_url):
    """A run begins under a mock of requests; when the mock ends, hook and calls are as ever."""
    answer = requests.Response()
    answer.status_code, answer._content = 200, b'{"id": "pi_1", "object": "payment_intent"}'
    place = "requests.sessions.Session.send"
    keybrake.uninstall()
    with mock.patch(place, return_value=answer) as replaced:
        run = keybrake.run("agent", cap=5)
        run.__enter__()
        stripe_call(fake)
    replaced.assert_called_once()
    stripe_call(fake)
    assert dict(sdk.status())[place] == "in place"
    run.__exit__(None, None, None)
    assert len(fake.journal.entries) == 1


def hidden(function):
    """Wrap a function, as some tracers do, so that nothing tells which one it is."""

    def traced(*rest, **named):
        return function(*rest, **named)

    return traced


def test_a_tracer_that_hides_the_function_it_wraps(fake, ledger_url, rows, monkeypatch):
    """A wrapper that takes any arguments and names no function is guarded: a call is one event."""
    call = functools.partial(stripe_call, fake)
    monkeypatch.setattr(_APIRequestor, "request_raw", hidden(_APIRequestor.request_raw))
    with keybrake.run("agent", cap=2):
        assert outcomes(call, 3) == ["went", "went", "cap"]
        monkeypatch.setattr(_APIRequestor, "request_raw", hidden(_APIRequestor.request_raw))
    with keybrake.run("agent", cap=1):
        assert outcomes(call, 2) == ["went", "cap"]
    assert len(rows()) == 5


def test_a_stub_of_a_test_stays(fake, ledger_url, monkeypatch):
    """A function of other parameters that a test puts into requests inside a run is left alone."""
    answer = requests.Response()
    answer.status_code, answer._content = 200, b'{"id": "pi_1", "object": "payment_intent"}'
    with keybrake.run("agent", cap=5) as run:
        monkeypatch.setattr(requests.Session, "send", lambda self, asked, **named: answer)
        stripe_call(fake)
        stripe_call(fake)
    assert (run.calls, fake.journal.entries) == (2, ())
