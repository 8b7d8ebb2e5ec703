"""What the race tests share: a ledger that processes race to make, and a Stripe SDK that is fresh."""

from collections.abc import Callable, Iterator

import pytest
import stripe

from tests.races import _many


@pytest.fixture
def fresh_stripe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that points the module-style SDK at a URL; all is put back afterwards."""
    for name in ("api_base", "api_key", "max_network_retries", "default_http_client"):
        monkeypatch.setattr(stripe, name, getattr(stripe, name))
    yield _many.point_at
    if stripe.default_http_client is not None:
        stripe.default_http_client.close()


@pytest.fixture
def ledger_url(unmade_ledger: str) -> str:
    """Name a ledger that is not there yet."""
    return unmade_ledger
