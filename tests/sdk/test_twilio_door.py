"""Does every way of calling the Twilio SDK pass the one door, once?"""

import fcntl
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import requests
import twilio
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.rest import Client

import keybrake
from keybrake import sdk
from keybrake.testing import FakeTwilio
from keybrake.testing.twilio import sync_client
from tests.vendors._twilio import API, SMS, client_at, position, price_all


@pytest.fixture
def client(fake_twilio, ledger_url):
    """Return a client of a fake Twilio, with prices in force."""
    price_all()
    return fake_twilio.client()


def test_a_message(fake_twilio, client, rows, ledger_url):
    """A message is one wire request and one row, and counts its estimate until it has a price."""
    with keybrake.run("agent", cap=1) as run:
        sent = client.messages.create(**SMS)
        assert str(run.spent) == "0.0145"
        fake_twilio.finish(sent.sid)
        assert client.messages(sent.sid).fetch().price == "-0.00790"

    create, retrieve = rows()
    assert (create["endpoint"], create["state"]) == ("twilio.messages.create", "settled")
    assert (create["reserved"], create["cost"], create["currency"]) == (14_500, 7_900, "usd")
    assert (create["object_id"], create["http_status"]) == (sent.sid, 201)
    assert (create["account"], create["meter"]) == (fake_twilio.account_sid, "usage")
    assert create["path"] == f"/2010-04-01/Accounts/{fake_twilio.account_sid}/Messages.json"
    assert (retrieve["endpoint"], retrieve["cost"]) == ("twilio.messages.retrieve", 0)
    key = f"twilio:{fake_twilio.account_sid}:{sent.sid}"
    assert position(ledger_url, key) == ("settled", 7_900)
    assert len([entry for entry in fake_twilio.journal.entries if entry.method]) == 2
    assert fake_twilio.journal.standing() == 7_900
    assert str(run.spent) == "0.0079"


def test_the_cap_stops_a_texting_agent(fake_twilio, client):
    """As many messages go out as their estimates fit under the cap."""
    with keybrake.run("agent", cap="0.15") as run:
        for _ in range(10):
            client.messages.create(**SMS)
        with pytest.raises(keybrake.CapExceeded):
            client.messages.create(**SMS)

    assert len(fake_twilio.journal.moved("message")) == 10
    assert str(run.spent) == "0.145"


def test_a_price_makes_room(fake_twilio, client):
    """What a message turned out not to cost can be spent on the next one."""
    with keybrake.run("agent", cap="0.02") as run:
        sent = client.messages.create(**SMS)
        with pytest.raises(keybrake.CapExceeded):
            client.messages.create(**SMS)
        fake_twilio.set_price(sent.sid, "-0.00500")
        client.messages(sent.sid).fetch()
        client.messages.create(**SMS)

    assert str(run.spent) == "0.0195"


def test_a_price_above_the_estimate_counts_in_full(fake_twilio, client):
    """A price that came out higher is recorded even beyond the cap, and then nothing more goes."""
    with keybrake.run("agent", cap="0.02") as run:
        sent = client.messages.create(**SMS)
        fake_twilio.set_price(sent.sid, "-0.03000")
        client.messages(sent.sid).fetch()
        assert str(run.spent) == "0.03"
        with pytest.raises(keybrake.CapExceeded):
            client.messages.create(**SMS)


def test_a_message_that_fails_or_is_called_off(fake_twilio, client):
    """A failed message costs the fee for it, a scheduled one that is canceled costs nothing."""
    with keybrake.run("agent", cap=1) as run:
        failed = client.messages.create(**SMS)
        fake_twilio.fail(failed.sid)
        client.messages(failed.sid).fetch()
        assert str(run.spent) == "0.001"
        later = client.messages.create(
            to=SMS["to"],
            body="later",
            messaging_service_sid="MG1",
            schedule_type="fixed",
            send_at="2030-01-01T00:00:00Z",
        )
        assert str(run.spent) == "0.0155"
        client.messages(later.sid).update(status="canceled")
        assert str(run.spent) == "0.001"

    assert fake_twilio.journal.standing() == 1_000


def test_redacting_a_message_changes_nothing_about_its_cost(fake_twilio, client, ledger_url):
    """A message whose text is taken away stays settled at its price."""
    with keybrake.run("agent", cap=1) as run:
        sent = client.messages.create(**SMS)
        fake_twilio.finish(sent.sid)
        client.messages(sent.sid).fetch()
        client.messages(sent.sid).update(body="")

    assert str(run.spent) == "0.0079"
    key = f"twilio:{fake_twilio.account_sid}:{sent.sid}"
    assert position(ledger_url, key) == ("settled", 7_900)


