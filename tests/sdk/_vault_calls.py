"""One call of each SDK under a vault key, as whoever has nothing else makes it."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import resend
import stripe
from twilio.rest import Client

import keybrake
from keybrake.testing.fake_twilio import clients
from tests.sdk._resend_calls import MAIL

SID = "AC00000000000000000000000000000001"
SECRETS = {
    "stripe": "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "twilio": "9f86d081884c7d659a2feaa0c55ad015",
    "resend": "re_9K2mPq7t_4xVbN8wLdRzYcHs3JfGkTa",
}
ANSWERS = {
    "stripe": {
        "id": "pi_1",
        "object": "payment_intent",
        "status": "succeeded",
        "amount": 500,
        "amount_received": 500,
        "currency": "usd",
    },
    "twilio": {
        "sid": "SM1",
        "status": "queued",
        "num_segments": "1",
        "price": None,
        "body": "Hi",
        "from": "+15005550006",
        "to": "+15005550001",
    },
    "resend": {"id": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"},
}
# What the SDKs still do to their HTTP clients, and those would rather not see any more.
OLD_WAYS = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'auth' parameter:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:verify_ssl is deprecated:DeprecationWarning"),
]
KINDS = [(vendor, way) for vendor in SECRETS for way in ("sync", "async")]


class Caller(NamedTuple):
    """A vendor's SDK with a vault key in its slot, and a call that costs money."""

    vendor: str
    call: Callable[[], Any]
    client: Any = None


def operator(monkeypatch: Any, **origins: str) -> None:
    """Say where the credentials are kept, and that these servers may have them."""
    for vendor, secret in SECRETS.items():
        monkeypatch.setenv(f"REAL_{vendor.upper()}", secret)
    keybrake.configure(
        credentials={
            "stripe": "env://REAL_STRIPE",
            "twilio": {"account_sid": SID, "auth_token": "env://REAL_TWILIO"},
            "resend": "env://REAL_RESEND",
        },
        extra_hosts={vendor: [origin] for vendor, origin in origins.items()},
        prices={"twilio": {"sms_segment": {"*": "0.01"}}, "resend": {"per_recipient": "0.001"}},
    )


def caller(vendor: str, way: str, key: str, url: str, monkeypatch: Any) -> Caller:
    """Return how a vendor's SDK is called, in the plain or in the async way, when it lives at *url*."""
    return globals()[f"_{vendor}"](way, key, url, monkeypatch)


def _stripe(way: str, key: str, url: str, monkeypatch: Any) -> Caller:
    ask = {"amount": 500, "currency": "usd"}
    monkeypatch.setattr(stripe, "api_key", key)
    monkeypatch.setattr(stripe, "api_base", url)
    monkeypatch.setattr(stripe, "max_network_retries", 0)
    if way == "sync":
        monkeypatch.setattr(stripe, "default_http_client", stripe.RequestsClient())
        return Caller("stripe", lambda: stripe.PaymentIntent.create(**ask))

    async def once() -> Any:
        http_client = stripe.HTTPXClient()
        monkeypatch.setattr(stripe, "default_http_client", http_client)
        try:
            return await stripe.PaymentIntent.create_async(**ask)
        finally:
            await http_client.close_async()

    return Caller("stripe", lambda: asyncio.run(once()))


def _twilio(way: str, key: str, url: str, monkeypatch: Any) -> Caller:
    sms = {"to": "+15005550001", "from_": "+15005550006", "body": "Hi"}
    if way == "sync":
        client = Client(SID, key, http_client=clients.sync_client(url, pool_connections=False))
        return Caller("twilio", lambda: client.messages.create(**sms), client)
    client = Client(SID, key)

    async def once() -> Any:
        async with clients.async_client(url) as http_client:
            client.http_client = http_client
            return await client.messages.create_async(**sms)

    return Caller("twilio", lambda: asyncio.run(once()), client)


def _resend(way: str, key: str, url: str, monkeypatch: Any) -> Caller:
    monkeypatch.setattr(resend, "api_key", key)
    monkeypatch.setattr(resend, "api_url", url)
    if way == "sync":
        return Caller("resend", lambda: resend.Emails.send(MAIL))
    return Caller("resend", lambda: asyncio.run(resend.Emails.send_async(MAIL)))
