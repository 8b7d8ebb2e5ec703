"""Is a guarded Resend call the same call: equal bytes out, equal objects back?"""

import re

import pytest
import resend
from resend.exceptions import ResendError

import keybrake
from tests.sdk._resend_calls import KINDS, MAIL, do

ASK = {
    **MAIL,
    "subject": "Ünïcode & = ? / #",
    "to": ["b@example.com", "Ada <c@example.com>"],
    "cc": "d@example.com",
    "reply_to": ("r@example.com",),
    "headers": {"X-Entity-Ref-ID": "1"},
    "tags": [{"name": "a", "value": "b"}],
    "attachments": [{"filename": "a.txt", "content": [104, 105]}],
}
DRAFT = {"segment_id": "s", "from": "a@x.y", "subject": "Hi", "html": "x"}
CALLS = {
    "send": (resend.Emails, "send", ASK),
    "batch": (resend.Batch, "send", [ASK, MAIL], {"batch_validation": "permissive"}),
    "draft": (resend.Broadcasts, "create", DRAFT),
    "get": (resend.Emails, "get", "e1"),
    "list": (resend.Emails, "list", {"limit": 5, "after": "e1"}),
    "update": (resend.Emails, "update", {"id": "e1", "scheduled_at": "in 1 hour"}),
    "remove": (resend.Contacts, "remove", None, "c1"),
}
ANSWER = {"id": "e1", "data": [{"id": "e1"}, {"id": "e2"}], "nested": {"a": [1, None, 2.5]}}


@pytest.fixture(autouse=True)
def at_wire(wire, monkeypatch):
    """Point the SDK at the scripted server."""
    monkeypatch.setattr(resend, "api_url", wire.url)
    monkeypatch.setattr(resend, "api_key", "re_fake")
    wire.otherwise = (200, ANSWER, {"Content-Type": "application/json", "X-Id": "1"})
    return wire


def _without_key(raw):
    return re.subn(rb"(?i)idempotency-key: [^\r]*\r\n", b"", raw)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_equal_bytes_and_objects(wire, ledger_url, kind, name):
    """With and without the guard: equal bytes, save the idempotency key, and equal objects."""
    free = do(kind, *CALLS[name])
    with keybrake.run("agent", cap=1):
        guarded = do(kind, *CALLS[name])
    first, second = wire.seen
    cut, count = _without_key(second)

    assert cut == first
    assert count == (1 if first.startswith(b"POST") else 0)
    assert not count or re.search(rb"(?i)idempotency-key: kb-[0-9a-f]{24}\r\n", second)
    assert guarded == free
    assert type(guarded) is type(free)
    assert guarded["http_headers"] == free["http_headers"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["send", "batch"])
def test_equal_to_the_last_byte_with_an_own_key(wire, ledger_url, kind, name):
    """With the caller's own idempotency key nothing on the wire differs at all."""
    owner, method, params, *options = CALLS[name]
    given = {**(options[0] if options else {}), "idempotency_key": "order/7"}
    do(kind, owner, method, params, given)
    with keybrake.run("agent", cap=1):
        do(kind, owner, method, params, given)

    assert wire.seen[0] == wire.seen[1]


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_is_a_list(wire, ledger_url, kind):
    """An answer without fields passes on as it is."""
    wire.otherwise = (200, [{"id": "e1"}], {"Content-Type": "application/json"})
    free = do(kind, resend.Emails, "list")
    with keybrake.run("agent", cap=1):
        assert do(kind, resend.Emails, "list") == free == [{"id": "e1"}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [422, 429, 500])
def test_equal_errors(wire, ledger_url, kind, status):
    """An error of Resend's is the same error, too."""
    told = {"statusCode": status, "name": "rate_limit_exceeded", "message": "slow down"}
    wire.otherwise = (status, told, {"Content-Type": "application/json", "Retry-After": "1"})
    with pytest.raises(ResendError) as free:
        do(kind, *CALLS["send"])
    with keybrake.run("agent", cap=1), pytest.raises(ResendError) as guarded:
        do(kind, *CALLS["send"])

    assert type(guarded.value) is type(free.value)
    assert (str(guarded.value), vars(guarded.value)) == (str(free.value), vars(free.value))
