"""What the fault tests share: a ledger that the test itself makes, which may go wrong as well."""

import pytest


@pytest.fixture
def ledger_url(unmade_ledger: str) -> str:
    """Name a ledger that is not there yet."""
    return unmade_ledger
