"""Did a run move more money than its cap: the account of the stub is the witness, not the ledger."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import keybrake
from keybrake import ledger
from keybrake.ledger.audit.verify import verify
from tests.model.money import play
from tests.model.money.desk import Call
from tests.model.money.play import Ended, OtherProcess, Wire
from tests.model.money.program import Program, resolved
from tests.model.money.routes import ROUTES, answer, as_sent
from tests.model.money.subscriptions import pass_an_hour
from tests.model.money.vendor import WAITS_S, Server, Vendor
from tests.model.money.world import World

SLOWNESS_S = 0.006


class Verdict(NamedTuple):
    """
    What became of one program. Amounts are in cents.

    Attributes:
        moved: What really moved because of the run's calls.
        counted: What the ledger counts at the end: spent and reserved.
        ended: How each call ended.
        needed: Of the refused calls, by reason, those that would have moved more than the cap.
        findings: What ``keybrake verify`` finds wrong with the ledger.
        events: What moved, by economic event.
    """

    program: Program
    moved: int
    counted: int
    ended: list[Ended]
    needed: Counter[str]
    findings: int
    events: dict[str, int]

    @property
    def broken(self) -> str | None:
        """Return the promise that was broken, if one was."""
        if self.moved > self.program.cap:
            return f"moved ${self.moved / 100:.2f} above the cap"
        if self.moved > self.counted:
            return f"moved ${self.moved / 100:.2f}, counted ${self.counted / 100:.2f}"
        return f"verify has {self.findings} findings" if self.findings else None

    @property
    def refused(self) -> Counter[str]:
        """Return how many calls were refused, by reason."""
        return Counter(one.why for one in self.ended if one.how == "refused")


def moved(after: World, since: int, untouched: World) -> dict[str, int]:
    """
    Return what a run moved, by economic event.

    Every movement that a request made counts at its gross value. Of what Stripe moves by itself in
    the hour after, only that part counts which it would not have moved without the run.

    Args:
        after: The world when that hour is over.
        since: How many movements there were before the run.
        untouched: The world as it would be then if the run had made no call.
    """
    by_request: Counter[str] = Counter()
    by_itself: Counter[str] = Counter()
    for move in after.moves[since:]:
        (by_itself if move.by_itself else by_request)[move.event] += move.cents
    without: Counter[str] = Counter()
    for move in untouched.moves[since:]:
        without[move.event] += move.cents
    return dict(by_request + (by_itself - without))


class Trial:
    """A program on its way: its stub, and what would have happened without it."""

    def __init__(self, program: Program, server: Server) -> None:
        self.program = program
        self.ids: dict[str, str] = {}
        self.needed: Counter[str] = Counter()
        world = World()
        for call in program.scene:
            # A program that was made shorter may lack an object that a later call is about.
            with contextlib.suppress(KeyError):
                status, body = carry_out(world, call, self.ids)
                if status == 200 and call.save:
                    self.ids[call.save] = body["id"]
        self.since = len(world.moves)
        self.untouched = world.copy()
        pass_an_hour(self.untouched)
        self.vendor = Vendor(world, program.seed, SLOWNESS_S, program.loses)
        server.vendor = self.vendor
        self.wire = Wire(server.url, WAITS_S if program.loses else 20.0, program.retries)

    def events(self, world: World) -> dict[str, int]:
        """Return what the run has moved once the hour has passed in this world."""
        pass_an_hour(world)
        return moved(world, self.since, self.untouched)

    def play(self, player: play.Player) -> Iterator[Ended]:
        """Play step after step, and note for each refusal whether it was needed."""
        for step in self.program.steps:
            ended = player(step, self.ids)
            self.ids.update(
                (one.call.save, one.made) for one in ended if one.made and one.call.save
            )
            self.needed.update(one.why for one in ended if self._was_needed(one))
            yield from ended

    def _was_needed(self, one: Ended) -> bool:
        """Return whether a refused call would have moved too much, had it gone out last."""
        if one.how != "refused":
            return False
        tried = self.vendor.copy()
        carry_out(tried, one.call, {})
        return sum(self.events(tried).values()) > self.program.cap


def carry_out(world: World, call: Call, ids: dict[str, str]) -> tuple[int, dict]:
    """Carry a call out in a world, without SDK and guard."""
    found = ROUTES[call.name]
    path = found.pattern.format(*resolved(list(call.ids), ids))
    return answer(world, found.method, path, as_sent(resolved(call.params or {}, ids), path))


@contextlib.contextmanager
def _player(
    trial: Trial, other: OtherProcess | None, run: keybrake.Run, url: str
) -> Iterator[play.Player]:
    match trial.program.mode:
        case "tasks":
            with play.in_tasks(trial.wire) as player:
                yield player
        case "processes" if other is not None:
            with play.in_processes(trial.wire, other, run.key, url) as player:
                yield player
        case _:
            with play.in_threads(trial.wire) as player:
                yield player


def judged(program: Program, server: Server, other: OtherProcess | None = None) -> Verdict:
    """Play a program under a run on a ledger of its own, let an hour pass, and compare."""
    with tempfile.TemporaryDirectory(prefix="keybrake-money-") as folder:
        path = Path(folder) / "ledger.db"
        trial, url = Trial(program, server), f"sqlite:///{path}"
        try:
            with keybrake.run("money", cap=f"{program.cap / 100:.2f}", ledger=url) as run:
                with _player(trial, other, run, url) as player:
                    ended = list(trial.play(player))
                counted = int((run.spent + run.reserved) * 100)
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
                findings = verify(reader, path).found
        finally:
            opened = ledger._opened.pop(str(path), None)
            if opened is not None:
                opened.close()
        events = trial.events(trial.vendor.copy())
    total = sum(events.values())
    return Verdict(program, total, counted, ended, trial.needed, findings, events)
