"""Does a request that is repeated say to the letter what the SDK said, and to nobody else?"""

import json
from urllib.parse import parse_qsl

from hypothesis import given
from hypothesis import strategies as st
from stripe._encode import _api_encode

import keybrake
from keybrake.credentials import Credential
from keybrake.guard import vendor_client
from keybrake.guard.vendor_client import ask
from keybrake.vendors.inquirers import Inquiry
from keybrake.wire import hosts
from tests._each import each

_LEAF = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
_NAME = st.text("abc_", min_size=1, max_size=4)
_PARAMS = st.dictionaries(
    _NAME,
    st.recursive(
        _LEAF,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAME, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


@given(_PARAMS)
def test_forms_are_encoded_as_the_sdk_encodes_them(params):
    """Stripe compares a repeated request with the first: every field has to be the same."""
    ours = list(vendor_client._fields(params))

    assert ours == [(name, str(value)) for name, value in _api_encode(params)]


def test_a_repeat_carries_key_account_and_credential(wire):
    """Method, body and headers are those of the call."""
    wire.answer(200, {"id": "pi_1"})
    inquiry = Inquiry("POST", "/v1/charges", {"amount": 5, "metadata": {"a": "ü&"}}, "kb-1")
    reply = ask(wire.url, "stripe", inquiry, Credential("sk_1"), "acct_1")

    head, _, body = wire.seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/charges HTTP/1.1")
    for line in (
        b"Idempotency-Key: kb-1",
        b"Stripe-Account: acct_1",
        b"Authorization: Bearer sk_1",
    ):
        assert line in head
    assert parse_qsl(body.decode()) == [("amount", "5"), ("metadata[a]", "ü&")]
    assert (reply.status, json.loads(reply.body)) == (200, {"id": "pi_1"})


def test_a_redirect_is_not_followed(wire):
    """The credential goes to the address that was checked and to no other."""
    wire.answer(307, {}, {"Location": f"{wire.url}/elsewhere"})
    reply = ask(wire.url, "stripe", Inquiry("GET", "/v1/events"), Credential("sk_1"))

    assert reply.status == 307
    assert len(wire.seen) == 1


def test_an_error_status_is_an_answer(wire):
    """A decline that is repeated is read, not raised."""
    wire.answer(402, {"error": {}}, {"Idempotent-Replayed": "true"})
    reply = ask(wire.url, "stripe", Inquiry("GET", "/v1/events"), Credential("sk_1"))

    assert (reply.status, reply.replayed) == (402, True)


def test_a_credential_does_not_show():
    """Neither its repr nor a formatted error has the secret."""
    assert "sk_1" not in repr(Credential("sk_1", "user"))
    assert "sk_1" not in f"{Credential('sk_1')}"


@each(
    ("vendor", "origin", "own"),
    [
        ("stripe", "https://api.stripe.com", True),
        ("stripe", "https://files.stripe.com", True),
        ("stripe", "http://api.stripe.com", False),
        ("stripe", "https://api.stripe.com:8443", False),
        ("stripe", "https://api.stripe.com.evil.test", False),
        ("stripe", "https://evil.stripe.com", False),
        ("stripe", "https://api.resend.com", False),
        ("twilio", "https://api.twilio.com", True),
        ("twilio", "https://api.dublin.ie1.twilio.com", True),
        ("twilio", "https://api.ie1.twilio.com", True),
        ("twilio", "https://a.b.c.d.twilio.com", False),
        ("twilio", "https://lookups.twilio.com", True),
        ("twilio", "https://evil.test/.twilio.com", False),
        ("twilio", "https://twilio.com", False),
        ("resend", "https://api.resend.com", True),
        ("resend", "https://api.resend.com@evil.test", False),
        ("other", "https://api.stripe.com", False),
        ("stripe", "http://127.0.0.1:12111", False),
    ],
)
def test_whose_host_it_is(vendor, origin, own):
    """A vendor's hosts are listed one by one; nothing that merely looks alike is one."""
    assert hosts.is_own(vendor, origin) is own


def test_the_operator_may_name_more_hosts():
    """What is configured counts as the vendor's own, and nothing beside it."""
    keybrake.configure(extra_hosts={"stripe": ["http://127.0.0.1:12111"]})

    assert hosts.is_own("stripe", "http://127.0.0.1:12111")
    assert not hosts.is_own("twilio", "http://127.0.0.1:12111")
    assert not hosts.is_own("stripe", "http://127.0.0.1:12112")
