"""
Does the ledger count as a few dictionaries do when two processes share it and may be killed.

What ``tests/ledger/test_model.py`` does with one process and a clock that goes on, and beside it:
another process, kill -9, words of a person on calls in doubt, runs that expire, windows that roll,
and a clock that is set back.
"""

import atexit
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    Bundle,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

import keybrake
from keybrake import Limit
from keybrake.ledger import NewRun
from keybrake.ledger.doubts import STILL_UNDER_WAY
from keybrake.model import clock
from keybrake.model.call import Effect, Outcome, State
from keybrake.policy import decision
from keybrake.policy.policy import Policy, terms_of
from tests.ledger.test_model import CREATE, UNIT, Entry, LedgerMachine, Scope
from tests.model._world import Process

ROLLS = 90 * clock.MINUTE


class TwoProcesses(LedgerMachine):
    """Random steps of two processes on a real ledger and on dictionaries, compared after each."""

    mortals = Bundle("mortals")

    @initialize()
    def begin(self) -> None:
        """Open a ledger in two processes, the first of which makes the next step."""
        self.until: dict[int, int] = {}  # of runs that expire
        self.rolling: dict[int, int] = {}  # cap of runs whose window rolls
        self.admitted_at: dict[int, int] = {}
        self.owner: dict[int, Process] = {}
        self.processes: list[Process] = []
        self.furthest = 0
        super().begin()
        self.ledger.close()
        atexit.unregister(self.ledger._store.close)
        path = Path(self.folder.name) / "ledger.db"
        self.processes = [Process("p0", path), Process("p1", path)]
        self.ledger = self.processes[0].ledger

    def teardown(self) -> None:
        """Leave no process behind."""
        for process in getattr(self, "processes", []):
            process.die()
        super().teardown()

    # Processes

    @rule()
    def go_to_the_other_process(self) -> None:
        """Have the other process make the next steps."""
        self.processes.reverse()
        self.ledger = self.processes[0].ledger

    @rule()
    def kill(self) -> None:
        """Kill a process where it stands, and start another in its place."""
        dead = self.processes.pop()
        dead.die()
        self.processes.append(Process("p", dead.ledger.path))

    # Time

    @rule(minutes=st.integers(1, 120))
    def wait_a_little(self, minutes: int) -> None:
        """Let minutes go by."""
        self.now += minutes * clock.MINUTE

    @rule(hours=st.integers(1, 40))
    def set_the_clock_back(self, hours: int) -> None:
        """Set the wall clock back: ledger time stands still until that has caught up."""
        self.now -= hours * clock.HOUR

    def _time(self) -> int:
        newest = self.eyes.execute("SELECT newest FROM ledger_time").fetchone()[0]
        return max(self.now, newest)

    def _day(self) -> int:
        return self._time() // clock.DAY * clock.DAY

    # Runs that expire, with windows that roll

    @rule(
        target=mortals,
        hours=st.integers(1, 30),
        cap=st.none() | st.integers(1, 12),
        window=st.none() | st.integers(1, 9),
    )
    def open_mortal(self, hours: int, cap: int | None, window: int | None) -> Scope:
        """Open a run that expires."""
        limits = {} if window is None else {CREATE: Limit(cap=window, per="90m")}
        terms = terms_of(Policy(cap=cap, limits=limits))
        uid = f"run_{len(self.scopes)}"
        opened_at, lives_for = self._time(), hours * clock.HOUR
        pk = self.ledger.open_run(NewRun(uid, uid, terms, lives_for, uid.encode().ljust(32)))
        self.until[pk] = opened_at + lives_for
        if window is not None:
            self.rolling[pk] = window * UNIT
        self.scopes[pk] = Scope(pk, uid, (pk,), terms.cap)
        return self.scopes[pk]

    @rule(target=mortals, parent=mortals)
    def open_in_mortal(self, parent: Scope) -> Scope:
        """Open a run in one that expires, if that is alive."""
        uid = f"run_{len(self.scopes)}"
        new = NewRun(uid, uid, _FREE, None, uid.encode().ljust(32), parent=parent.pk)
        if self._is_over(parent):
            with pytest.raises(keybrake.CallRefused):
                self.ledger.open_run(new)
            return parent
        pk = self.ledger.open_run(new)
        self.scopes[pk] = Scope(pk, uid, (pk, *parent.chain))
        return self.scopes[pk]

    @rule(target=LedgerMachine.calls, run=mortals, dollars=st.integers(0, 6))
    def admit_in_mortal(self, run: Scope, dollars: int) -> Any:
        """Ask for money in a run that may have expired."""
        return self._admit(run, dollars * UNIT, None, Effect.MONEY) or multiple()

    def _is_over(self, run: Scope) -> bool:
        return any(self._time() >= self.until.get(pk, self._time() + 1) for pk in run.chain)

    # A person's word

    @rule(
        entry=consumes(LedgerMachine.unknowns), target=LedgerMachine.ended, happened=st.booleans()
    )
    def resolve_by_hand(self, entry: Entry, happened: bool) -> Entry:
        """Resolve a call that is unknown, from whatever process."""
        self._resolve(entry, happened=happened)
        return entry

    @rule(entry=consumes(LedgerMachine.calls), target=LedgerMachine.calls, happened=st.booleans())
    def resolve_too_early(self, entry: Entry, happened: bool) -> Any:
        """Resolve a reserved call: only when its process has ended, or could not end it for long."""
        if self._is_in_doubt(entry):
            self._resolve(entry, happened=happened)
            return multiple()
        with pytest.raises(keybrake.LedgerError, match="may still be under way"):
            self._tell(entry, happened=happened)
        return entry

    @rule(entry=LedgerMachine.ended, happened=st.booleans())
    def resolve_again(self, entry: Entry, happened: bool) -> None:
        """Resolve a call that has ended: refused, and nothing changes."""
        with pytest.raises(keybrake.LedgerError, match="has ended already"):
            self._tell(entry, happened=happened)

    def _resolve(self, entry: Entry, *, happened: bool) -> None:
        self._tell(entry, happened=happened)
        self._end(entry, "settled" if happened else "voided", entry.reserved if happened else 0)

    def _tell(self, entry: Entry, *, happened: bool) -> None:
        outcome = Outcome(State.SETTLED if happened else State.VOIDED)
        self.ledger.resolve(entry.admitted.seq, outcome, "seen on the dashboard")

    def _is_in_doubt(self, entry: Entry) -> bool:
        seq = entry.admitted.seq
        is_old = self._time() - self.admitted_at[seq] >= STILL_UNDER_WAY
        return entry.state == "unknown" or not self.owner[seq].is_alive or is_old

    # The model

    def _admit(self, run: Scope, value: int, position: str | None, effect: Effect) -> Entry | None:
        time = self._time()
        entry = super()._admit(run, value, position, effect)
        if entry is not None:
            assert self.admitted_at[entry.admitted.seq] == time
            self.owner[entry.admitted.seq] = self.processes[0]
        return entry

    def _allowed(self, run: Scope, increase: int) -> bool:
        if self._is_over(run):
            return False
        since = (self._time() - ROLLS) // clock.MINUTE * clock.MINUTE
        for pk in (pk for pk in run.chain if pk in self.rolling):
            mine = [e for e in self.entries if pk in e.scopes]
            window = [e for e in mine if self.admitted_at[e.admitted.seq] >= since]
            counted = sum(e.reserved if e.state in _OPEN else e.cost for e in window)
            if increase and counted + increase > self.rolling[pk]:
                return False
        return super()._allowed(run, increase)

    def _counters(self, entry: Entry) -> list[tuple[Scope, list[int] | None]]:
        seq = entry.admitted.seq
        at = self.admitted_at.setdefault(seq, self._newest_call(seq))
        minute = at // clock.MINUTE * clock.MINUTE
        return [
            (
                scope,
                scope.buckets.setdefault(minute, [0, 0, 0]) if scope.pk in self.rolling else day,
            )
            for scope, day in super()._counters(entry)
        ]

    def _newest_call(self, seq: int) -> int:
        return int(self.eyes.execute("SELECT at FROM call WHERE seq = ?", (seq,)).fetchone()[0])

    @invariant()
    def what_is_in_doubt_is_listed(self) -> None:
        """Whatever holds money back, and will not be ended by its process, is listed."""
        if not getattr(self, "processes", None):
            return
        listed = {doubt.seq for doubt in self.ledger.in_doubt()}
        # A process remembers how far the clock has been, where the ledger knows of no event then.
        self.furthest = max(self.furthest, self._time())
        doubted = {
            e.admitted.seq: e for e in self.entries if e.state in _OPEN and self._is_in_doubt(e)
        }
        holds = {seq for seq, e in doubted.items() if e.reserved or e.state == "unknown"}
        assert holds <= listed
        assert all(
            seq in doubted or self.furthest - self.admitted_at[seq] >= STILL_UNDER_WAY
            for seq in listed
        )


_OPEN = ("reserved", "unknown")
_FREE = terms_of(Policy(cap=None))


def _live(**more: Any) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    how = settings(stateful_step_count=30, deadline=None, suppress_health_check=checks, **more)
    run_state_machine_as_test(TwoProcesses, settings=how)


def test_two_processes_count_as_the_model_counts():
    """Whatever two processes do, and wherever they are killed, the ledger says what the model says."""
    _live(max_examples=50)


def test_the_model_finds_a_ledger_that_forgets_the_time(monkeypatch):
    """A decision that never sees a run expire is found out."""
    decide = decision.decide

    def decide_at_the_beginning(chain, call, *, increase, now, clash=None):
        return decide(chain, call, increase=increase, now=0, clash=clash)

    monkeypatch.setattr(decision, "decide", decide_at_the_beginning)

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        # It is not made smaller: it is not a bug to be looked into.
        _live(max_examples=200, report_multiple_bugs=False, phases=[Phase.generate])
