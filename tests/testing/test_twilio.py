"""The fake Twilio, driven by the real SDK."""

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from keybrake.testing import FakeTwilio, Fault, Journal
from keybrake.testing.twilio import sync_client

ROOT = Path(__file__).parents[2]
TO, FROM = "+14155550100", "+14155550101"


@pytest.fixture
def fake(fake_twilio):
    """Have a fake Twilio under a shorter name."""
    return fake_twilio


@pytest.fixture
def client(fake):
    """Return a client of it."""
    return fake.client()


def test_a_message_is_priced_later(fake, client):
    """A message has no price when it is accepted; the journal knows it from the start."""
    sent = client.messages.create(to=TO, from_=FROM, body="a" * 161)

    assert (sent.status, sent.price, sent.num_segments) == ("queued", None, "2")
    assert client.messages(sent.sid).fetch().price is None
    (entry,) = fake.journal.moved("message")
    assert (entry.amount, entry.currency, entry.object_id) == (15_800, "usd", sent.sid)
    assert entry.params == {"To": TO, "From": FROM, "Body": "a" * 161}
    fake.finish(sent.sid)
    shown = client.messages(sent.sid).fetch()
    assert (shown.status, shown.price, shown.price_unit) == ("delivered", "-0.01580", "USD")
    assert fake.journal.total("message") == fake.journal.standing("message") == 15_800


def test_prices_may_come_by_themselves():
    """After ``price_after`` seconds a read shows the price."""
    with FakeTwilio(price_after=0.0) as fake:
        client = fake.client()
        sent = client.messages.create(to=TO, from_=FROM, body="x")
        assert sent.price is None
        assert client.messages(sent.sid).fetch().price == "-0.00790"


def test_a_price_can_be_set(fake, client):
    """``set_price`` names any price, in any currency."""
    sent = client.messages.create(to=TO, from_=FROM, body="x")
    fake.set_price(sent.sid, "-0.100", "JPY")
    shown = client.messages(sent.sid).fetch()

    assert (shown.price, shown.price_unit, shown.status) == ("-0.100", "JPY", "delivered")


def test_a_message_that_fails(fake, client):
    """A failed message costs the fee for it, and names no price."""
    sent = client.messages.create(to=TO, from_=FROM, body="x")
    fake.fail(sent.sid, 30007)
    shown = client.messages(sent.sid).fetch()

    assert (shown.status, shown.error_code, shown.price) == ("failed", 30007, None)
    assert fake.journal.standing() == 1_000


def test_a_scheduled_message_is_canceled(fake, client):
    """A scheduled message can be canceled, and another cannot."""
    service = {"messaging_service_sid": "MG1", "body": "x", "to": TO}
    later = client.messages.create(**service, schedule_type="fixed", send_at="2030-01-01T00:00:00Z")
    assert (later.status, later.num_segments) == ("scheduled", "0")
    assert client.messages(later.sid).update(status="canceled").status == "canceled"
    assert fake.journal.standing() == 0
    now = client.messages.create(**service)
    with pytest.raises(TwilioRestException):
        client.messages(now.sid).update(status="canceled")
    assert client.messages(now.sid).update(body="").body == ""


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"to": "+15005550001"}, 400, 21211),
        ({"to": "+15005550004"}, 400, 21610),
        ({"to": "+15005550009"}, 400, 21614),
        ({"from_": "+15005550007"}, 400, 21606),
        ({"from_": ""}, 400, 21603),
        ({"to": ""}, 400, 21604),
        ({"body": ""}, 400, 21602),
        ({"body": "a" * 1601}, 400, 21617),
    ],
)
def test_what_is_no_message_is_turned_down(fake, client, change, status, code):
    """Twilio's numbers to test with fail as they do there, and so does what is no message."""
    with pytest.raises(TwilioRestException) as caught:
        client.messages.create(**{"to": TO, "from_": FROM, "body": "x", **change})

    assert (caught.value.status, caught.value.code) == (status, code)
    assert fake.journal.moved() == []


@pytest.mark.parametrize(
    ("change", "cost"),
    [
        ({"media_url": ["https://a.example/1.png", "https://a.example/2.png"]}, 20_000),
        ({"to": f"whatsapp:{TO}", "from_": f"whatsapp:{FROM}"}, 5_000),
        ({"messaging_service_sid": "MG1", "from_": None}, 7_900),
    ],
)
def test_what_a_message_costs(fake, client, change, cost):
    """Pictures, WhatsApp and texts have prices of their own; the rates may be changed."""
    asked = {"to": TO, "from_": FROM, "body": "x", **change}
    client.messages.create(**{name: value for name, value in asked.items() if value})

    assert fake.journal.total() == cost
    fake.rates.update(dict.fromkeys(fake.rates, 1))
    client.messages.create(to=TO, from_=FROM, body="x")
    assert fake.journal.total() == cost + 1


