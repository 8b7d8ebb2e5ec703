"""Does a guarded call stay where it was decided to go?"""

import asyncio

import pytest
import requests
import stripe

import keybrake
from keybrake.testing import FakeStripe

# The SDK hands httpx its body in a way httpx would rather not see any more.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ASK = {"amount": 2999, "currency": "usd"}


@pytest.fixture
def elsewhere():
    """Start a second fake that nothing should reach."""
    with FakeStripe() as other:
        yield other
    assert other.journal.entries == (), "a guarded call was redirected"


def _redirect(wire, other, status):
    wire.otherwise = (status, {}, {"Location": f"{other.url}/v1/payment_intents"})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("client", ["requests", "urllib"])
@pytest.mark.parametrize("method", ["post", "get"])
def test_redirects_are_not_followed(  # noqa: PLR0917
    wire, elsewhere, ledger_url, rows, client_of, status, client, method
):
    """A redirected call goes nowhere else, with any of the SDK's HTTP clients."""
    kind = stripe.RequestsClient if client == "requests" else stripe.UrllibClient
    guarded = client_of(wire, http_client=kind())
    _redirect(wire, elsewhere, status)
    intents = guarded.v1.payment_intents
    call = {"post": lambda: intents.create(ASK), "get": lambda: intents.retrieve("pi_1")}[method]
    with keybrake.run("agent", cap=200) as run, pytest.raises(stripe.StripeError) as caught:
        call()

    assert isinstance(caught.value, keybrake.CallStopped)
    assert f"the answer {status} leads on to '{elsewhere.url}'" in str(caught.value)
    assert "It was sent, and the vendor may have carried it out." in str(caught.value)
    assert rows()[-1]["reason"] == "host_not_allowed"
    assert len(wire.seen) == 1
    # A redirect is no proof that nothing happened.
    assert [row["state"] for row in rows()] == ["unknown" if method == "post" else "settled"]
    assert str(run.reserved) == ("29.99" if method == "post" else "0.00")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("kind", [stripe.HTTPXClient, stripe.AIOHTTPClient])
@pytest.mark.parametrize("method", ["post", "get"])
def test_async_redirects_are_not_followed(wire, elsewhere, rows, status, kind, method):
    """The same for the HTTP clients of async calls."""
    _redirect(wire, elsewhere, status)

    async def main():
        http_client = kind()
        guarded = stripe.StripeClient(
            "sk_test_fake",
            base_addresses={"api": wire.url},
            max_network_retries=0,
            http_client=http_client,
        )
        intents = guarded.v1.payment_intents
        create, retrieve = intents.create_async, intents.retrieve_async
        with pytest.raises(keybrake.CallStopped, match=f"the answer {status} leads on to"):
            await (create(ASK) if method == "post" else retrieve("pi_1"))
        await http_client.close_async()

    with keybrake.run("agent", cap=200):
        asyncio.run(main())

    assert len(wire.seen) == 1
    assert [row["state"] for row in rows()] == ["unknown" if method == "post" else "settled"]


def test_a_look_up_is_not_redirected(wire, elsewhere, ledger_url, rows):
    """The GET that finds out an amount follows no redirect either, and then nobody knows it."""
    _redirect(wire, elsewhere, 307)
    with keybrake.run("agent", cap=200), pytest.raises(keybrake.UnknownCost):
        stripe.Refund.create(charge="ch_1")

    assert len(wire.seen) == 1


def test_outside_of_calls_redirects_are_as_before(wire, ledger_url):
    """What is no guarded call is redirected as its HTTP client likes."""
    wire.answer(302, {}, {"Location": f"{wire.url}/there"})
    wire.answer(200, {"here": True})
    with keybrake.run("agent", cap=200):
        assert requests.get(f"{wire.url}/", timeout=5).json() == {"here": True}

    assert len(wire.seen) == 2
