"""Does this version of twilio keep the guard's core promises? Run by tests/compat/run.py, unchanged, for each."""

import asyncio
import pickle

import pytest
import requests
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

import keybrake
from keybrake import sdk
from keybrake.testing import FakeTwilio, Fault

SMS = {"to": "+14155550100", "from_": "+14155550101", "body": "hello"}
PRICES = {
    "sms_segment": {"+1": "0.01"},
    "voice_minute": {"+1": "0.014"},
    "lookup_field": {"caller_name": "0.01"},
    "verify_success": "0.05",
    "verify_channel": {"sms": {"+1": "0.0083"}},
    "number_month": {"US:local": "1.15"},
}


@pytest.fixture(autouse=True)
def ledger(monkeypatch, tmp_path):
    """Keep the books of each test in a ledger of its own."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("KEYBRAKE_LEDGER", url)
    keybrake.configure(ledger=url, prices={"twilio": PRICES})
    return url


@pytest.fixture
def fake():
    """Start a fake Twilio."""
    with FakeTwilio() as running:
        yield running


@pytest.fixture(params=["sync", "async"])
def call(request, fake):
    """Return a caller of the SDK's methods, in the plain or in the async way."""
    if request.param == "sync":
        client = fake.client()

        def plainly(find, name, **params):
            return getattr(find(client), name)(**params)

        return plainly

    def in_a_loop(find, name, **params):
        async def main():
            async with fake.async_http_client() as http_client:
                client = fake.client(http_client=http_client)
                return await getattr(find(client), f"{name}_async")(**params)

        return asyncio.run(main())

    return in_a_loop


def _messages(client):
    return client.messages


def test_a_message_and_its_price(fake, call):
    """A message counts its estimate at once, and its price when a read shows it."""
    with keybrake.run("agent", cap="0.015") as run:
        sent = call(_messages, "create", **SMS)
        with pytest.raises(keybrake.CapExceeded):
            call(_messages, "create", **SMS)
        assert str(run.spent) == "0.01"
        fake.finish(sent.sid)
        call(lambda client: client.messages(sent.sid), "fetch")

    assert len(fake.journal.moved()) == 1
    assert (str(run.spent), run.calls, run.refused) == ("0.0079", 2, 1)


def test_everything_else_that_costs(fake, call):
    """Calls, look-ups, numbers and verifications are known under the same names everywhere."""
    with keybrake.run("agent", cap=10) as run:
        made = call(
            lambda c: c.calls, "create", to=SMS["to"], from_=SMS["from_"], url="https://x.dev"
        )
        assert str(run.spent) == "3.36"
        call(lambda c: c.calls(made.sid), "update", status="canceled")
        assert str(run.spent) == "0.00"
        call(lambda c: c.lookups.v2.phone_numbers(SMS["to"]), "fetch", fields="caller_name")
        call(lambda c: c.incoming_phone_numbers, "create", phone_number=SMS["to"])
        call(
            lambda c: c.verify.v2.services("VA1").verifications,
            "create",
            to=SMS["to"],
            channel="sms",
        )

    assert str(run.spent) == "1.2183"


def test_a_refusal(fake, call):
    """A refusal sends nothing, is Twilio's own error too, and pickles."""
    with keybrake.run("agent", cap=0), pytest.raises(TwilioRestException) as caught:
        call(_messages, "create", **SMS)

    assert isinstance(caught.value, keybrake.CapExceeded)
    assert (caught.value.status, caught.value.method) == (403, "POST")
    assert str(caught.value) == caught.value.msg == caught.value.message
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.fields, again.uri) == (caught.value.fields, caught.value.uri)
    assert fake.journal.entries == ()


def test_pages_and_requests_by_hand(fake):
    """A page is a call, and so is a request by hand, at any edge."""
    client = fake.client(edge="dublin", region="ie1")
    for _ in range(5):
        client.messages.create(**SMS)
    with keybrake.run("agent", cap="0.01") as run:
        assert len(client.messages.list(page_size=2)) == 5
        url = f"https://api.twilio.com/2010-04-01/Accounts/{fake.account_sid}/Messages.json"
        data = {"To": SMS["to"], "From": SMS["from_"], "Body": "x"}
        assert client.request("POST", url, data=data).status_code == 201
        with pytest.raises(keybrake.CapExceeded):
            client.request("POST", url, data=data)

    assert (str(run.spent), run.calls) == ("0.01", 4)


@pytest.mark.parametrize(
    ("kind", "reserved"),
    [("error_500_after", "0.01"), ("reset_after", "0.01"), ("rate_limit", "0.00")],
)
def test_outcomes(fake, call, kind, reserved):
    """Only proof voids a call; whatever may have been sent counts in full."""
    fake.inject(Fault(kind))
    with keybrake.run("agent", cap=1) as run:
        with pytest.raises(Exception) as caught:  # noqa: PT011 -- each HTTP client has errors of its own
            call(_messages, "create", **SMS)
        assert not isinstance(caught.value, keybrake.KeybrakeError)
        assert str(run.reserved) == reserved


def test_a_refused_connection_is_voided(fake, call):
    """Nothing can have happened at a vendor nobody could connect to."""
    fake.stop()
    with keybrake.run("agent", cap=1) as run:
        with pytest.raises(Exception) as caught:  # noqa: PT011 -- each HTTP client has errors of its own
            call(_messages, "create", **SMS)
        assert not isinstance(caught.value, keybrake.KeybrakeError)
        assert str(run.remaining) == "1.00"


def test_a_session_that_retries_proves_nothing(fake):
    """What a session tried before its last error, nobody has seen."""
    http_client = fake.http_client()
    http_client.session.mount("http://", requests.adapters.HTTPAdapter(max_retries=1))
    client = fake.client(http_client=http_client)
    fake.stop()
    with keybrake.run("agent", cap=1) as run:
        with pytest.raises(requests.ConnectionError):
            client.messages.create(**SMS)
        assert str(run.reserved) == "0.01"


def test_a_vault_key_is_never_sent(fake, monkeypatch):
    """The operator's pair goes out in its place; without one, or elsewhere, nothing does."""
    key = keybrake.issue_vault_key("agent", cap=1)
    client = Client(fake.account_sid, key, http_client=fake.http_client())
    with pytest.raises(keybrake.CredentialUnavailable) as caught:
        client.messages.create(**SMS)
    assert caught.value.run_id == key.run_id
    place = {"account_sid": fake.account_sid, "auth_token": "env://MINE"}
    keybrake.configure(credentials={"twilio": place})
    monkeypatch.setenv("MINE", fake.auth_token)
    with pytest.raises(keybrake.HostNotAllowed):
        client.messages.create(**SMS)
    assert fake.journal.entries == ()
    keybrake.configure(extra_hosts={"twilio": [fake.url]})
    assert client.messages.create(**SMS).sid
    assert client.http_client._test_only_last_request.auth == ("", key)

    async def main():
        client.http_client = fake.async_http_client()
        try:
            return await client.messages.create_async(**SMS)
        finally:
            await client.http_client.close()

    assert asyncio.run(main()).sid


def test_hooks_in_place(fake):
    """Every hook is in, and uninstall() takes it out."""
    import twilio.http.async_http_client  # noqa: F401 -- nothing waits for it any more

    keybrake.install()
    found = {name: state for name, state in sdk.status() if name.startswith("twilio.")}
    # Not every environment has what Twilio's validating client needs.
    states = {name: state for name, state in found.items() if "validation" not in name}
    assert set(states.values()) == {"in place"}
    assert len(states) == 4
    keybrake.uninstall()
    assert "in place" not in dict(sdk.status()).values()
