"""Do Twilio's async calls keep every promise that the others keep?"""

import asyncio
import contextvars

import aiohttp
import pytest
from twilio.base.exceptions import TwilioRestException

import keybrake
from keybrake.testing import Fault
from tests.vendors._twilio import SMS, price_all

# twilio hands aiohttp its credential in ways that aiohttp has deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'auth' parameter:DeprecationWarning"),
]


@pytest.fixture
def in_async(fake_twilio, ledger_url):
    """Return a runner of coroutines that take a client, whose HTTP client it closes."""
    price_all()

    def run(main, **options):
        async def around():
            async with fake_twilio.async_http_client(**options) as http_client:
                return await main(fake_twilio.client(http_client=http_client))

        return asyncio.run(around())

    return run


def test_async_calls(fake_twilio, in_async, rows):
    """Create, fetch, pages and requests by hand are one row each."""

    async def main(client):
        for _ in range(3):
            sent = await client.messages.create_async(**SMS)
        fake_twilio.finish(sent.sid)
        await client.messages(sent.sid).fetch_async()
        found = [one async for one in await client.messages.stream_async(page_size=2)]
        assert len(found) == 3
        url = f"https://api.twilio.com/2010-04-01/Accounts/{fake_twilio.account_sid}/Messages.json"
        data = {"To": SMS["to"], "From": SMS["from_"], "Body": "x"}
        assert (await client.request_async("POST", url, data=data)).status_code == 201
        with pytest.raises(keybrake.CapExceeded) as caught:
            await client.messages.create_async(**SMS)
        return caught.value

    with keybrake.run("agent", cap="0.055") as run:
        refusal = in_async(main)

    assert isinstance(refusal, TwilioRestException)
    assert [row["endpoint"].rpartition(".")[2] for row in rows()] == [
        *["create"] * 3,
        "retrieve",
        *["list"] * 2,
        *["create"] * 2,
    ]
    assert str(run.spent) == "0.0514"


def test_async_look_ups(fake_twilio, in_async, rows):
    """A live call of somebody else's is looked up in async, too."""
    other = fake_twilio.client().calls.create(
        to=SMS["to"], from_=SMS["from_"], url="https://example.com"
    )

    async def main(client):
        await client.calls(other.sid).update_async(url="https://example.com/next")
        number = client.lookups.v2.phone_numbers(SMS["to"])
        await number.fetch_async(fields="caller_name")

    with keybrake.run("agent", cap=10) as run:
        in_async(main)

    assert [row["endpoint"] for row in rows()] == [
        "twilio.lookup",
        "twilio.calls.update",
        "twilio.lookups.phone_numbers.retrieve",
    ]
    assert str(run.spent) == "3.37"


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("error_500_after", "unknown"),
        ("reset_before", "unknown"),
        ("reset_after", "unknown"),
        ("timeout_after", "unknown"),
        ("truncate", "unknown"),
        ("garbage", "unknown"),
        ("rate_limit", "voided"),
    ],
)
def test_async_faults(fake_twilio, in_async, rows, kind, state):
    """Only proof voids an async call, and the SDK's own error passes on."""
    fake_twilio.inject(Fault(kind, hang=0.1))

    async def main(client):
        with pytest.raises((TwilioRestException, aiohttp.ClientError, ValueError)) as caught:
            await client.messages.create_async(**SMS)
        assert not isinstance(caught.value, keybrake.KeybrakeError)

    with keybrake.run("agent", cap=1):
        in_async(main)

    assert [row["state"] for row in rows()] == [state]


def test_async_refused_connection_is_voided(fake_twilio, in_async, rows):
    """A connection that was never made sent nothing."""
    fake_twilio.stop()

    async def main(client):
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.messages.create_async(**SMS)

    with keybrake.run("agent", cap=1):
        in_async(main)

    assert [row["state"] for row in rows()] == ["voided"]


def test_an_async_session_that_retries_proves_nothing(fake_twilio, in_async, rows):
    """What a retrying client tried before its last answer, nobody has seen."""
    fake_twilio.inject(Fault("error_500_after"))
    fake_twilio.inject(Fault("rate_limit"), None)

    async def main(client):
        with pytest.raises(TwilioRestException):
            await client.messages.create_async(**SMS)

    with keybrake.run("agent", cap=1):
        in_async(main, max_retries=2)

    assert len(fake_twilio.journal.moved()) == 1
    assert [row["state"] for row in rows()] == ["unknown"]


def test_cancelled_in_flight_is_unknown(fake_twilio, in_async, rows):
    """A task that gives up on an answer keeps its reservation: the message may be out."""
    fake_twilio.inject(Fault("timeout_after", hang=5))

    async def main(client):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.messages.create_async(**SMS), 0.5)

    with keybrake.run("agent", cap=1) as run:
        in_async(main)

    assert len(fake_twilio.journal.moved()) == 1
    assert [row["state"] for row in rows()] == ["unknown"]
    assert str(run.reserved) == "0.0145"


@pytest.mark.parametrize("context", ["the same", "another"])
def test_closed_in_flight_is_unknown(fake_twilio, in_async, rows, context):
    """A coroutine that is closed before its end, in whatever context, leaves its call unknown."""

    async def main(client):
        call = client.messages.create_async(**SMS)
        around = contextvars.copy_context()
        future = around.run(call.send, None)
        future.cancel()
        if context == "another":
            call.close()
        else:
            around.run(call.close)
        await asyncio.sleep(0)

    with keybrake.run("agent", cap=1) as run:
        in_async(main)

    assert [row["state"] for row in rows()] == ["unknown"]
    assert str(run.reserved) == "0.0145"


def test_many_tasks_on_one_run(fake_twilio, in_async, rows):
    """A hundred tasks at once send exactly what the cap allows."""

    async def main(client):
        return await asyncio.gather(
            *(client.messages.create_async(**SMS) for _ in range(100)), return_exceptions=True
        )

    with keybrake.run("agent", cap="0.58") as run:
        ended = in_async(main)

    assert sum(isinstance(end, keybrake.CapExceeded) for end in ended) == 60
    assert len(fake_twilio.journal.moved()) == 40
    assert str(run.spent) == "0.58"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_async_redirects_are_not_followed(wire, in_async, fake_twilio, rows, status):
    """A redirected async call goes nowhere else, whatever the caller allows."""
    wire.otherwise = (status, {}, {"Location": f"{wire.url}/there"})

    async def main(client):
        client.http_client.fake_url = wire.url
        with pytest.raises(keybrake.CallStopped, match=f"the answer {status} leads on to"):
            await client.request_async(
                "POST",
                f"https://api.twilio.com/2010-04-01/Accounts/{fake_twilio.account_sid}/Messages.json",
                data={"To": SMS["to"], "From": SMS["from_"], "Body": "x"},
                allow_redirects=True,
            )

    with keybrake.run("agent", cap=1):
        in_async(main)

    assert len(wire.seen) == 1
    assert [row["state"] for row in rows()] == ["unknown"]


def test_equal_bytes(wire, in_async, fake_twilio):
    """With and without the guard: equal bytes on the wire."""
    wire.otherwise = (201, {"sid": "SM1", "status": "queued"}, {})

    async def main(client):
        client.http_client.fake_url = wire.url
        await client.messages.create_async(**SMS)
        url = "https://lookups.twilio.com/v2/PhoneNumbers/+14155550100?Fields=validation"
        await client.request_async("GET", url, headers={"X-Mine": "1"})

    in_async(main)
    with keybrake.run("agent", cap=1):
        in_async(main)

    assert wire.seen[:2] == wire.seen[2:]
    assert len(wire.seen) == 4
