"""The command line ``keybrake``: app.py dispatches, commands/ has one file per command."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command in ``sys.argv`` and exit with its status."""
    try:
        from keybrake.cli import app

        status = app.run(sys.argv[1:])
    except KeyboardInterrupt:
        # Ctrl-C while modules were being imported; later, app.run() handles it.
        status = 130
    sys.exit(status)
