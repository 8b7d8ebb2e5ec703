"""Does every vendor keep the promises of the Vendor protocol?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keybrake import vendors
from keybrake.config.settings import Money
from keybrake.model.call import Attempt, Call, Effect, Outcome, Reply, Request, State
from keybrake.policy.policy import matches

# The registry builds a vendor when it is first asked for.
NAMES = sorted(vendors._FACTORIES)
MONEY = Money()

pytestmark = pytest.mark.parametrize("name", NAMES)

_VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)
_PATH = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            *("/v1/payment_intents", "/v1/payment_intents/", "/v1/payment_intents/pi_1/confirm"),
            *("/v1/refunds", "/v1/charges/ch_1/capture", "/v1/charges//capture", "", "/", "//"),
            *("/v1/payment_intents/%2e%2e/cancel", "/v1/payment_intents#x", "/v1/\ud800"),
            *(f"/2010-04-01/Accounts/AC1/{end}.json" for end in ("Messages", "Calls", "Calls/CA1")),
            *("/2010-04-01/Accounts/AC1/IncomingPhoneNumbers.json", "/v2/PhoneNumbers/+1415"),
            *("/v2/Services/VA1/Verifications", "/v2/Services/VA1/VerificationCheck"),
            *("/v2/Attempts/VL1", "/v2/batch/query", "/2010-04-01/Accounts/AC1/Messages/SM1.json"),
            *("://[", "http://[/v1", "/v1/payment_intents/\n", "@evil/v1/charges"),
            *("/emails", "/emails/batch", "/broadcasts", "/broadcasts/b_1/send", "/events/send"),
            *("/inboxes/i_1/drafts/d_1/send", "/inboxes/i_1/threads/t_1/emails/e_1/reply"),
        ]
    ),
)
_FORM = ("To", "From", "Body", "MediaUrl", "TimeLimit", "Twiml", "Channel", "AreaCode", "Fields")
_REQUEST = st.builds(
    Request,
    vendor=st.just(""),
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "", "GÉT"]),
    url=st.one_of(_PATH, _PATH.map("https://api.stripe.com{}".format)),
    params=st.dictionaries(
        st.sampled_from(
            ["amount", "currency", "charge", "payment_intent", "amount_to_capture", "amount[]"]
        )
        | st.sampled_from(["to", "cc", "bcc", "headers", "send"])
        | st.sampled_from(_FORM)
        | st.text(max_size=4),
        _VALUE,
        max_size=4,
    ),
    account=st.text(max_size=4),
)


@given(_REQUEST)
def test_describe_never_raises(name, request_):
    """Whatever is asked, there is an answer: nothing a caller sends can get past by breaking it."""
    call = vendors.VENDORS[name].describe(request_, MONEY)

    assert isinstance(call, Call)
    assert call.vendor == name
    assert call.endpoint.startswith(f"{name}.")
    assert call.value_micros is None or call.value_micros >= 0


@given(_REQUEST, _VALUE, st.none() | st.integers(100, 599), st.lists(st.booleans(), max_size=3))
def test_outcome_never_raises(name, request_, body, status, unsent):
    """Whatever comes back, there is an outcome, and only proof voids."""
    vendor = vendors.VENDORS[name]
    call = vendor.describe(request_, MONEY)
    attempts = tuple(Attempt(None, unsent=gone) for gone in unsent)
    attempts += () if status is None else (Attempt(status),)
    reply = Reply(status, {}, repr(body), attempts)
    outcome = vendor.outcome(call, reply)

    assert isinstance(outcome, Outcome)
    assert outcome.value_micros is None or outcome.value_micros >= 0
    if outcome.state is State.VOIDED:
        assert attempts
        assert all(a.unsent or 400 <= (a.status or 0) < 500 for a in attempts[-1:])


@given(_REQUEST, st.dictionaries(st.text(max_size=6), _VALUE, max_size=3))
def test_complete_never_raises(name, request_, found):
    """Whatever a look-up finds, there is an answer."""
    vendor = vendors.VENDORS[name]
    call = vendor.describe(request_, MONEY)
    done = vendor.complete(call, found, MONEY)

    assert isinstance(done, Call)
    if call.effect is Effect.MONEY and call.lookup is not None and call.lookup.path is not None:
        assert done.refusal is not None or done.value_micros is not None


@given(st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]), st.text("abc/_", max_size=20))
def test_an_unlisted_write_is_unclassified(name, method, rest):
    """A write nobody has a row for is not free, and not priced."""
    request_ = Request("", method, f"https://api.stripe.com/v9/{rest}", {"amount": 5})

    assert vendors.VENDORS[name].describe(request_, MONEY).effect is Effect.UNCLASSIFIED


def test_endpoint_names(name):
    """Every endpoint is vendor.resource.verb in plain words, so that patterns can name it."""
    endpoints = vendors.VENDORS[name].endpoints()
    assert endpoints
    for endpoint in endpoints:
        words = endpoint.split(".")
        assert words[0] == name
        assert len(words) >= 3
        assert all(word and word.isascii() and word == word.lower() for word in words)
        assert matches(f"{name}.*", endpoint, "", "") or matches(endpoint, endpoint, "", "")
        assert vendors.unknown_endpoint(endpoint) is None


def test_a_misspelt_endpoint_is_told(name):
    """A pattern that can never match is told where it is written, with what may be meant."""
    endpoint = min(vendors.VENDORS[name].endpoints())

    assert "did you mean" in vendors.unknown_endpoint(f"{endpoint}x")
    assert vendors.unknown_endpoint("nobody.at.all") is not None
