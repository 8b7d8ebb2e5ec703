"""Run a fake Resend in a separate process."""

import sys
from collections.abc import Sequence

from keybrake.testing import process
from keybrake.testing.fake_resend.fake import FakeResend

__all__ = ["FakeResend", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the URL, and serve until standard input is closed or SIGTERM or SIGINT arrives."""
    return process.serve("keybrake.testing.resend", FakeResend, arguments)


if __name__ == "__main__":
    sys.exit(main())
