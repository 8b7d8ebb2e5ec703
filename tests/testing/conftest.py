"""Point the real SDK at a fake, without its own retries."""

from collections.abc import Iterator

import pytest
import stripe

from keybrake.testing import FakeStripe

_BASES = ("api_base", "upload_api_base", "connect_api_base", "meter_events_api_base")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStripe]:
    """Start a fake Stripe that the module-style SDK talks to, one attempt per call."""
    # A client of its own, so that no connection outlives the fake it leads to.
    client = stripe.new_default_http_client()
    with FakeStripe() as running:
        for base in _BASES:
            monkeypatch.setattr(stripe, base, running.url, raising=False)
        monkeypatch.setattr(stripe, "api_key", "sk_test_fake")
        monkeypatch.setattr(stripe, "max_network_retries", 0)
        monkeypatch.setattr(stripe, "default_http_client", client)
        yield running
    client.close()