def test_calls_numbers_lookups_and_verifications(fake_twilio, client, rows):
    """Everything else that costs something is counted at the same door."""
    with keybrake.run("agent", cap=10) as run:
        call = client.calls.create(to=SMS["to"], from_=SMS["from_"], url="https://example.com")
        assert str(run.spent) == "3.36"
        fake_twilio.finish(call.sid, seconds=61)
        client.calls(call.sid).fetch()
        assert str(run.spent) == "0.028"
        number = client.incoming_phone_numbers.create(phone_number="+14155550177")
        assert str(run.spent) == "1.178"
        client.incoming_phone_numbers(number.sid).delete()
        assert str(run.spent) == "1.178"
        client.lookups.v2.phone_numbers(SMS["to"]).fetch(fields="caller_name")
        assert str(run.spent) == "1.188"
        service = client.verify.v2.services("VA1")
        service.verifications.create(to=SMS["to"], channel="sms")
        service.verification_checks.create(to=SMS["to"], code="123456")
        assert str(run.spent) == "1.2463"

    assert [row["endpoint"].removeprefix("twilio.") for row in rows()] == [
        "calls.create",
        "calls.retrieve",
        "incoming_phone_numbers.create",
        "incoming_phone_numbers.delete",
        "lookups.phone_numbers.retrieve",
        "verify.verifications.create",
        "verify.verification_check.create",
    ]
    assert [row["recurring"] for row in rows()] == [0, 0, 1, 0, 0, 0, 0]


def test_a_live_call_is_looked_up_once(fake_twilio, client, rows):
    """A call of somebody else's that is sent elsewhere is priced by where it goes."""
    other = client.calls.create(to=SMS["to"], from_=SMS["from_"], url="https://example.com")
    with keybrake.run("agent", cap=10) as run:
        client.calls(other.sid).update(url="https://example.com/next")
        client.calls(other.sid).update(url="https://example.com/last")
        assert str(run.spent) == "3.36"
        client.calls(other.sid).update(status="canceled")

    assert str(run.spent) == "0.00"
    assert [row["endpoint"] for row in rows()] == ["twilio.lookup", *["twilio.calls.update"] * 3]


def test_pages_and_client_request(fake_twilio, client, rows):
    """A page is a row, and so is a request made by hand."""
    for _ in range(5):
        client.messages.create(**SMS)
    with keybrake.run("agent", cap=0) as run:
        assert len(list(client.messages.stream(page_size=2))) == 5
        page = client.messages.page(page_size=2)
        assert page.next_page().next_page().next_page() is None
        url = f"https://api.twilio.com/2010-04-01/Accounts/{fake_twilio.account_sid}/Messages.json"
        assert client.request("get", url).status_code == 200

    assert [row["endpoint"] for row in rows()] == ["twilio.messages.list"] * 7
    assert (str(run.spent), run.calls) == ("0.00", 7)


def test_a_request_by_hand_costs_the_same(fake_twilio, client, rows):
    """``client.request`` is judged as the method that makes the same request."""
    url = f"https://api.twilio.com/2010-04-01/Accounts/{fake_twilio.account_sid}/Messages.json"
    data = {"To": SMS["to"], "From": SMS["from_"], "Body": "a" * 161}
    with keybrake.run("agent", cap="0.029") as run:
        assert client.request("post", url, None, data).status_code == 201
        with pytest.raises(keybrake.CapExceeded):
            client.request("POST", url, data=data)

    assert str(run.spent) == "0.029"


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ({}, "api.twilio.com"),
        ({"region": "ie1"}, "api.ie1.twilio.com"),
        ({"edge": "dublin"}, "api.dublin.us1.twilio.com"),
        ({"edge": "dublin", "region": "ie1"}, "api.dublin.ie1.twilio.com"),
    ],
)
def test_regions_and_edges(fake_twilio, ledger_url, rows, options, host):
    """The URL that is judged is the one the client goes to; all the hosts of Twilio are."""
    price_all()
    client = fake_twilio.client(**options)
    with keybrake.run("agent", cap=1) as run:
        client.messages.create(**SMS)
        client.lookups.v2.phone_numbers(SMS["to"]).fetch(fields="caller_name")

    assert [row["endpoint"] for row in rows()] == [
        "twilio.messages.create",
        "twilio.lookups.phone_numbers.retrieve",
    ]
    assert rows()[0]["origin"] == f"https://{host}"
    assert str(run.spent) == "0.0245"


def test_a_subaccount_is_an_account_of_its_own(fake_twilio, client, rows):
    """The account in the path is the one a position belongs to, whoever asks."""
    with keybrake.run("agent", cap=1):
        sent = client.api.v2010.accounts("AC" + "7" * 32).messages.create(**SMS)

    assert rows()[0]["position"] == f"twilio:AC{'7' * 32}:{sent.sid}"


