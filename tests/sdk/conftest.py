"""Clients of every kind that are closed again."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stripe

import keybrake
from keybrake.testing import FakeStripe


@pytest.fixture
def client_of() -> Iterator[Callable[..., stripe.StripeClient]]:
    """Return a maker of clients that talk to a given server, one attempt per call."""
    used: list[Any] = []

    def make(server: Any, key: str = "sk_test_fake", **options: Any) -> stripe.StripeClient:
        bases = dict.fromkeys(("api", "files", "connect", "meter_events"), server.url)
        options = {"max_network_retries": 0, "http_client": stripe.RequestsClient(), **options}
        used.append(options["http_client"])
        return stripe.StripeClient(key, base_addresses=bases, **options)

    yield make
    for http_client in used:
        http_client.close()


@pytest.fixture(params=["httpx", "aiohttp"])
def in_async(
    request: pytest.FixtureRequest, fake: FakeStripe, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Return a runner of coroutines in whose loop stripe has an HTTP client of its own."""

    def run(main: Callable[..., Any], *args: Any) -> Any:
        async def around() -> Any:
            kind = stripe.HTTPXClient if request.param == "httpx" else stripe.AIOHTTPClient
            http_client = kind()
            monkeypatch.setattr(stripe, "default_http_client", http_client)
            try:
                return await main(*args)
            finally:
                await http_client.close_async()

        return asyncio.run(around())

    return run


@pytest.fixture
def once_admitted(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], Any]], None]:
    """Return a function that has something happen between a call's admission and the wire."""
    kind = type(keybrake.open_ledger())
    admit = kind.admit

    def arrange(deed: Callable[[], Any]) -> None:
        def admit_and_do(*args: Any, **kwargs: Any) -> Any:
            admitted = admit(*args, **kwargs)
            deed()
            return admitted

        monkeypatch.setattr(kind, "admit", admit_and_do)

    return arrange
