"""Run a fake Stripe in a process of its own."""

import sys
from collections.abc import Sequence

from keybrake.testing import process
from keybrake.testing.fake_stripe.fake import FakeStripe

__all__ = ["FakeStripe", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input is closed or a signal asks to stop; print the URL first."""
    return process.serve("keybrake.testing.stripe", FakeStripe, arguments)


if __name__ == "__main__":
    sys.exit(main())
