"""What the guard costs, as ratios within one run: ``python -m tests.bench [--rounds N]``."""

from __future__ import annotations

import argparse
import asyncio
import platform
import sqlite3
import sys
import tempfile
from pathlib import Path

from tests.bench._floor import Floor
from tests.bench._ledger import Ours
from tests.bench._measure import Row, interleaved, table
from tests.bench._stripe import AsyncCalls, SyncCalls, fake_process
from tests.bench._vendors import names, work_of


def ledger_rows(folder: Path, rounds: int) -> list[Row]:
    """Admit + settle against two raw transactions of the same durability."""
    rows = []
    for durability in ("power", "process"):
        floor = Floor(folder / f"floor-{durability}.db", durability=durability)
        ours = Ours(folder / f"ours-{durability}.db", durability=durability)
        raw, guarded = interleaved(rounds, floor.call, ours.call)
        floor.check(rounds)
        ours.check(rounds)
        rows += [
            Row(f"raw two transactions, {durability}", raw),
            Row(f"admit + settle, {durability}", guarded, against=raw, aim=1.5),
        ]
    return rows


def vendor_rows(folder: Path, rounds: int) -> list[Row]:
    """Describe + outcome of one call of each vendor, beside one admission."""
    ledger = Ours(folder / "vendors.db", durability="power")
    admits, *works = interleaved(rounds, ledger.admit, *map(work_of, names()))
    return [
        Row("admit, power", admits),
        *(
            Row(f"describe + outcome, {name}", times, against=admits, aim=0.1)
            for name, times in zip(names(), works, strict=True)
        ),
    ]


def stripe_rows(folder: Path, rounds: int, url: str) -> list[Row]:
    """A guarded Stripe call on loopback against the unguarded one and the ledger's floor."""
    floor = Floor(folder / "floor-stripe.db", durability="power")
    with SyncCalls(folder / "sync.db", url) as calls:
        raw, bare, guarded = interleaved(rounds, floor.call, calls.bare, calls.guarded)
        calls.check(rounds)
    with AsyncCalls(folder / "async.db", url) as calls, asyncio.Runner() as runner:
        raw_a, bare_a, guarded_a = interleaved(
            rounds,
            floor.call,
            lambda: runner.run(calls.bare()),
            lambda: runner.run(calls.guarded()),
        )
        calls.check(rounds)
        runner.run(calls.close())
    together = [a + b for a, b in zip(raw, bare, strict=True)]
    together_a = [a + b for a, b in zip(raw_a, bare_a, strict=True)]
    return [
        Row("stripe sync, unguarded", bare),
        Row("stripe sync, unguarded + floor", together),
        Row("stripe sync, guarded", guarded, against=together, aim=1.15),
        Row("stripe async, unguarded", bare_a),
        Row("stripe async, unguarded + floor", together_a),
        Row("stripe async, guarded", guarded_a, against=together_a, aim=1.15),
    ]


def main() -> None:
    """Measure everything and print one table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1500, help="calls per line (default 1500)")
    parser.add_argument("--short", action="store_true", help="150 rounds: does it run at all")
    options = parser.parse_args()
    rounds = 150 if options.short else options.rounds
    with tempfile.TemporaryDirectory() as name, fake_process() as url:
        folder = Path(name)
        rows = ledger_rows(folder, rounds * 2)
        rows += vendor_rows(folder, rounds) + stripe_rows(folder, rounds, url)
    sys.stdout.write(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.system()} {platform.machine()}; microseconds, paired and interleaved\n\n"
    )
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()
