"""The same work in other libraries, in the same run."""

from __future__ import annotations

from contextlib import ExitStack, closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.bench._ledger import Ours
from tests.bench._measure import TIMES_HEAD, Row, interleaved, lines_of, ratio
from tests.bench._peers import MONEY, Pyrate
from tests.bench._report import Aim, Section, table

_TEXT = """\
Each in its own set-up, as its documentation has it, in turns with ours. pyrate-limiter's bucket
keeps one row of a call and no money, and syncs as *process* does: one put is compared with one
admission, by how many items are in its window. The others reserve a cent and settle it, each
waiting for the disk as often as it does by default: they are compared with admit + settle at
*power*."""

# How many items are in pyrate-limiter's window, and how much slower it is meant to be.
_LIVE = {0: 3, 10_000: 5, 1_000_000: 100}
_FEW = {0: 3, 100: 3}


def measure(folder: Path, *, short: bool) -> Section:
    """Measure every peer that is installed."""
    missing: list[str] = []
    aims: list[Aim] = []
    tables = []
    if _has("pyrate-limiter", missing):
        rows = _puts(folder, aims, short=short)
        tables.append(table((f"µs, {_named('pyrate-limiter')}", *TIMES_HEAD[1:]), lines_of(rows)))
    present = [name for name in MONEY if _has(name, missing)]
    if present:
        rows = _payments(folder, present, 10 if short else 300)
        tables.append(table(("µs, reserve + settle", *TIMES_HEAD[1:]), lines_of(rows)))
    if missing:
        tables.append(
            f"Not measured, because not installed here: {', '.join(missing)}. "
            f"`pip install -e '.[bench]'` brings them."
        )
    return Section("Other libraries", (_TEXT, *tables), aims)


def _has(name: str, missing: list[str]) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        missing.append(name)
        return False
    return True


def _named(name: str) -> str:
    return f"{name} {version(name)}"


def _puts(folder: Path, aims: list[Aim], *, short: bool) -> list[Row]:
    """Compare one put with one admission, for every number of items."""
    rows: list[Row] = []
    for live, least in (_FEW if short else _LIVE).items():
        what = f"{live:,} items" if live else "empty"
        ours = Ours(folder / f"puts-{live}.db", durability="process")
        peer = Pyrate(folder / f"pyrate-{live}.db", live=live)
        with closing(ours), closing(peer):
            # A put at a million items takes as long as a hundred admissions.
            rounds = 30 if short else 200 if live > 10_000 else 1500
            admits, puts = interleaved(rounds, ours.admit, peer.call, before=(ours.prepare,))
            ours.check()
            peer.check()
        rows += [Row(f"keybrake admit, {what}", admits), Row(f"put, {what}", puts, admits)]
        slower = ratio(puts, admits)
        aims.append(Aim(f"pyrate-limiter's put to our admit, {what}", slower, least=least))
    return rows


def _payments(folder: Path, names: list[str], rounds: int) -> list[Row]:
    """Compare reserve and settle."""
    with ExitStack() as opened:
        ours = opened.enter_context(closing(Ours(folder / "ours.db", durability="power")))
        peers: list[Any] = [
            opened.enter_context(closing(MONEY[name](folder / f"{name}.db"))) for name in names
        ]
        times = interleaved(
            rounds, ours.call, *(peer.call for peer in peers), before=(ours.prepare,)
        )
        ours.check()
        for peer in peers:
            peer.check()
    rows = [Row("keybrake, power", times[0])]
    rows += [
        Row(_named(name), taken, times[0]) for name, taken in zip(names, times[1:], strict=True)
    ]
    return rows
