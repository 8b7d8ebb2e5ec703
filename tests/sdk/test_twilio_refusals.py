"""Is what the guard refuses at the Twilio door refused before a byte leaves, and said well?"""

import copy
import multiprocessing
import pickle

import pytest
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.rest import Client

import keybrake
from tests.vendors._twilio import API, SMS, price_all

FORM = {"To": SMS["to"], "From": SMS["from_"], "Body": "hello"}
MESSAGES = f"{API}/Messages.json"


@pytest.fixture
def client(fake_twilio, ledger_url):
    """Return a client of a fake Twilio, with prices in force."""
    price_all()
    return fake_twilio.client()


_ODD = [
    f"{API}/Messages/../Messages.json",
    f"{API}/./Messages.json",
    f"{API}//Messages.json",
    f"{API}/Messages.json/",
    f"{API}/%4Dessages.json",
    f"{API}/Messages%2ejson",
    f"{API}/Messages%2Fx.json",
    f"{API}/Messages.json#x",
    f"{API}/Messages.json;x=1",
    f"{API}\\Messages.json",
    "https://user@api.twilio.com/2010-04-01/Accounts/AC1/Messages.json",
    "https://api.twilio.com@example.org/2010-04-01/Accounts/AC1/Messages.json",
    "//api.twilio.com/2010-04-01/Accounts/AC1/Messages.json",
    "https://[/2010-04-01/Accounts/AC1/Messages.json",
    "",
]
# With a region the SDK itself drops these before the URL is final.
_BREAKS = [f"{API}/Messages.json\n", f"{API}/Mess\tages.json"]


@pytest.mark.parametrize(
    ("options", "url"),
    [
        *(({}, url) for url in (*_ODD, *_BREAKS)),
        *(({"region": "ie1"}, url) for url in _ODD),
    ],
)
def test_an_odd_url_is_refused(fake_twilio, ledger_url, rows, options, url):
    """A URL that two parsers could read differently sends nothing."""
    price_all()
    client = fake_twilio.client(**options)
    with keybrake.run("agent", cap=1), pytest.raises(keybrake.EndpointNotAllowed):
        client.request("POST", url, data=FORM)

    assert fake_twilio.journal.entries == ()
    assert [row["state"] for row in rows()] == ["refused"]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", " POST", "POST\n"])
def test_other_methods_are_refused(fake_twilio, client, method):
    """A method nobody has a row for sends nothing."""
    with keybrake.run("agent", cap=1), pytest.raises(keybrake.EndpointNotAllowed):
        client.request(method, MESSAGES, data=FORM)

    assert fake_twilio.journal.entries == ()


@pytest.mark.parametrize("mode", ["enforce", "report"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic eA=="},
        {"authorization": "Basic eA=="},
        {"AUTHORIZATION ": "Basic eA=="},
        {b"Authorization": b"Basic eA=="},
        {"Idempotency-Key": "mine"},
        {"idempotency_key": "mine"},
        {"Host": "lookups.twilio.com"},
        {"X-HTTP-Method-Override": "DELETE"},
    ],
)
def test_header_overrides_are_refused(fake_twilio, client, headers, mode):
    """An extra header cannot take the place of the credential or host that were decided on."""
    with (
        keybrake.run("agent", cap=1, mode=mode),
        pytest.raises(keybrake.CallRefused) as caught,
    ):
        client.request("POST", MESSAGES, data=FORM, headers=headers)

    assert caught.value.reason == "header_override"
    assert fake_twilio.journal.entries == ()


@pytest.mark.parametrize(
    "options",
    [
        {"params": {"To": "+992372123456"}},
        {"params": {"TimeLimit": 60}},
        {"params": "To=1"},
        {"data": "To=%2B14155550100&Body=hello"},
        {"data": b"To=%2B14155550100"},
        {"data": [("To", "+14155550100"), ("To", "+992372123456")]},
    ],
)
def test_parameters_in_two_places_are_refused(fake_twilio, client, options):
    """What a message says stands in one dictionary, or nobody prices it."""
    with keybrake.run("agent", cap=1), pytest.raises(keybrake.UnknownCost):
        client.request("POST", MESSAGES, **{"data": FORM, **options})

    assert fake_twilio.journal.entries == ()


