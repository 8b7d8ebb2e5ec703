"""
Is nothing lost by a kill at any system call? ``python -m tests.faults.crash_points [--every]``.

Each act is played once to count its system calls; then it is played again for each of them, and
killed as it enters that one. What is left is compared with the vendor's own journal, and another
process goes on with it until the cap stops it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from keybrake.testing import FakeStripe
from tests.faults import _acts, _oracle
from tests.faults._acts import ACTS, Act, After, Scene
from tests.faults._engines import BROKEN
from tests.faults._stage import Actor, Theatre, calls_of, fake_vendor, traced_answer

# What another process or the vendor can see of a call: the short form is killed at these alone. A
# kill at any other is, to everybody else, one at the next of these.
SEEN = [
    *("sendto", "connect", "recvfrom", "pwrite64", "fdatasync", "fsync", "flock", "fcntl"),
    *("openat", "unlink", "rename", "ftruncate", "write", "close"),
]
SHORT = {"call": SEEN, "tasks": ["sendto", "fdatasync", "pwrite64"], "revoke": SEEN, "issue": SEEN}
_WORKERS = 2


class Point(NamedTuple):
    """The *k*-th time that *act* enters *syscall*."""

    act: str
    syscall: str
    k: int


class Struck(NamedTuple):
    """What came of a kill at a point."""

    point: Point
    killed: bool
    violations: list[str]


class Trial:
    """A fake vendor and a ledger to copy, on which one point after the other is tried."""

    def __init__(self, folder: Path, fake: FakeStripe, engine: str | None = None) -> None:
        self._fake = fake
        self._engine = None if engine is None else BROKEN[engine]
        self._folder = folder
        self._theatre = Theatre(folder, fake.url)

    def points(self, name: str, syscalls: Sequence[str] | None) -> list[Point]:
        """Return the points of an act, in the order of *syscalls*; None: at every system call."""
        with self._actor(self._theatre.scene(), ACTS[name]) as actor:
            calls = calls_of(actor, self._folder / "trace")
        counts = Counter(call.split("(")[0] for call in calls)
        names = sorted(counts) if syscalls is None else [it for it in syscalls if it in counts]
        return [Point(name, it, k + 1) for it in names for k in range(counts[it])]

    def strike(self, point: Point) -> Struck:
        """Kill at a point, and see what is left and what comes after."""
        scene, before = self._theatre.scene(), len(self._fake.journal.entries)
        only = f"trace={point.syscall}"
        strike = f"inject={point.syscall}:signal=KILL:when={point.k}"
        with self._actor(scene, ACTS[point.act]) as actor:
            answer = traced_answer(actor, "-o", "/dev/null", "-e", only, "-e", strike)
        wrong = [] if answer in (None, "done") else [f"it ended with {answer}"]
        wrong += self._left(scene, before)
        with contextlib.suppress(FileNotFoundError):
            wrong += self._after(scene)
            wrong += [f"afterwards, {it}" for it in self._left(scene, before)]
        return Struck(point, answer is None, wrong)

    def _actor(self, scene: Scene, act: Act) -> Actor:
        return Actor(scene, act, self._engine)

    def _left(self, scene: Scene, before: int) -> list[str]:
        """Compare the ledger, if it has been made, with what the vendor saw."""
        journal = self._fake.journal.entries[before:]
        if not Path(scene.file).exists():
            return [f"there is no ledger, and the vendor saw {len(journal)}"] if journal else []
        return _oracle.violations(scene, journal)

    def _after(self, scene: Scene) -> Iterator[str]:
        """Open the ledger again and go on until the cap is reached."""
        orphans = _orphans(scene)
        with self._actor(scene, _acts.go_on) as actor:
            actor.go()
            after = actor.answer()
        if not isinstance(after, After):
            yield f"the ledger does not open again: {after}"
            return
        if after.ended not in ("cap_exceeded", "run_revoked"):
            yield f"what came after was ended by {after.ended or 'nothing'}"
        if missing := orphans - set(after.doubts):
            yield f"calls {missing} are reserved for ever, and not listed as in doubt"
        if after.verified:
            yield after.verified


def _orphans(scene: Scene) -> set[int]:
    """Return the calls that nobody will end any more."""
    if not Path(scene.file).exists():
        return set()
    with _oracle.opened(scene) as ledger:
        rows = _oracle.rows_of(ledger)
    return {seq for seq, _, state, _, _ in rows if state in ("reserved", "unknown")}


@contextlib.contextmanager
def trial(engine: str | None = None) -> Iterator[Trial]:
    """Set everything up for strikes, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder, fake_vendor() as fake:
        yield Trial(Path(folder), fake, engine)


def strike_all(
    points: Sequence[Point], engine: str | None = None, tell: Callable[[Struck], None] | None = None
) -> list[Struck]:
    """Strike at each of the points, two at a time."""
    queue, done, turn = list(reversed(points)), [], threading.Lock()

    def work(_: int) -> None:
        with trial(engine) as mine:
            while True:
                with turn:
                    if not queue:
                        return
                    point = queue.pop()
                struck = mine.strike(point)
                done.append(struck)
                if tell is not None:
                    tell(struck)

    with ThreadPoolExecutor(_WORKERS) as pool:
        list(pool.map(work, range(_WORKERS)))
    return done


def main() -> int:
    """Strike, and print how many points there were and what was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.crash_points", description=__doc__
    )
    parser.add_argument("--every", action="store_true", help="every act, every system call")
    parser.add_argument("--act", choices=ACTS, action="append", help="only this one")
    parser.add_argument("--engine", choices=BROKEN, help="one that is broken on purpose")
    options = parser.parse_args()
    acts = options.act or list(ACTS if options.every else SHORT)
    began = time.monotonic()
    with trial(options.engine) as mine:
        points = [
            it
            for act in acts
            for it in mine.points(act, None if options.every else SHORT.get(act, SEEN))
        ]
    struck = strike_all(points, options.engine, _tell)
    for act in acts:
        of_act = [it for it in struck if it.point.act == act]
        print(f"{act:<14} {len(of_act):>5} points, {sum(it.killed for it in of_act):>5} killed")
    broken = sum(bool(it.violations) for it in struck)
    print(f"{len(struck)} points, {broken} with violations, {time.monotonic() - began:.0f} s")
    return 3 if broken else 0


def _tell(struck: Struck) -> None:
    for violation in struck.violations:
        print(f"{' '.join(map(str, struck.point))}: {violation}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
