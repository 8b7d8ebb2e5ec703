"""What ``python -m keybrake`` does: the same as ``keybrake``."""

from keybrake.cli import main

main()