def test_lists_by_destination_sender_and_day(fake, client):
    """Messages are listed newest first, in pages, by To, From and DateSent."""
    made = [
        client.messages.create(to=f"{TO[:-1]}{n}", from_=FROM, body=str(n)).sid for n in range(5)
    ]

    assert [one.sid for one in client.messages.list(page_size=2)] == made[::-1]
    assert [one.sid for one in client.messages.list(to=f"{TO[:-1]}3")] == [made[3]]
    assert client.messages.list(from_=TO) == []
    yesterday = datetime.now(UTC) - timedelta(days=1)
    assert len(client.messages.list(date_sent_after=yesterday)) == 5
    assert client.messages.list(date_sent_before=yesterday) == []
    assert client.messages.list(date_sent=yesterday) == []
    pages = [entry for entry in fake.journal.entries if entry.method == "GET"]
    assert len(pages) == 3 + 5


def test_a_call_lasts_as_long_as_it_is_said_to(fake, client):
    """A call costs its started minutes, once it is over."""
    call = client.calls.create(to=TO, from_=FROM, url="https://example.com")
    assert (call.status, call.price) == ("queued", None)
    fake.finish(call.sid, seconds=61)
    shown = client.calls(call.sid).fetch()

    assert (shown.status, shown.duration, shown.price) == ("completed", "61", "-0.02800")
    assert fake.journal.standing("call") == 28_000
    with pytest.raises(TwilioRestException) as caught:
        client.calls(call.sid).update(status="completed")
    assert caught.value.code == 21220


def test_a_call_is_canceled_and_recorded(fake, client):
    """A call that is canceled costs nothing; a recording has a price of its own."""
    call = client.calls.create(to=TO, from_=FROM, twiml="<Response/>")
    recording = client.calls(call.sid).recordings.create()
    assert recording.price is None
    assert client.calls(call.sid).update(status="canceled").status == "canceled"
    fake.finish()

    assert client.calls(call.sid).fetch().price is None
    assert client.recordings(recording.sid).fetch().price == "-0.00250"
    assert fake.journal.standing() == 2_500
    with pytest.raises(TwilioRestException):
        client.calls.create(to=TO, from_=FROM)


def test_numbers_are_bought_and_given_back(fake, client):
    """A number is paid for when it is bought, and stays paid for."""
    bought = client.incoming_phone_numbers.create(phone_number=TO)
    area = client.incoming_phone_numbers.create(area_code="510")

    assert bought.phone_number == TO
    assert area.phone_number.startswith("+1510")
    listed = client.incoming_phone_numbers.list()
    assert [one.sid for one in listed] == [area.sid, bought.sid]
    assert client.incoming_phone_numbers(bought.sid).fetch().status == "in-use"
    assert client.incoming_phone_numbers(bought.sid).delete() is True
    assert fake.journal.standing("number") == 2_300_000
    with pytest.raises(TwilioRestException):
        client.incoming_phone_numbers(bought.sid).fetch()
    with pytest.raises(TwilioRestException):
        client.incoming_phone_numbers.create()


def test_look_ups_are_reads_that_cost(fake, client):
    """A look-up is charged for each field it asks for beyond the free ones."""
    number = client.lookups.v2.phone_numbers(TO)
    assert number.fetch().valid is True
    assert number.fetch(fields="validation,caller_name,sim_swap").valid is True
    client.lookups.v1.phone_numbers(TO).fetch(type=["carrier"])

    assert [entry.amount for entry in fake.journal.moved("lookup")] == [16_000, 8_000]


def test_a_verification(fake, client):
    """Codes cost when they are sent, success when it is proved; a price comes later here, too."""
    service = client.verify.v2.services("VA1")
    first = service.verifications.create(to=TO, channel="sms")
    again = service.verifications.create(to=TO, channel="call")
    assert first.sid == again.sid
    attempts = [sent["attempt_sid"] for sent in again.send_code_attempts]
    assert service.verification_checks.create(to=TO, code="1").status == "pending"
    checked = service.verification_checks.create(verification_sid=first.sid, code="123456")
    assert (checked.status, checked.valid) == ("approved", True)
    assert service.verifications(first.sid).fetch().status == "approved"
    unpriced = client.verify.v2.verification_attempts(attempts[0]).fetch()
    assert unpriced.price["value"] is None
    fake.finish()
    fake.set_price(attempts[1], "0.01000")
    shown = [client.verify.v2.verification_attempts(sid).fetch() for sid in attempts]

    assert [one.price["value"] for one in shown] == ["0.00830", "0.01000"]
    assert {one.conversion_status for one in shown} == {"converted"}
    assert fake.journal.standing("verification") == 8_300 + 10_000 + 50_000
    with pytest.raises(TwilioRestException):
        service.verification_checks.create(to=TO, code="123456")
    with pytest.raises(TwilioRestException):
        service.verifications.create(to="", channel="sms")


