"""One seeded world: a clock, ids, a lock, processes that can be killed, a vendor and a wire."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import random
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keybrake.ledger.event_chain import Writing
from keybrake.ledger.stores.sqlite import ledger_files, write_lock
from keybrake.ledger.stores.sqlite.connections import Store
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.ledger.stores.sqlite.lock_waiter import StandIn
from keybrake.model import clock
from tests.model._invariants import Eyes
from tests.model._vendor import Sent, VirtualStripe

BEGINNING = 20_000 * clock.DAY


class Killed(BaseException):
    """Strikes a virtual process in the middle of a transaction."""


class Process:
    """
    One virtual process: a ledger object of its own, until it is killed.

    Attributes:
        ways: The calls under way in it; when it dies they are dropped where they stand.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.ledger = SQLiteLedger(path, lock_timeout_s=0.01, durability="process")
        self.is_alive = True

    def die(self) -> None:
        """Leave everything as the system finds it after kill -9: files stay, locks go."""
        self.is_alive = False
        store, owner = self.ledger._store, self.ledger._owner
        atexit.unregister(store.close)
        atexit.unregister(owner.close)
        owner.let_go()
        for connection in (store._reader, store._writer):
            if connection is not None:
                # Our hold keeps SQLite from tidying up, as if nobody had closed anything.
                connection.close()
        store._hold.drop()
        store.lock.close()
        if store._identity._seal is not None:
            store._identity._seal.close()
        store._reader = store._writer = store._cursor = None


class World:
    """
    Everything that a simulated life depends on, and nothing else: a seed brings it all back.

    Attributes:
        now: The wall clock of the one machine, which somebody may set.
        is_locked: Whether a process outside of the simulation holds the lock.
        trap: What happens at the next commit: ``killed before``, ``killed after``, ``disk full``.
        mail: Requests that are still on the wire although nobody waits for them.
        ways: The generators of all calls: those that were left where they stand are ended at last.
        told: What happened, in words, for whoever replays a seed.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self.dice = random.Random(seed)
        self.vendor = VirtualStripe(self.dice)
        self.path = folder / "ledger.db"
        self.now = BEGINNING + self.dice.randrange(clock.DAY)
        self.vendor.now = self.now
        self.is_locked = False
        self.trap: str | None = None
        self.mail: list[Sent] = []
        self.told: list[str] = []
        self.processes: list[Process] = []
        self.ways: list[Any] = []
        self.eyes = Eyes(self.path, self.vendor)
        self._ids = 0

    def tell(self, *words: object) -> None:
        """Write down what happens, for a replay."""
        self.told.append(" ".join(map(str, words)))

    def start(self) -> Process:
        """Start a process."""
        process = Process(f"p{len(self.processes)}", self.path)
        self.processes.append(process)
        return process

    def alive(self) -> list[Process]:
        """Return the processes that live."""
        return [process for process in self.processes if process.is_alive]

    def passes(self, micros: int) -> None:
        """Let time pass, here and at the vendor."""
        self.now += micros
        self.vendor.now += micros

    def token_hex(self, count: int = 32) -> str:
        """Return the next id."""
        self._ids += 1
        return f"{self._ids:0{2 * count}x}"

    def lock_descriptor(self, fd: int, *, blocking: bool) -> bool:
        """Lock, unless somebody outside holds it."""
        return not self.is_locked and _LOCK(fd, blocking=blocking)

    def commit(self, store: Store, writing: Writing) -> None:
        """Commit, unless what was set happens instead."""
        trap, self.trap = self.trap, None
        if trap == "killed before":
            raise Killed
        if trap == "killed after":
            # SQLite has it, and nobody hears of it: not the seal, not the agent.
            writing.cursor.execute("COMMIT")
            raise Killed
        if trap == "disk full":
            msg = "disk I/O error"
            raise sqlite3.OperationalError(msg)
        _COMMIT(store, writing)

    def end(self) -> None:
        """Leave nothing behind."""
        for process in self.alive():
            process.die()
        for way in self.ways:
            _bury(way)
        self.eyes.close()


_LOCK: Callable[..., bool] = write_lock.lock_descriptor
_COMMIT = Store.commit


class _Buried(BaseException):
    """Ends the generator of a process that was killed long ago."""


def _bury(way: Any) -> None:
    with contextlib.suppress(_Buried, StopIteration):
        # Once where it stands, once where it would write down that it was interrupted.
        for _ in range(3):
            way.throw(_Buried())


@contextlib.contextmanager
def world(seed: int) -> Iterator[World]:
    """Yield a world of its own on a new ledger, and put everything back afterwards."""
    with tempfile.TemporaryDirectory(dir=_memory(), prefix="keybrake-model-") as name:
        folder = Path(name)
        for file in empty_ledger().iterdir():
            shutil.copyfile(file, folder / file.name)
        made = World(seed, folder)
        with pytest.MonkeyPatch.context() as patch:
            _inject(patch, made)
            try:
                yield made
            finally:
                made.end()


def _inject(patch: pytest.MonkeyPatch, made: World) -> None:
    for name in [name for name in os.environ if name.startswith("KEYBRAKE_")]:
        patch.delenv(name)
    patch.setattr(clock, "now", lambda: made.now)
    patch.setattr(secrets, "token_hex", made.token_hex)
    patch.setattr(write_lock, "lock_descriptor", made.lock_descriptor)

    def commit(store: Store, writing: Writing) -> None:
        made.commit(store, writing)

    patch.setattr(Store, "commit", commit)
    # On which file system the folder is does not change from life to life.
    patch.setattr(ledger_files, "file_system", functools.cache(ledger_files.file_system))
    # Whoever waits for the lock of the file waits no real time, and in vain.
    patch.setattr(StandIn, "wait", lambda _self, _deadline_s: False)


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


_emptied: list[tempfile.TemporaryDirectory[str]] = []


def empty_ledger() -> Path:
    """Return a folder with an empty ledger in it, made once: making one takes as long as a life."""
    if not _emptied:
        _emptied.append(tempfile.TemporaryDirectory(dir=_memory(), prefix="keybrake-model-"))
        path = Path(_emptied[0].name) / "ledger.db"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clock, "now", lambda: BEGINNING)
            ledger = SQLiteLedger(path, lock_timeout_s=1.0, durability="process")
            ledger.close()
        path.with_name("ledger.db.lock").unlink()
    return Path(_emptied[0].name)