def test_own_http_client_is_used(fake_twilio, ledger_url, rows):
    """A user's own HTTP client makes the request, and the guard stands above it."""
    price_all()
    base = type(sync_client(fake_twilio.url))

    class Mine(base):
        urls: list[str] = []  # noqa: RUF012 -- one test, one list

        def request(self, method, url, *args, **kwargs):
            self.urls.append(url)
            return super().request(method, url, *args, **kwargs)

    http_client = Mine()
    http_client.fake_url = fake_twilio.url
    client = fake_twilio.client(http_client=http_client)
    with keybrake.run("agent", cap="0.0145"):
        client.messages.create(**SMS)
        with pytest.raises(keybrake.CapExceeded):
            client.messages.create(**SMS)
    http_client.session.close()

    path = f"/2010-04-01/Accounts/{fake_twilio.account_sid}/Messages.json"
    assert Mine.urls == [f"https://api.twilio.com{path}"]


def test_no_run_no_guard(fake_twilio, unmade_ledger):
    """In a process without a run calls are left alone, and no ledger is made."""
    keybrake.install()
    sent = fake_twilio.client().messages.create(**SMS)

    assert sent.status == "queued"
    assert not Path(unmade_ledger.removeprefix("sqlite:///")).exists()


def test_clients_made_before(fake_twilio, ledger_url, rows):
    """A client, a list and a context made before the guard was installed are guarded."""
    keybrake.uninstall()
    client = fake_twilio.client()
    messages = client.messages
    price_all()
    with keybrake.run("agent", cap=1):
        messages.create(**SMS)

    assert len(rows()) == 1


def test_own_parameters_stay_as_they_were(client, fake_twilio):
    """The caller's dictionaries are not changed, not even by the SDK's own headers."""
    data, headers = {"To": SMS["to"], "From": SMS["from_"], "Body": "x"}, {"X-Mine": "1"}
    url = f"https://api.twilio.com/2010-04-01/Accounts/{fake_twilio.account_sid}/Messages.json"
    with keybrake.run("agent", cap=1):
        client.request("POST", url, data=data, headers=headers)

    assert data == {"To": SMS["to"], "From": SMS["from_"], "Body": "x"}
    assert headers == {"X-Mine": "1"}


def test_what_was_decided_on_is_what_is_sent(client, fake_twilio, ledger_url):
    """Parameters that another thread changes while a call waits are not what goes out."""
    data = {"To": SMS["to"], "From": SMS["from_"], "Body": "short", "MediaUrl": []}
    url = f"https://api.twilio.com/2010-04-01/Accounts/{fake_twilio.account_sid}/Messages.json"
    lock = Path(ledger_url.removeprefix("sqlite:///") + ".lock")
    with keybrake.run("agent", cap="0.02") as run, ThreadPoolExecutor() as pool:
        with lock.open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            call = pool.submit(client.request, "POST", url, data=data)
            # It has been described, and waits for the ledger.
            assert not wait([call], timeout=0.3).done
            data["Body"] = "long" * 300
            data["MediaUrl"].append("https://example.com/a.png")
        assert call.result(timeout=10).status_code == 201

    (entry,) = fake_twilio.journal.moved()
    assert entry.params["Body"] == "short"
    assert "MediaUrl" not in entry.params
    assert str(run.spent) == "0.0145"


def _calls(client):
    url = f"{API}/Messages.json"
    yield lambda: client.messages.create(
        **SMS, media_url=["https://a.example/1", "https://a.example/2"]
    )
    yield lambda: client.request(
        "POST", url, data={"To": "+1415", "Body": "Ünïcode & = ? #", "A": None}
    )
    yield lambda: client.messages.list(to="+14155550100", limit=2)
    yield lambda: client.lookups.v2.phone_numbers("+14155550100").fetch(fields="caller_name")
    yield lambda: client.incoming_phone_numbers("PN1").delete()
    yield lambda: client.request(
        "GET", f"{url}?PageSize=2&Page=1", params={"To": "+1"}, headers={"X-A": "b"}
    )
    yield lambda: client.request("GET", url, timeout=5, auth=("AC2", "other"))


@pytest.mark.parametrize("number", range(7))
def test_equal_bytes(wire, ledger_url, number):
    """With and without the guard: equal bytes on the wire."""
    price_all()
    body = {"sid": "SM1", "messages": [], "phone_number": "+1", "status": "queued"}
    wire.otherwise = (200, body, {})
    with client_at(wire.url) as client:

        def take():
            try:
                list(_calls(client))[number]()
            except TwilioException as error:
                assert not isinstance(error, keybrake.KeybrakeError)  # noqa: PT017

        take()
        with keybrake.run("agent", cap=10):
            take()

    assert len(wire.seen) == 2
    assert wire.seen[0] == wire.seen[1]


