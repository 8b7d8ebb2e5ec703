"""Run a fake Twilio in a separate process."""

import sys
from collections.abc import Sequence

from keybrake.testing import process
from keybrake.testing.fake_twilio.clients import async_client, sync_client
from keybrake.testing.fake_twilio.fake import FakeTwilio

__all__ = ["FakeTwilio", "async_client", "main", "sync_client"]

_PRICE_AFTER_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the URL, and serve until standard input is closed or SIGTERM or SIGINT arrives."""
    return process.serve("keybrake.testing.twilio", _start, arguments)


def _start(port: int, journal: str | None, latency: float) -> FakeTwilio:
    return FakeTwilio(port, journal, latency, price_after=_PRICE_AFTER_S)


if __name__ == "__main__":
    sys.exit(main())
