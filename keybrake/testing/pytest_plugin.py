"""Give tests a fake Stripe that the stripe SDK already talks to."""

from collections.abc import Iterator

import pytest

from keybrake.testing._stripe.fake import FakeStripe

_BASES = ("api_base", "upload_api_base", "connect_api_base", "meter_events_api_base")


@pytest.fixture
def fake_stripe(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStripe]:
    """Start a fake Stripe and point the stripe SDK at it, with a key that is no secret."""
    # Here, not above: a plugin is imported into every test run, also those without stripe.
    import stripe

    with FakeStripe() as fake:
        for base in _BASES:
            # Older versions of the SDK lack some of them.
            if hasattr(stripe, base):
                monkeypatch.setattr(stripe, base, fake.url)
        monkeypatch.setattr(stripe, "api_key", "sk_test_fake")
        yield fake