def test_a_query_in_the_url_of_a_write_is_refused(fake_twilio, client):
    """Parameters in the URL of a message are parameters in two places, too."""
    with keybrake.run("agent", cap=1), pytest.raises(keybrake.UnknownCost):
        client.request("POST", f"{MESSAGES}?To=%2B992372123456", data=FORM)

    assert fake_twilio.journal.entries == ()


@pytest.mark.parametrize(
    "how",
    [
        {"uri": "?Fields=caller_name"},
        {"uri": "?x=1;Fields=caller_name"},
        {"params": {"Fields": "caller_name"}},
        {"params": {"fields": ["caller_name"]}},
        {"params": [("Fields", "caller_name")]},
        {"params": "Fields=caller_name"},
        {"params": b"Fields=caller%5Fname"},
        {"data": {"Fields": "caller_name"}},
        {"uri": "?Fields=validation", "params": {"Fields": "caller_name"}},
    ],
)
@pytest.mark.parametrize(
    "host", ["lookups.twilio.com", "LOOKUPS.twilio.com", "lookups.ie1.twilio.com"]
)
def test_a_paid_look_up_is_seen_wherever_its_fields_stand(fake_twilio, client, rows, how, host):
    """A look-up that costs something cannot pass as a free read."""
    how = {"uri": "", **how}
    url = f"https://{host}/v2/PhoneNumbers/+14155550100{how.pop('uri')}"
    with keybrake.run("agent", cap="0.005"), pytest.raises(keybrake.CapExceeded):
        client.request("GET", url, **how)

    assert fake_twilio.journal.entries == ()
    assert rows()[0]["endpoint"] == "twilio.lookups.phone_numbers.retrieve"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda c: c.api.v2010.accounts.create(friendly_name="x"), keybrake.EndpointNotAllowed),
        (lambda c: c.new_keys.create(friendly_name="x"), keybrake.EndpointNotAllowed),
        (lambda c: c.messages("SM1").delete(), keybrake.EndpointNotAllowed),
        (lambda c: c.video.v1.rooms.create(), keybrake.UnknownCost),
        (lambda c: c.studio.v2.flows("FW1").executions.create(to="+1", from_="+1"), keybrake.UnknownCost),
        (lambda c: c.messages.create(**{**SMS, "to": "+992372123456"}), keybrake.UnknownCost),
    ],
)  # fmt: skip
def test_what_is_refused_by_default(fake_twilio, client, call, error):
    """Standing authority, unclassified writes and what nobody can price send nothing."""
    with keybrake.run("agent", cap=100) as run, pytest.raises(error):
        call(client)

    assert fake_twilio.journal.entries == ()
    assert (run.calls, run.refused) == (0, 1)


def test_standing_authority_by_its_exact_name(fake_twilio, client):
    """A pattern that names it exactly lets standing authority pass; a wider one does not."""
    with (
        keybrake.run("agent", cap=1, allow=["twilio.*.create"]),
        pytest.raises(keybrake.EndpointNotAllowed),
    ):
        client.new_keys.create(friendly_name="x")
    with (
        keybrake.run("agent", cap=1, allow=["twilio.keys.create"]),
        pytest.raises(TwilioRestException) as caught,
    ):
        client.new_keys.create(friendly_name="x")

    # The fake has no such thing, but it was asked.
    assert not isinstance(caught.value, keybrake.KeybrakeError)
    assert len(fake_twilio.journal.entries) == 1


def test_a_stopped_run_does_not_even_look_up(fake_twilio, client):
    """A call whose price would have to be looked up sends no GET once its run is stopped."""
    with keybrake.run("agent", cap=10) as run:
        run.revoke()
        with pytest.raises(keybrake.RunRevoked):
            client.calls("CA1").update(url="https://example.com")

    assert fake_twilio.journal.entries == ()


