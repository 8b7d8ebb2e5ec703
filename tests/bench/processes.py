"""How processes share one ledger: how fast together, how even, and how long the unlucky wait."""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tests.bench._crowd import Crowd, Load, crowd
from tests.bench._deadline import deadlines
from tests.bench._floor import Floor
from tests.bench._ledger import Ours
from tests.bench._measure import quantile
from tests.bench._peers import Pyrate
from tests.bench._report import Aim, Chart, Section, Series, table

_TEXT = """\
N processes record calls on one run, all cells in turns, several times over; calls per second and
the slowest process's share of the fastest's calls are medians of those times, the tails are those
of all admissions together. *BEGIN IMMEDIATE*: the raw ledger with SQLite's own waiting and no file
lock. First without any pause, then with pauses of 5 ms on average."""

_WAITED = """\
A ledger that stays locked: with a deadline of {:g} s, threads and processes that wait are refused
after {:.3f} to {:.3f} s ({} of them)."""

_THINK_S = 0.005
_OURS, _RAW, _PYRATE = "keybrake", "BEGIN IMMEDIATE", "pyrate-limiter, file lock"
_ENGINES = {_OURS: "ours", _RAW: "raw", _PYRATE: "pyrate"}


class _Cell(NamedTuple):
    """One way to load a ledger."""

    who: str
    durability: str
    many: int
    think_s: float = 0.0


_Found = dict[_Cell, Sequence[Crowd]]


def measure(folder: Path, *, short: bool) -> Section:
    """Measure processes that hammer, processes that pause, and deadlines."""
    many = (1, 2) if short else (1, 2, 4, 8, 16, 32)
    rounds, seconds = (1, 0.3) if short else (3, 2.0)
    busy = many[-1] if short else 8
    hammering = [_Cell(who, "power", n) for n in many for who in (_OURS, _RAW)]
    hammering += [_Cell(who, "process", n) for n in (1, busy, many[-1]) for who in (_OURS, _RAW)]
    pausing = [_Cell(w, "power", n, _THINK_S) for n in many[-3:] for w in (_OURS, _RAW)]
    peers = [] if short or not _is_there() else [_Cell(_PYRATE, "process", busy)]
    cells = list(dict.fromkeys([*hammering, *pausing, *peers]))
    found = _measured(folder, cells, rounds, seconds)
    waited, deadline_s = deadlines(folder, short=short)
    head = ("", "N", "calls/s", "share", "admit p50 ms", "p99", "p99.9", "max")
    parts = (
        _TEXT,
        table(("no pause", *head[1:]), _lines(found, hammering + peers)),
        table(("pauses of 5 ms", *head[1:]), _lines(found, pausing)),
        _WAITED.format(deadline_s, min(waited), max(waited), len(waited)),
    )
    aims = [
        *_aims(found, busy, many[-1]),
        Aim("the lock deadline, the last to be refused", max(waited) / deadline_s, most=1.1),
        Aim("the lock deadline, the first to be refused", min(waited) / deadline_s, least=0.9),
    ]
    return Section("Many processes", parts, aims, _charts(found, many))


def _is_there() -> bool:
    try:
        import pyrate_limiter  # noqa: F401 -- whether it can be imported is the question
    except ImportError:
        return False
    return True


def _measured(folder: Path, cells: Sequence[_Cell], rounds: int, seconds: float) -> _Found:
    found: dict[_Cell, list[Crowd]] = {cell: [] for cell in cells}
    for nr in range(rounds):
        for cell in cells:
            path = folder / f"{cells.index(cell)}-{nr}.db"
            # What is rare shows only in many admissions, and a pause leaves fewer.
            long = seconds * (2 if cell.think_s else 1)
            load = Load(_ENGINES[cell.who], path, cell.durability, None, long, cell.think_s)
            found[cell].append(_once(load, cell.many))
    return dict(found)


def _once(load: Load, many: int) -> Crowd:
    """Let a crowd at a new ledger, and check that its totals are exact."""
    engine: Ours | Floor | Pyrate
    if load.engine == "ours":
        engine = Ours(load.path, durability=load.durability)
        load = replace(load, run=engine.run)
    elif load.engine == "raw":
        engine = Floor(load.path, durability=load.durability)
    else:
        engine = Pyrate(load.path)
    with closing(engine):
        done = crowd(load, many)
        engine.check(sum(done.calls) + done.warm_up)
    return done


def _speed(crowds: Sequence[Crowd]) -> float:
    return statistics.median(crowd.speed for crowd in crowds)


def _share(crowds: Sequence[Crowd]) -> float:
    return statistics.median(crowd.share for crowd in crowds)


def _tail(crowds: Sequence[Crowd], share: float) -> float:
    admits = array("d")
    for each in crowds:
        admits.extend(each.admits_ms)
    return quantile(admits, share)


def _lines(found: _Found, cells: Sequence[_Cell]) -> list[tuple[str, ...]]:
    lines = []
    for cell in sorted(dict.fromkeys(cells), key=lambda c: (c.durability, c.many)):
        crowds = found[cell]
        tails = (f"{_tail(crowds, share):,.2f}" for share in (0.5, 0.99, 0.999, 1))
        name = f"{cell.who}, {cell.durability}"
        speed, share = f"{_speed(crowds):,.0f}", f"{_share(crowds):.2f}"
        lines.append((name, str(cell.many), speed, share, *tails))
    return lines


def _aims(found: _Found, busy: int, most: int) -> list[Aim]:
    aims = []
    for durability in ("power", "process"):
        one, many = (found[_Cell(_OURS, durability, n)] for n in (1, busy))
        kept = _speed(many) / _speed(one)
        aims += [
            Aim(f"{busy} processes, {durability}, to one's throughput", kept, least=0.7),
            Aim(f"{busy} processes, {durability}, slowest share", _share(many), least=0.4),
        ]
    ours, raw = (_tail(found[_Cell(who, "power", most, _THINK_S)], 0.999) for who in (_OURS, _RAW))
    aims.append(Aim(f"{most} with pauses, p99.9 to BEGIN IMMEDIATE's", ours / raw, most=0.5))
    if (peer := _Cell(_PYRATE, "process", busy)) in found:
        worst = _tail(found[_Cell(_OURS, "process", busy)], 1) / _tail(found[peer], 1)
        aims.append(Aim(f"{busy} processes, longest wait to pyrate-limiter's", worst, most=0.2))
    return aims


def _charts(found: Mapping[_Cell, Sequence[Crowd]], many: Sequence[int]) -> list[Chart]:
    hammered = [
        Series(who, [_speed(found[_Cell(who, "power", n)]) for n in many]) for who in (_OURS, _RAW)
    ]
    paused = [
        Series(who, [_tail(found[_Cell(who, "power", n, _THINK_S)], 0.999) for n in many[-3:]])
        for who in (_OURS, _RAW)
    ]
    places = [str(n) for n in many]
    return [
        Chart("Calls/s by processes, power, no pause", places, hammered),
        Chart("Admit p99.9 in ms by processes, 5 ms pauses", places[-3:], paused, log=True),
    ]