def test_equal_answers(wire, ledger_url):
    """The answer is the SDK's own, untouched, and so is its error."""
    price_all()
    wire.otherwise = (400, {"code": 21211, "message": "no", "status": 400}, {"X-Home": "1"})
    with client_at(wire.url) as client, keybrake.run("agent", cap=1) as run:
        with pytest.raises(TwilioRestException) as caught:
            client.messages.create(**SMS)
        assert type(caught.value) is TwilioRestException
        assert (caught.value.code, caught.value.status) == (21211, 400)
        raw = client.request("POST", f"{API}/Messages.json", data={"To": SMS["to"], "Body": "x"})
        assert (raw.status_code, raw.headers["X-Home"]) == (400, "1")

    assert (str(run.spent), str(run.reserved)) == ("0.00", "0.00")


def test_hooks_in_place(ledger_url):
    """Every hook is in, and uninstall() takes it out."""
    import twilio.http.async_http_client
    import twilio.http.validation_client  # noqa: F401 -- neither waits for anything any more

    plain = Client.request
    keybrake.install()
    states = {name: state for name, state in sdk.status() if name.startswith("twilio.")}
    assert len(states) == 5
    assert set(states.values()) == {"in place"}
    keybrake.uninstall()
    assert "in place" not in dict(sdk.status()).values()
    assert Client.request is plain


@pytest.mark.parametrize("how", ["positional", "by name"])
def test_a_wrapper_on_top_counts_once(client, rows, how):
    """Somebody else's wrapper between two of ours leaves one call one call."""
    owner = twilio.base.client_base.ClientBase
    keybrake.uninstall()
    plain = owner.request
    keybrake.install()
    guarded = owner.request

    def traced(  # noqa: PLR0917 -- as the SDK's own
        self, method, uri, params, data, headers, auth=None, timeout=None, allow_redirects=False
    ):
        rest = (auth, timeout, allow_redirects)
        if how == "positional":
            return guarded(self, method, uri, params, data, headers, *rest)
        names = ("auth", "timeout", "allow_redirects")
        more = dict(zip(names, rest, strict=True))
        return guarded(
            self, method=method, uri=uri, params=params, data=data, headers=headers, **more
        )

    owner.request = traced
    try:
        keybrake.install()
        with keybrake.run("agent", cap=1) as run:
            client.messages.create(**SMS)
        keybrake.uninstall()
    finally:
        owner.request = plain

    assert (run.calls, len(rows())) == (1, 1)


@pytest.mark.parametrize("version", ["7.16.5", "10.0.0", "11.1", "", "x"])
def test_another_version_is_refused(monkeypatch, version):
    """A version nobody has looked at is refused at install, and not left unguarded."""
    monkeypatch.setattr(twilio, "__version__", version)
    with pytest.raises(keybrake.UnsupportedSDK, match="twilio"):
        keybrake.install()
    monkeypatch.undo()
    keybrake.install()


def test_a_chokepoint_that_looks_different_is_refused(monkeypatch):
    """A request method with other parameters is not the one that is meant."""
    keybrake.uninstall()
    client_base = sys.modules["twilio.base.client_base"]
    monkeypatch.setattr(client_base.ClientBase, "request", lambda self, method, uri: None)
    with pytest.raises(keybrake.UnsupportedSDK, match="no parameter"):
        keybrake.install()
    monkeypatch.undo()
    keybrake.install()


def test_redirects_are_not_followed(wire, ledger_url, rows):
    """A redirected call goes nowhere else, whatever the caller allows."""
    price_all()
    with FakeTwilio() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            away = {"Location": f"{elsewhere.url}/2010-04-01/Accounts/AC1.json"}
            wire.otherwise = (status, {}, away)
            with client_at(wire.url) as client, keybrake.run("agent", cap=1) as run:
                ask = {"data": {"To": SMS["to"], "From": SMS["from_"], "Body": "x"}}
                with pytest.raises(keybrake.CallStopped, match=f"the answer {status} leads on"):
                    client.request("POST", f"{API}/Messages.json", **ask, allow_redirects=True)
                # Who does not ask to be led on sees where to.
                assert client.request("GET", f"{API}/Calls.json").status_code == status
            assert str(run.reserved) == "0.0145"
        assert elsewhere.journal.entries == ()

    assert [row["state"] for row in rows()] == ["unknown", "settled"] * 5


def test_a_plain_session_is_still_redirected(wire, ledger_url):
    """What is no guarded call is redirected as its HTTP client likes."""
    wire.answer(302, {}, {"Location": f"{wire.url}/there"})
    wire.answer(200, {"here": True})
    with keybrake.run("agent", cap=1):
        assert requests.get(f"{wire.url}/", timeout=5).json() == {"here": True}
