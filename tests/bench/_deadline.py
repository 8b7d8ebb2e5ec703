"""When is it refused that waits for a ledger which stays locked."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from filelock import lock_descriptor

from keybrake import LedgerUnavailable
from keybrake.ledger.stores.sqlite.ledger_files import lock_path
from tests.bench._ledger import Ours

_FORKS = multiprocessing.get_context("forkserver")


def deadlines(folder: Path, *, short: bool) -> tuple[list[float], float]:
    """Return the seconds after which each waiter was refused, and the deadline they had."""
    deadline_s, many = (0.3, 2) if short else (1.0, 8)
    path = folder / "locked.db"
    with closing(Ours(path, durability="process", lock_timeout_s=deadline_s)) as ours:
        waited = _threads(ours, path, many)
        waited += _processes(path, ours.run, deadline_s, many)
        ours.check()
    return waited, deadline_s


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the ledger's lock, as another process would: by a descriptor of its own."""
    fd = os.open(lock_path(path), os.O_RDWR)
    try:
        assert lock_descriptor(fd, blocking=False)
        yield
    finally:
        os.close(fd)


def _threads(ours: Ours, path: Path, many: int) -> list[float]:
    waited: list[float] = []
    threads = [threading.Thread(target=lambda: waited.append(_wait(ours))) for _ in range(many)]
    with _locked(path):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return waited


def _processes(path: Path, run: int, deadline_s: float, many: int) -> list[float]:
    ready, go = _FORKS.Barrier(many + 1), _FORKS.Event()
    pipes = [_FORKS.Pipe() for _ in range(many)]
    processes = [
        _FORKS.Process(target=_waiter, args=(path, run, deadline_s, ready, go, its))
        for _, its in pipes
    ]
    for process in processes:
        process.start()
    ready.wait()
    with _locked(path):
        go.set()
        waited = [mine.recv() for mine, _ in pipes]
    for process in processes:
        process.join()
    return waited


def _waiter(
    path: Path,
    run: int,
    deadline_s: float,
    ready: threading.Barrier,
    go: threading.Event,
    tell: Connection,
) -> None:
    ours = Ours(path, durability="process", run=run, lock_timeout_s=deadline_s)
    with closing(ours):
        ready.wait()
        go.wait()
        tell.send(_wait(ours))


def _wait(ours: Ours) -> float:
    began = time.monotonic()
    try:
        ours.admit()
    except LedgerUnavailable:
        return time.monotonic() - began
    msg = "it was admitted on a ledger that somebody else holds"
    raise AssertionError(msg)
