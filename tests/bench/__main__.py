"""
What the guard costs, as ratios within one run: ``python -m tests.bench``.

Each section measures in a folder of its own (``TMPDIR`` says on which disk), and asserts that the
totals it left there are exact.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path

from tests.bench._machine import described
from tests.bench._report import Section, aims_table, verdict
from tests.bench._written import write

# A section is a module with a function measure(folder, short=…).
SECTIONS = ("floors", "calls", "group", "processes", "growth", "vendors", "stripe_calls", "peers")


def main() -> int:
    """Measure what was asked for, and print it; whether an aim is missed is no failure."""
    options = _options()
    began = time.monotonic()
    done: list[Section] = []
    with tempfile.TemporaryDirectory(prefix="keybrake-bench-") as name:
        machine = described(Path(name))
        sys.stdout.write(f"{machine}\n\n")
        for section in options.only:
            done.append(_measured(section, Path(name), short=options.short))
            sys.stdout.write(f"{done[-1].markdown()}\n")
            if done[-1].aims:
                sys.stdout.write(f"{aims_table(done[-1].aims)}\n\n")
            sys.stdout.flush()
    aims = [aim for section in done for aim in section.aims]
    if options.short:
        sys.stdout.write("Too few calls to judge by: --short only shows that it all runs.\n")
    if aims:
        sys.stdout.write(f"{verdict(aims)}\n")
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")
    if options.write:
        write(options.write, machine, done, short=options.short)
    return 0


def _measured(name: str, folder: Path, *, short: bool) -> Section:
    module = importlib.import_module(f"tests.bench.{name}")
    own = folder / name
    own.mkdir()
    section: Section = module.measure(own, short=short)
    return section


def _sections(text: str) -> list[str]:
    wanted = text.split(",")
    if unknown := [name for name in wanted if name not in SECTIONS]:
        msg = f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}"
        raise argparse.ArgumentTypeError(msg)
    return [name for name in SECTIONS if name in wanted]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="small and quick: does it run at all")
    parser.add_argument(
        "--only",
        type=_sections,
        default=SECTIONS,
        metavar="SECTION[,SECTION]",
        help=", ".join(SECTIONS),
    )
    parser.add_argument(
        "--write", type=Path, metavar="DIR", help="write figures.md and figures.svg there"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
