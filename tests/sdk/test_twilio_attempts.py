"""What does a Twilio call that went wrong prove about what it cost?"""

import pytest
import requests
from twilio.base.exceptions import TwilioRestException
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

import keybrake
from keybrake.testing import Fault
from tests.vendors._twilio import SMS, client_at, price_all


@pytest.fixture
def client(fake_twilio, ledger_url):
    """Return a client of a fake Twilio, with prices in force."""
    price_all()
    return fake_twilio.client()


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("error_500_before", "unknown"),
        ("error_500_after", "unknown"),
        ("reset_before", "unknown"),
        ("reset_after", "unknown"),
        ("timeout_after", "unknown"),
        ("truncate", "unknown"),
        ("garbage", "unknown"),
        ("rate_limit", "voided"),
        ("conflict", "voided"),
    ],
)
def test_faults(fake_twilio, client, rows, kind, state):
    """Only proof voids a call, and the SDK's own error passes on; what moved is never less."""
    fake_twilio.inject(Fault(kind, hang=0.1))
    with keybrake.run("agent", cap=1) as run:
        with pytest.raises((TwilioRestException, requests.RequestException, ValueError)) as caught:
            client.messages.create(**SMS)
        assert not isinstance(caught.value, keybrake.KeybrakeError)
        assert fake_twilio.journal.total() <= (run.spent + run.reserved) * 1_000_000

    assert [row["state"] for row in rows()] == [state]
    assert str(run.reserved) == ("0.00" if state == "voided" else "0.0145")


def test_a_refused_connection_is_voided(fake_twilio, client, rows):
    """A connection that was never made sent nothing."""
    fake_twilio.stop()
    with keybrake.run("agent", cap=1) as run, pytest.raises(requests.ConnectionError):
        client.messages.create(**SMS)

    assert [row["state"] for row in rows()] == ["voided"]
    assert str(run.remaining) == "1.00"


def test_what_cannot_be_encoded_is_voided(fake_twilio, client, rows):
    """A text that no request can hold never left."""
    with keybrake.run("agent", cap=1), pytest.raises(UnicodeEncodeError):
        client.messages.create(**{**SMS, "body": "\ud800"})

    assert [row["state"] for row in rows()] == ["voided"]
    assert fake_twilio.journal.entries == ()


def test_a_timeout_of_the_callers(fake_twilio, client, rows):
    """A call that was given up waiting for counts in full."""
    fake_twilio.inject(Fault("slow", delay=5))
    with keybrake.run("agent", cap=1) as run, pytest.raises(requests.ReadTimeout):
        client.request(
            "POST",
            f"https://api.twilio.com/2010-04-01/Accounts/{fake_twilio.account_sid}/Messages.json",
            data={"To": SMS["to"], "From": SMS["from_"], "Body": "x"},
            timeout=0.2,
        )

    assert [row["state"] for row in rows()] == ["unknown"]
    assert str(run.reserved) == "0.0145"


def test_a_session_that_retries_proves_nothing(fake_twilio, ledger_url, rows):
    """What a client's session tried before the last error, nobody has seen."""
    price_all()
    client = fake_twilio.client(http_client=fake_twilio.http_client(max_retries=2))
    client.http_client.session.mount(
        "http://", requests.adapters.HTTPAdapter(max_retries=1)
    )  # fmt: skip
    fake_twilio.stop()
    with keybrake.run("agent", cap=1), pytest.raises(requests.ConnectionError):
        client.messages.create(**SMS)

    assert [row["state"] for row in rows()] == ["unknown"]


class Own(HttpClient):
    """An HTTP client of a user's own, that never asks the SDK's."""

    def __init__(self, ends):
        self.ends = ends
        self.tries = 0

    def request(self, method, uri, *args, **kwargs):
        self.tries += 1
        if isinstance(self.ends, Exception):
            raise self.ends
        return Response(self.ends, '{"sid": "SM1", "status": "queued"}')


@pytest.mark.parametrize(
    ("ends", "state"),
    [
        (201, "settled"),
        (400, "voided"),
        (429, "unknown"),
        (500, "unknown"),
        (ConnectionRefusedError(), "unknown"),
    ],
)
def test_an_http_client_of_the_users_own(fake_twilio, ledger_url, rows, ends, state):
    """What a client nobody has looked at tried by itself is not taken for proof."""
    price_all()
    client = fake_twilio.client(http_client=Own(ends))
    with keybrake.run("agent", cap=1):
        try:
            client.messages.create(**SMS)
        except (TwilioRestException, OSError) as error:
            assert not isinstance(error, keybrake.KeybrakeError)  # noqa: PT017

    assert client.http_client.tries == 1
    assert [row["state"] for row in rows()] == [state]


