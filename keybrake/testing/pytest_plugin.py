"""Provide pytest fixtures: fake vendors, with the SDKs already pointed at them."""

from collections.abc import Iterator

import pytest

from keybrake.testing.fake_resend.fake import FakeResend
from keybrake.testing.fake_stripe.fake import FakeStripe
from keybrake.testing.fake_twilio.fake import FakeTwilio

_BASES = ("api_base", "upload_api_base", "connect_api_base", "meter_events_api_base")


@pytest.fixture
def fake_stripe(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStripe]:
    """Start a fake Stripe and point the stripe SDK at it, with a dummy key."""
    # Import lazily: pytest loads this plugin in every test run, even without stripe installed.
    import stripe

    with FakeStripe() as fake:
        for base in _BASES:
            # Older versions of the SDK lack some of these settings.
            if hasattr(stripe, base):
                monkeypatch.setattr(stripe, base, fake.url)
        monkeypatch.setattr(stripe, "api_key", "sk_test_fake")
        yield fake


@pytest.fixture
def fake_resend(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeResend]:
    """Start a fake Resend and point the resend SDK at it, with a dummy key."""
    import resend

    with FakeResend() as fake:
        monkeypatch.setattr(resend, "api_url", fake.url)
        monkeypatch.setattr(resend, "api_key", "re_fake")
        yield fake


@pytest.fixture
def fake_twilio() -> Iterator[FakeTwilio]:
    """Start a fake Twilio; ``fake_twilio.client()`` returns a ``twilio.rest.Client`` for it."""
    with FakeTwilio() as fake:
        yield fake
