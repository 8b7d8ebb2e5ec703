"""Run a fake Resend in a process of its own."""

import sys
from collections.abc import Sequence

from keybrake.testing import process
from keybrake.testing.fake_resend.fake import FakeResend

__all__ = ["FakeResend", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input is closed or a signal asks to stop; print the URL first."""
    return process.serve("keybrake.testing.resend", FakeResend, arguments)


if __name__ == "__main__":
    sys.exit(main())