class Interrupted(BaseException):
    """What a signal handler raises in the middle of a call."""


def test_interrupted_after_an_answer_is_unknown(fake_twilio, ledger_url, rows):
    """An interrupt while the answer is on its way back proves nothing."""
    price_all()
    http_client = fake_twilio.http_client()
    ask = http_client.request

    def interrupted(*args, **kwargs):
        ask(*args, **kwargs)
        raise Interrupted

    http_client.request = interrupted
    client = fake_twilio.client(http_client=http_client)
    with keybrake.run("agent", cap=1) as run, pytest.raises(Interrupted):
        client.messages.create(**SMS)

    assert len(fake_twilio.journal.moved()) == 1
    assert [row["state"] for row in rows()] == ["unknown"]
    assert str(run.reserved) == "0.0145"


def test_interrupted_in_a_later_attempt_is_unknown(fake_twilio, ledger_url, rows):
    """The first attempt's 429 proves nothing about the one that was interrupted."""
    price_all()
    http_client = fake_twilio.http_client()
    ask = http_client.request

    def trying_again(*args, **kwargs):
        assert ask(*args, **kwargs).status_code == 429
        # The next one goes another way, and is interrupted when the message is out.
        raise Interrupted

    http_client.request = trying_again
    fake_twilio.inject(Fault("rate_limit"))
    with keybrake.run("agent", cap=1), pytest.raises(Interrupted):
        fake_twilio.client(http_client=http_client).messages.create(**SMS)

    assert [row["state"] for row in rows()] == ["unknown"]


def test_a_client_of_the_users_own_follows_no_redirect(wire, ledger_url, rows):
    """Whatever client carries a call, it ends where it was decided to go."""
    price_all()
    asked = []

    class Following(HttpClient):
        def __init__(self):
            self.logger, self.is_async, self.timeout = None, False, None

        def request(self, method, url, data=None, allow_redirects=True, **_):
            asked.append(allow_redirects)
            answer = requests.request(method, wire.url, data=data, timeout=5, allow_redirects=True)
            return Response(answer.status_code, answer.text, answer.headers)

    wire.otherwise = (307, {}, {"Location": f"{wire.url}/there"})
    client = Client("AC1", "token", http_client=Following())
    url = "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json"
    data = {"To": SMS["to"], "From": SMS["from_"], "Body": "x"}
    with keybrake.run("agent", cap=1), pytest.raises(keybrake.CallStopped, match="leads on"):
        client.request("POST", url, data=data, allow_redirects=True)

    assert asked == [False]
    assert len(wire.seen) == 1
    assert [row["state"] for row in rows()] == ["unknown"]


def test_an_sdk_that_gives_up_by_itself_is_voided(fake_twilio, client, rows, ledger_url):
    """An error of the SDK's own, from before it asked an HTTP client, sent nothing."""
    import asyncio

    async def main():
        with pytest.raises(RuntimeError, match="asynchronous"):
            await client.messages.create_async(**SMS)

    with keybrake.run("agent", cap=1):
        asyncio.run(main())

    assert [row["state"] for row in rows()] == ["voided"]


def test_a_lost_message_is_not_sent_again_for_free(wire, ledger_url, rows):
    """Twilio takes no idempotency key: an agent's second try is another message."""
    price_all()
    wire.hang_up()
    wire.answer(201, {"sid": "SM2", "status": "queued", "price": None})
    with client_at(wire.url) as client, keybrake.run("agent", cap=1) as run:
        with pytest.raises(requests.ConnectionError):
            client.messages.create(**SMS)
        client.messages.create(**SMS)

    assert b"dempotency" not in b"".join(wire.seen)
    assert [row["state"] for row in rows()] == ["unknown", "settled"]
    assert (str(run.spent), str(run.reserved)) == ("0.0145", "0.0145")


def test_a_failed_lookup_refuses(fake_twilio, client, rows):
    """A live call that cannot be looked up is not redirected on a guess."""
    fake_twilio.inject(Fault("error_500_before", method="GET"))
    with keybrake.run("agent", cap=10), pytest.raises(keybrake.UnknownCost):
        client.calls("CA1").update(url="https://example.com")

    assert [entry.method for entry in fake_twilio.journal.entries] == ["GET"]
    assert [row["state"] for row in rows()] == ["settled", "refused"]
