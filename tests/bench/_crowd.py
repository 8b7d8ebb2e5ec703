"""Many processes on one ledger at once: each counts what it did, and how long each admission took."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from array import array
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from tests.bench._floor import Floor
from tests.bench._ledger import Ours
from tests.bench._measure import quantile

# Children come from a server that has the modules loaded, and nothing of this process's files.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.bench._crowd", "keybrake.ledger.stores.sqlite.ledger"])
_WARM_UP = 10


class Engine(Protocol):
    """What a process asks."""

    def admit(self) -> None:
        """Reserve."""

    def settle(self) -> None:
        """End what was reserved."""


@dataclass(frozen=True, slots=True)
class Load:
    """
    What each process does.

    Attributes:
        engine: ``ours``, ``raw`` or ``pyrate``.
        path: Of the ledger.
        durability: Of the ledger.
        run: Which of its runs, of ours.
        seconds: How long.
        think_s: How long it pauses between two calls, on average; 0: it hammers.
    """

    engine: str
    path: Path
    durability: str
    run: int | None
    seconds: float
    think_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """What many processes did together: calls of each, and every admission's milliseconds."""

    calls: list[int]
    admits_ms: array[float]
    seconds: float

    @property
    def speed(self) -> float:
        """Calls per second of all together."""
        return sum(self.calls) / self.seconds

    @property
    def share(self) -> float:
        """The slowest process's calls, as a share of the fastest's."""
        return min(self.calls) / max(self.calls)

    @property
    def warm_up(self) -> int:
        """How many calls were made before it was counted."""
        return _WARM_UP * len(self.calls)

    def tail(self, share: float) -> float:
        """Return a quantile of the admissions, in milliseconds."""
        return quantile(self.admits_ms, share)


def crowd(load: Load, many: int) -> Crowd:
    """Let *many* processes do *load* at once."""
    ready = _FORKS.Barrier(many)
    pipes, processes = [], []
    for _ in range(many):
        mine, its = _FORKS.Pipe()
        process = _FORKS.Process(target=_work, args=(load, ready, its))
        process.start()
        its.close()
        pipes.append(mine)
        processes.append(process)
    told = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join()
    admits = array("d")
    for _, times in told:
        admits.extend(times)
    return Crowd([calls for calls, _ in told], admits, load.seconds)


def _work(load: Load, ready: threading.Barrier, tell: Connection) -> None:
    """Be one of the processes."""
    engine = _opened(load)
    with closing(engine):
        for _ in range(_WARM_UP):
            engine.admit()
            engine.settle()
        ready.wait()
        tell.send(_hammered(engine, load))


def _hammered(engine: Engine, load: Load) -> tuple[int, array[float]]:
    times = array("d")
    think = random.Random().expovariate
    until = time.perf_counter() + load.seconds
    while (began := time.perf_counter()) < until:
        engine.admit()
        times.append((time.perf_counter() - began) * 1000)
        engine.settle()
        if load.think_s:
            time.sleep(think(1 / load.think_s))
    return len(times), times


def _opened(load: Load) -> Any:
    if load.engine == "raw":
        return Floor(load.path, durability=load.durability)
    if load.engine == "ours":
        return Ours(load.path, durability=load.durability, run=load.run)
    from tests.bench._peers import Pyrate

    return Pyrate(load.path)
