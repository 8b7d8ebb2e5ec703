"""Do async calls keep every promise that the others keep?"""

import asyncio
import contextvars

import aiohttp
import pytest
import stripe

import keybrake
from keybrake.testing import Fault

# The SDK hands httpx its body in a way httpx would rather not see any more.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ASK = {"amount": 100, "currency": "usd"}


def test_async_styles(in_async, fake, ledger_url, rows):
    """Module, client and raw request are one row each, on every async HTTP client."""

    async def main():
        client = stripe.StripeClient(
            "sk_test_fake",
            base_addresses={"api": fake.url},
            http_client=stripe.default_http_client,
            max_network_retries=0,
        )
        await stripe.PaymentIntent.create_async(**ASK)
        await client.v1.payment_intents.create_async(ASK)
        await client.raw_request_async("post", "/v1/payment_intents", **ASK)
        with pytest.raises(keybrake.CapExceeded) as caught:
            await stripe.PaymentIntent.create_async(**ASK)
        return caught.value

    with keybrake.run("agent", cap=3) as run:
        refusal = in_async(main)

    assert isinstance(refusal, stripe.PermissionError)
    assert [row["state"] for row in rows()] == ["settled"] * 3 + ["refused"]
    assert [entry.idempotency_key for entry in fake.journal.entries] == [
        f"kb-{row['uid']}" for row in rows()[:3]
    ]
    assert str(run.spent) == "3.00"


def test_async_pages_and_look_ups(in_async, fake, ledger_url, rows):
    """Autopaging has a row per page, and an amount that has to be looked up is looked up."""

    async def main():
        charge = await stripe.Charge.create_async(**ASK, source="tok_visa")
        for _ in range(3):
            await stripe.PaymentIntent.create_async(**ASK)
        listed = await stripe.PaymentIntent.list_async(limit=2)
        assert len([intent async for intent in listed.auto_paging_iter()]) == 3
        await stripe.Refund.create_async(charge=charge.id)

    with keybrake.run("agent", cap=10) as run:
        in_async(main)

    assert [row["endpoint"] for row in rows()][4:] == [
        "stripe.payment_intents.list",
        "stripe.payment_intents.list",
        "stripe.lookup",
        "stripe.refunds.create",
    ]
    assert str(run.spent) == "5.00"


def test_async_retries_are_inside_one_call(in_async, fake, ledger_url, rows, monkeypatch):
    """500, 500, 200 is one row and one idempotency key in async, too."""
    monkeypatch.setattr(stripe, "max_network_retries", 2)
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.01)
    monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0.02)
    fake.inject(Fault("error_500_before"), 2)

    async def main():
        await stripe.PaymentIntent.create_async(**ASK)

    with keybrake.run("agent", cap=1):
        in_async(main)

    assert [entry.http_status for entry in fake.journal.entries] == [500, 500, 200]
    assert len({entry.idempotency_key for entry in fake.journal.entries}) == 1
    assert [row["state"] for row in rows()] == ["settled"]


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("reset_before", "unknown"),
        ("reset_after", "unknown"),
        ("timeout_after", "unknown"),
        ("truncate", "unknown"),
        ("garbage", "unknown"),
        ("rate_limit", "voided"),
    ],
)
def test_async_faults(in_async, fake, ledger_url, rows, kind, state):
    """Only proof voids an async call, and the SDK's own error passes on."""
    fake.inject(Fault(kind, hang=0.1))

    async def main():
        # The SDK lets aiohttp's own error about a broken body through.
        with pytest.raises((stripe.StripeError, aiohttp.ClientError)) as caught:
            await stripe.PaymentIntent.create_async(**ASK)
        assert not isinstance(caught.value, keybrake.KeybrakeError)

    with keybrake.run("agent", cap=10):
        in_async(main)

    assert [row["state"] for row in rows()] == [state]


def test_async_refused_connection_is_voided(in_async, fake, ledger_url, rows):
    """A connection that was never made charged nothing."""
    fake.stop()

    async def main():
        with pytest.raises(stripe.APIConnectionError):
            await stripe.PaymentIntent.create_async(**ASK)

    with keybrake.run("agent", cap=10):
        in_async(main)

    assert [row["state"] for row in rows()] == ["voided"]


def test_cancelled_in_flight_is_unknown(in_async, fake, ledger_url, rows):
    """A task that gives up on an answer keeps its reservation: the money may have moved."""
    fake.inject(Fault("timeout_after", hang=5))

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stripe.PaymentIntent.create_async(**ASK), 0.5)

    with keybrake.run("agent", cap=10) as run:
        in_async(main)

    assert fake.journal.total() == 100
    assert [row["state"] for row in rows()] == ["unknown"]
    assert str(run.reserved) == "1.00"


def test_cancelled_in_a_later_attempt_is_unknown(in_async, fake, ledger_url, rows, monkeypatch):
    """The first attempt's 409 proves nothing about the second, which was cancelled in flight."""
    monkeypatch.setattr(stripe, "max_network_retries", 2)
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.01)
    fake.inject(Fault("conflict"))
    fake.inject(Fault("timeout_after", hang=5))

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stripe.PaymentIntent.create_async(**ASK), 0.8)

    with keybrake.run("agent", cap=10) as run:
        in_async(main)

    assert fake.journal.total() == 100
    assert [row["state"] for row in rows()] == ["unknown"]
    assert str(run.reserved) == "1.00"


class SentAndWaiting(stripe.RequestsClient):
    """Sends the request at once, and then waits for ever for its answer."""

    async def request_async(self, method, url, headers, post_data=None):
        self.request(method, url, headers, post_data)
        await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("context", ["the same", "another"])
def test_closed_in_flight_is_unknown(fake, ledger_url, rows, monkeypatch, context):
    """A coroutine that is closed before its end, in whatever context, leaves its call unknown."""
    http_client = SentAndWaiting()
    monkeypatch.setattr(stripe, "default_http_client", http_client)

    async def main():
        call = stripe.PaymentIntent.create_async(**ASK)
        around = contextvars.copy_context()
        around.run(call.send, None)
        if context == "another":
            call.close()
        else:
            around.run(call.close)

    with keybrake.run("agent", cap=10) as run:
        asyncio.run(main())
    http_client.close()

    assert fake.journal.total() == 100
    assert [row["state"] for row in rows()] == ["unknown"]
    assert str(run.reserved) == "1.00"


def test_many_tasks_on_one_run(in_async, fake, ledger_url, rows):
    """Two hundred tasks at once spend exactly what the cap allows."""

    async def main():
        return await asyncio.gather(
            *(stripe.PaymentIntent.create_async(**ASK) for _ in range(200)),
            return_exceptions=True,
        )

    with keybrake.run("agent", cap=150) as run:
        ended = in_async(main)

    assert sum(isinstance(end, keybrake.CapExceeded) for end in ended) == 50
    assert fake.journal.total() == 15_000
    assert str(run.spent) == "150.00"
    assert len(rows()) == 200
