"""What nobody can be faster than: the disk, the lock, SQLite itself."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.bench._floor import Empty, Floor, Lock, Sync
from tests.bench._measure import TIMES_HEAD, Row, interleaved, lines_of
from tests.bench._report import Section, table

_TEXT = """\
One by one, in turns. The raw ledger keeps one counter and one row in two transactions, the first
of which repeats the cap: the least that records a call. *power*: its first transaction waits for
the disk; *process*: none does."""


def measure(folder: Path, *, short: bool) -> Section:
    """Measure the floors."""
    with contextlib.ExitStack() as opened:
        powerful, quick = (
            opened.enter_context(contextlib.closing(Floor(folder / f"{d}.db", durability=d)))
            for d in ("power", "process")
        )
        empty = opened.enter_context(contextlib.closing(Empty(folder / "empty.db")))
        lock = opened.enter_context(contextlib.closing(Lock(folder / "lock")))
        over, end = (
            opened.enter_context(contextlib.closing(Sync(folder / f"s{grows}", grows=grows)))
            for grows in (False, True)
        )
        works = {
            "raw ledger, power": powerful.call,
            "raw ledger, process": quick.call,
            "200 bytes and fdatasync, in place": over.call,
            "200 bytes and fdatasync, at the end": end.call,
            "an empty transaction": empty.call,
            "flock and back": lock.flock,
            "filelock's lock_descriptor and back": lock.descriptor,
        }
        times = interleaved(100 if short else 2000, *works.values())
        powerful.check()
        quick.check()
    rows = [Row(what, taken) for what, taken in zip(works, times, strict=True)]
    head = TIMES_HEAD[:5]
    return Section("Floors", (_TEXT, table(head, [line[:5] for line in lines_of(rows)])))
