"""What a call costs when there are millions before it, and how long the commands take then."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from tests.bench._fill import RUNS, Filling, check
from tests.bench._ledger import Ours
from tests.bench._measure import TIMES_HEAD, Row, interleaved, lines_of, ratio
from tests.bench._report import Aim, Chart, Section, Series, table

_TEXT = """\
One ledger is filled and copied on its way: so many settled calls of {runs:,} runs, each with its
events, its position under a random id, and the totals. Then a new run records calls on each copy, in
turns, in process durability, where there is no disk to hide behind. All copies are read
through before, so that the system has them in its cache; SQLite's own holds 2 MB."""

_COMMANDS = (
    ("--version",),
    ("runs",),
    ("runs", "--json"),
    ("log", "--limit", "50"),
    ("spend",),
    ("spend", "--by", "endpoint"),
    ("spend", "--by", "day"),
)
_SLOWEST_S = 0.5


def measure(folder: Path, *, short: bool) -> Section:
    """Measure ledgers of every size, and the commands on a large one."""
    sizes = (1000, 2000) if short else (1_000, 10_000, 100_000, 1_000_000, 5_000_000)
    asked = sizes[-1] if short else 1_000_000
    ledgers = _filled(folder, sizes)
    commands = _commands(ledgers[asked], 1 if short else 7)
    rows = _called(ledgers, 100 if short else 3000)
    smallest, largest = rows[0], rows[-1]
    aims = [
        Aim(
            f"admit + settle p50 at {sizes[-1]:,} calls to {sizes[0]:,}",
            ratio(largest.times, smallest.times),
            most=1.2,
        ),
        *(
            Aim(f"keybrake {name} at {asked:,} calls", seconds, most=_SLOWEST_S, unit=" s")
            for name, seconds in commands.items()
            if name in ("runs", "log --limit 50", "spend")
        ),
    ]
    parts = (
        _TEXT.format(runs=RUNS),
        table((f"µs, {_bytes(ledgers[sizes[-1]], sizes[-1])}", *TIMES_HEAD[1:]), lines_of(rows)),
        f"The commands at {asked:,} calls, from start to end of the process, its start-up included:",
        table(("keybrake", "s"), [(n, f"{s:.3f}") for n, s in commands.items()]),
    )
    return Section("Growth", parts, aims, [_chart(sizes, rows)])


def _filled(folder: Path, sizes: Sequence[int]) -> dict[int, Path]:
    """Return a ledger of each size."""
    growing = folder / "growing.db"
    filling = Filling(growing)
    ledgers = {}
    for size in sizes:
        filling.up_to(size)
        check(growing, size)
        ledgers[size] = folder / f"{size}.db"
        shutil.copy(growing, ledgers[size])
        shutil.copy(f"{growing}.seal", f"{ledgers[size]}.seal")
    return ledgers


def _called(ledgers: dict[int, Path], rounds: int) -> list[Row]:
    """Record calls on each ledger, in turns."""
    for path in ledgers.values():
        _read_through(path)
    with ExitStack() as opened:
        all_ours = [
            opened.enter_context(closing(Ours(path, durability="process")))
            for path in ledgers.values()
        ]
        times = interleaved(
            rounds,
            *(ours.call for ours in all_ours),
            before=[ours.prepare for ours in all_ours],
        )
        for ours, (size, path) in zip(all_ours, ledgers.items(), strict=True):
            ours.check()
            check(path, size + ours.calls)
    return [
        Row(f"{size:,} calls", taken, None if not nr else times[0])
        for nr, (size, taken) in enumerate(zip(ledgers, times, strict=True))
    ]


def _read_through(path: Path) -> None:
    """Have the system cache a file: what was written minutes ago may be only on the disk by now."""
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def _bytes(ledger: Path, calls: int) -> str:
    return f"{ledger.stat().st_size / calls:,.0f} bytes a call"


def _commands(ledger: Path, times: int) -> dict[str, float]:
    """Return the median seconds of each command."""
    keybrake = [sys.executable, "-m", "keybrake", "--ledger", f"sqlite:///{ledger}"]
    return {
        " ".join(command): statistics.median(_seconds([*keybrake, *command]) for _ in range(times))
        for command in _COMMANDS
    }


def _seconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _chart(sizes: Sequence[int], rows: Sequence[Row]) -> Chart:
    medians = [statistics.median(row.times) for row in rows]
    places = [f"{size / 1000:,.0f}k" for size in sizes]
    return Chart("admit + settle, p50 in µs, by calls", places, [Series("process", medians)])
