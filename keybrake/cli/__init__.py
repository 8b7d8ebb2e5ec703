"""What ``keybrake`` does on the command line; one file per group of commands."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command in ``sys.argv`` and exit with its status."""
    try:
        from keybrake.cli import app

        status = app.run(sys.argv[1:])
    except KeyboardInterrupt:
        # Struck while the modules were still being loaded.
        status = 130
    sys.exit(status)