@pytest.mark.parametrize("path", ["Messages/SM1.json", "Messages/CA1.json", "Nothing.json"])
def test_what_is_not_there(client, fake, path):
    """What the fake does not have is not found."""
    answer = client.request(
        "GET", f"https://api.twilio.com/2010-04-01/Accounts/{fake.account_sid}/{path}"
    )

    assert (answer.status_code, '"code": 20404' in answer.text) == (404, True)


def test_messages_are_deleted_and_judged(client):
    """A message can be forgotten, and feedback about it is taken."""
    sent = client.messages.create(
        to=TO, from_=FROM, body="x", media_url=["https://a.example/1.png"]
    )
    assert sent.sid.startswith("MM")
    assert client.messages(sent.sid).feedback.create(outcome="confirmed").outcome == "confirmed"
    assert client.messages(sent.sid).delete() is True
    with pytest.raises(TwilioRestException):
        client.messages(sent.sid).fetch()
    assert client.api.v2010.accounts(client.account_sid).fetch().status == "active"


@pytest.mark.parametrize("pair", [("AC1", "kb_live_x"), ("nobody", "x"), ("AC1", "")])
def test_a_credential_has_to_look_like_one(fake, pair):
    """A vault key or nothing at all is turned down, and not repeated."""
    client = Client("AC1", "x", http_client=fake.http_client())
    url = "https://api.twilio.com/2010-04-01/Accounts/AC1.json"
    answer = client.request("GET", url, auth=pair)

    assert answer.status_code == 401
    assert "kb_live_x" not in answer.text


def test_no_credential_at_all(fake):
    """A request without Basic authorization is turned down."""
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic ="}):
        answer = requests.get(
            f"{fake.url}/2010-04-01/Accounts/AC1.json", headers=headers, timeout=5
        )
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("kind", "status", "moved"),
    [
        ("error_500_before", 500, 0),
        ("error_500_after", 500, 1),
        ("rate_limit", 429, 0),
        ("conflict", 409, 0),
    ],
)
def test_faults(fake, client, kind, status, moved):
    """A fault comes before or after the message is out; the journal says which."""
    fake.inject(Fault(kind))
    with pytest.raises(TwilioRestException) as caught:
        client.messages.create(to=TO, from_=FROM, body="x")

    assert caught.value.status == status
    assert len(fake.journal.moved()) == moved


def test_a_repeated_message_is_another_one(fake, client):
    """Twilio knows no idempotency keys."""
    url = f"https://api.twilio.com/2010-04-01/Accounts/{fake.account_sid}/Messages.json"
    for _ in range(2):
        client.request(
            "POST",
            url,
            data={"To": TO, "From": FROM, "Body": "x"},
            headers={"Idempotency-Key": "k"},
        )

    assert len(fake.journal.moved()) == 2


# twilio hands aiohttp its credential in ways that aiohttp has deprecated.
@pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The 'auth' parameter:DeprecationWarning")
def test_async_calls(fake):
    """Async clients come here as well."""

    async def main():
        async with fake.async_http_client() as http_client:
            client = fake.client(http_client=http_client)
            sent = await client.messages.create_async(to=TO, from_=FROM, body="x")
            return await client.messages(sent.sid).fetch_async()

    assert asyncio.run(main()).status == "queued"


@pytest.mark.parametrize("option", [{"edge": "dublin"}, {"region": "ie1"}, {}])
def test_edges_and_clients_without_a_pool(fake, option):
    """Every host of Twilio's leads here."""
    client = fake.client(**option, http_client=fake.http_client(pool_connections=False))

    assert client.messages.create(to=TO, from_=FROM, body="x").sid


def test_other_hosts_stay_what_they_are(fake, client):
    """Only Twilio's own hosts are taken for the fake."""
    answer = client.request("GET", f"{fake.url}/_fake/journal")

    assert (answer.status_code, answer.text.strip()) == (200, "[]")


@pytest.mark.timeout(60)
def test_a_process_of_its_own(tmp_path):
    """``python -m keybrake.testing.twilio`` serves until its input is closed, and prices come."""
    journal = tmp_path / "journal.jsonl"
    command = [sys.executable, "-m", "keybrake.testing.twilio", "--journal", str(journal)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as server:
        url = server.stdout.readline().strip()
        http_client = sync_client(url)
        sent = Client("AC1", "x", http_client=http_client).messages.create(
            to=TO, from_=FROM, body="x"
        )
        http_client.session.close()
        server.stdin.close()
        assert server.wait(timeout=10) == 0

    (entry,) = Journal.read(journal).moved("message")
    assert entry.object_id == sent.sid