@pytest.mark.parametrize("mode", ["enforce", "report"])
@pytest.mark.parametrize("slot", ["password", "username", "api key", "auth"])
def test_a_vault_key_is_never_sent(fake_twilio, ledger_url, rows, slot, mode):
    """A vault key in the SDK's slots is refused if there is nothing to take its place."""
    price_all()
    with keybrake.run("agent", cap=1, mode=mode) as run:
        http_client = fake_twilio.http_client()
        sid = fake_twilio.account_sid
        pairs = {
            "password": (sid, run.key),
            "username": (run.key, "x", sid),
            "api key": ("SK1", run.key, sid),
            "auth": (sid, "token"),
        }
        client = Client(*pairs[slot], http_client=http_client)
        auth = (sid, run.key) if slot == "auth" else None
        with pytest.raises(keybrake.CredentialUnavailable):
            client.request("POST", f"{API}/Messages.json", data=FORM, auth=auth)

    assert [row["state"] for row in rows()] == ["refused"]
    assert fake_twilio.journal.entries == ()


def test_a_forged_vault_key_is_never_sent(fake_twilio, ledger_url):
    """A key with a wrong checksum is refused without a run and without asking the ledger."""
    keybrake.install()
    client = Client("AC1", "kb_live_" + "a" * 49, http_client=fake_twilio.http_client())
    with pytest.raises(keybrake.CredentialUnavailable):
        client.messages.create(**SMS)

    assert fake_twilio.journal.entries == ()


def test_the_scope_of_a_vault_key(fake_twilio, ledger_url, rows):
    """A vault key in the password says whose call it is, with no run around it."""
    key = keybrake.issue_vault_key("texting", cap=1)
    client = Client("AC1", key, http_client=fake_twilio.http_client())
    with pytest.raises(keybrake.CredentialUnavailable) as caught:
        client.messages.create(**SMS)

    assert caught.value.run_id == key.run_id
    assert rows()[0]["state"] == "refused"


def test_unguarded(fake_twilio, client, rows):
    """A call that is let past on purpose is written down, and not counted."""
    with keybrake.run("agent", cap=1) as run:
        with keybrake.unguarded("on purpose"):
            client.messages.create(**SMS)
        assert str(run.spent) == "0.00"

    (call,) = [row for row in rows() if row["endpoint"] == "twilio.messages.create"]
    assert call["state"] == "unguarded"


@pytest.fixture
def refusal(client):
    """Return a refusal as it comes out of the SDK."""
    with keybrake.run("agent", cap=0), pytest.raises(keybrake.CapExceeded) as caught:
        client.messages.create(**SMS)
    return caught.value


def test_a_refusal_is_twilios_own_error_too(refusal):
    """Existing handlers of Twilio's errors catch it, and it says what our own one says."""
    assert isinstance(refusal, TwilioRestException)
    assert isinstance(refusal, TwilioException)
    assert isinstance(refusal, keybrake.CallRefused)
    assert not isinstance(refusal, OSError)
    assert (refusal.status, refusal.code, refusal.method) == (403, None, "POST")
    assert refusal.uri.endswith("/Messages.json")
    assert refusal.msg == str(refusal)
    assert refusal.details["reason"] == refusal.reason == "cap_exceeded"
    assert refusal.retryable is False
    assert "Do not retry" in str(refusal)


def _same(error):
    return (
        type(error).__name__,
        isinstance(error, TwilioRestException),
        isinstance(error, keybrake.CapExceeded),
        (error.status, error.uri, error.method, error.details),
        error.fields,
        str(error),
        repr(error),
    )


@pytest.mark.parametrize(
    "through", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_a_refusal_survives_copies(refusal, through):
    """Copying and pickling lose nothing of a refusal."""
    assert _same(through(refusal)) == _same(refusal)


def test_a_refusal_survives_another_process(refusal):
    """A refusal comes back whole from a process pool."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert _same(pool.apply(copy.copy, (refusal,))) == _same(refusal)
