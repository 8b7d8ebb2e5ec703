"""Run a fake Stripe in a separate process."""

import sys
from collections.abc import Sequence

from keybrake.testing import process
from keybrake.testing.fake_stripe.fake import FakeStripe

__all__ = ["FakeStripe", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the URL, and serve until standard input is closed or SIGTERM or SIGINT arrives."""
    return process.serve("keybrake.testing.stripe", FakeStripe, arguments)


if __name__ == "__main__":
    sys.exit(main())
