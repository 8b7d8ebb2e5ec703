"""Is a call that is made in the middle of another one a call of its own?"""

import asyncio

import pytest
import stripe

import keybrake

ASK = {"amount": 100, "currency": "usd"}


def test_a_call_made_by_an_http_client(fake, ledger_url, rows, client_of):
    """A call that a user's HTTP client makes while it carries another one is guarded too."""
    inner = client_of(fake)
    refusals = []

    class Nosy(stripe.RequestsClient):
        def request(self, *args, **kwargs):
            try:
                inner.v1.payment_intents.create(ASK)
            except keybrake.CapExceeded as refusal:
                refusals.append(refusal)
            return super().request(*args, **kwargs)

    outer = client_of(fake, http_client=Nosy())
    with keybrake.run("agent", cap=3) as run:
        outer.v1.payment_intents.create(ASK)
        outer.v1.payment_intents.create(ASK | {"amount": 50})

    assert len(refusals) == 1
    assert fake.journal.total() == 250
    assert str(run.spent) == "2.50"
    assert sorted(row["state"] for row in rows()) == ["refused", "settled", "settled", "settled"]


def test_a_task_started_during_a_call(fake, ledger_url, monkeypatch):
    """A task that an HTTP client starts in mid-call is guarded for as long as it lives."""
    started = []

    class Starting(stripe.RequestsClient):
        async def request_async(self, method, url, headers, post_data=None):
            if not started:
                started.append(asyncio.ensure_future(later()))
            return self.request(method, url, headers, post_data)

    async def later():
        await asyncio.sleep(0.05)
        return await stripe.PaymentIntent.create_async(**ASK)

    async def main():
        await stripe.PaymentIntent.create_async(**ASK)
        with pytest.raises(keybrake.CapExceeded):
            await started[0]

    http_client = Starting()
    monkeypatch.setattr(stripe, "default_http_client", http_client)
    with keybrake.run("agent", cap=1):
        asyncio.run(main())
    http_client.close()

    assert fake.journal.total() == 100
