"""What a torture run does: every call, fault, kill, stop and revocation, drawn from one seed."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from dataclasses import dataclass
from typing import NamedTuple

from keybrake.testing.faults import CHAOS

# What is drawn how often. A shape is a way to make a call; see calls.py.
_IN_THREADS = {
    "plain": 12,
    "tool": 2,
    "child": 2,
    "again": 2,
    "fork": 2,
    "leftover": 1,
    "revoked": 1,
}
_IN_TASKS = {"plain": 12, "tool": 2, "child": 2, "again": 2, "cancelled": 2}
_RUNS = {"main": 10, "daily": 3}  # beside them, each side run: 1
# Answers that sound like an error although money moved are what engines get wrong.
_FAULTS = {kind: 3 if kind.startswith("error_500") else 1 for kind in CHAOS} | {"declined": 2}
_BLOWS = {"kill": 3, "kill_group": 1}
_LEAST_CENTS = 100


class Call(NamedTuple):
    """
    One call of the plan.

    Attributes:
        name: Which, for people.
        cents: Its amount, which no other call of the plan has: so it is known everywhere.
        fault: What goes wrong at the vendor, if anything; *strikes*: with how many requests of it.
        patience_s: After how long a task that makes it is cancelled.
        more: What a child that is forked in the middle of it calls.
    """

    name: str
    run: str
    shape: str
    cents: int
    fault: str | None
    strikes: int
    patience_s: float
    more: tuple[Call, ...] = ()


class Blow(NamedTuple):
    """
    One thing that the driver does to the workers.

    Attributes:
        at: When so many calls have been begun.
        after_s: How long after that.
        what: ``kill`` (one process), ``kill_group`` (with what it forked), ``stop`` (SIGSTOP, for
            *lasts_s*), ``revoke`` (a side run).
        whom: Which worker, or which run.
    """

    at: int
    after_s: float
    what: str
    whom: int | str
    lasts_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Pressure:
    """How hard it is: what the command line says."""

    processes: int = 32
    calls: int = 60
    kills: int = 50
    faults: float = 0.15


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What is done, in full.

    Attributes:
        caps: Cents that each run may move; None: no cap but one per day.
        threads: For each worker, what its threads call, one after another.
        tasks: For each worker, what the tasks of its event loop call.
    """

    seed: int
    pressure: Pressure
    caps: dict[str, int]
    threads: tuple[tuple[Call, ...], ...]
    tasks: tuple[tuple[Call, ...], ...]
    blows: tuple[Blow, ...]

    @property
    def digest(self) -> str:
        """What two runs of the same plan have in common."""
        return hashlib.sha256(repr(dataclasses.astuple(self)).encode()).hexdigest()[:16]

    @property
    def calls(self) -> list[Call]:
        """Every call, those of forked children included."""
        calls = [call for lists in (self.threads, self.tasks) for some in lists for call in some]
        return calls + [more for call in calls for more in call.more]


def draw(seed: int, pressure: Pressure) -> Plan:
    """Draw the plan that *seed* stands for."""
    dice = random.Random(seed)
    revokes = max(1, pressure.processes // 8)
    sides = tuple(f"side{n}" for n in range(revokes))
    drawer = _Drawer(dice, pressure, sides)
    halves = (pressure.calls - pressure.calls // 2, pressure.calls // 2)
    threads, tasks = [], []
    for worker in range(pressure.processes):
        threads.append(drawer.calls(f"{worker}t", halves[0], _IN_THREADS))
        tasks.append(drawer.calls(f"{worker}a", halves[1], _IN_TASKS))
    plan = Plan(seed, pressure, {}, tuple(threads), tuple(tasks), _blows(dice, pressure, sides))
    return dataclasses.replace(plan, caps=_caps(plan))


def _caps(plan: Plan) -> dict[str, int]:
    """Return caps that the calls reach while the blows still fall, save those of the side runs."""
    asked: dict[str, int] = {}
    for call in plan.calls:
        asked[call.run] = asked.get(call.run, 0) + call.cents
    return {
        run: cents * 6 // 10 if run in _RUNS else cents * 2 for run, cents in sorted(asked.items())
    }


class _Drawer:
    """Draws calls; no two have the same amount."""

    def __init__(self, dice: random.Random, pressure: Pressure, sides: tuple[str, ...]) -> None:
        self._dice = dice
        self._faults = pressure.faults
        self._runs = _RUNS | dict.fromkeys(sides, 1)
        # A call of a thread may fork a child that makes two more.
        most = pressure.processes * pressure.calls * 3
        self._cents = iter(dice.sample(range(_LEAST_CENTS, _LEAST_CENTS + most), most))

    def calls(self, prefix: str, count: int, shapes: dict[str, int]) -> tuple[Call, ...]:
        return tuple(self._call(f"{prefix}{n}", shapes) for n in range(count))

    def _call(self, name: str, shapes: dict[str, int], run: str | None = None) -> Call:
        dice = self._dice
        shape = _one(dice, shapes)
        run = run or _one(dice, self._runs)
        # Forked in the middle of the run's block, so the child is on the same run.
        fault = _one(dice, _FAULTS) if dice.random() < self._faults else None
        strikes = dice.choice((1, 1, 1, 2, 3))  # beyond the first: with the SDK's retries, too
        children = 2 if shape == "fork" else 0
        return Call(
            name=name,
            run=run,
            shape=shape,
            cents=next(self._cents),
            fault=fault,
            strikes=1 if fault == "timeout_after" else strikes,
            patience_s=dice.uniform(0.0, 0.06),
            more=tuple(self._call(f"{name}f{n}", {"plain": 1}, run) for n in range(children)),
        )


def _blows(dice: random.Random, pressure: Pressure, sides: tuple[str, ...]) -> tuple[Blow, ...]:
    calls = pressure.processes * pressure.calls
    workers = range(pressure.processes)
    blows = [
        Blow(
            _moment(dice, calls), dice.uniform(0.0, 0.05), _one(dice, _BLOWS), dice.choice(workers)
        )
        for _ in range(pressure.kills)
    ]
    blows += [
        Blow(_moment(dice, calls), 0.0, "stop", dice.choice(workers), dice.uniform(0.01, 0.5))
        for _ in range(pressure.kills // 3)
    ]
    blows += [Blow(_moment(dice, calls // 2), 0.0, "revoke", side) for side in sides]
    return tuple(sorted(blows, key=lambda blow: blow.at))


def _moment(dice: random.Random, calls: int) -> int:
    # Towards the end there may be too few workers left to strike.
    return dice.randrange(calls // 50, calls * 4 // 5)


def _one(dice: random.Random, weights: dict[str, int]) -> str:
    return dice.choices(list(weights), list(weights.values()))[0]
