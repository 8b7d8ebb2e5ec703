"""Does the SQLite ledger count as a few dictionaries do, after any sequence of steps?"""

import random
import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

import keybrake
from keybrake import Limit
from keybrake.ledger import Admission, Admitted, NewRun
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.model import clock
from keybrake.model.call import Call, Effect, Outcome, State
from keybrake.policy.policy import Policy, terms_of

CREATE = "stripe.payment_intents.create"
UNIT = 1_000_000  # whole dollars shrink to smaller numbers


POLICIES = {
    "cap": st.none() | st.integers(0, 12),
    "max_calls": st.none() | st.integers(0, 8),
    "daily": st.integers(0, 9),
}


@dataclass
class Scope:
    """What the model knows of a run or tool."""

    pk: int
    uid: str
    chain: tuple[int, ...]
    cap: int | None = None
    max_calls: int | None = None
    daily: int | None = None
    state: str = "open"
    spent: int = 0
    reserved: int = 0
    calls: int = 0
    refused: int = 0
    buckets: dict[int, list[int]] = field(default_factory=dict)  # day → spent, reserved, calls


@dataclass
class Entry:
    """What the model knows of an admitted call."""

    admitted: Admitted
    scopes: tuple[int, ...]
    day: int
    position: str | None
    reserved: int
    state: str = "reserved"
    cost: int = 0
    tracked: bool = False


class LedgerMachine(RuleBasedStateMachine):
    """Random steps on a real ledger and on dictionaries, compared after each of them."""

    runs = Bundle("runs")
    calls = Bundle("calls")
    unknowns = Bundle("unknowns")
    ended = Bundle("ended")

    @initialize()
    def begin(self) -> None:
        """Open an empty ledger, and a clock that stands still."""
        self.patch = pytest.MonkeyPatch()
        self.now = 20_000 * clock.DAY
        self.patch.setattr(clock, "now", lambda: self.now)
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "ledger.db"
        self.ledger = SQLiteLedger(path, lock_timeout_s=5.0, durability="process")
        self.eyes = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self.scopes: dict[int, Scope] = {}
        self.entries: list[Entry] = []
        self.positions: dict[str, list[Entry]] = {}  # who moved it, oldest first
        self.newest: dict[str, int] = {}  # its newest write
        self.under_way: dict[str, list[int]] = {}  # its writes that have not ended
        self._open(parent=None, cap=None, max_calls=None, daily=8)

    def teardown(self) -> None:
        """Close whatever was opened."""
        if hasattr(self, "patch"):
            self.patch.undo()
            self.eyes.close()
            self.ledger.close()
            self.folder.cleanup()

    # Steps

    def _open(self, **policy: Any) -> Scope:
        parent: Scope | None = policy.pop("parent")
        uid = f"run_{len(self.scopes)}"
        limits = {CREATE: Limit(cap=policy.pop("daily"), per="day")}
        if limits[CREATE].cap == 9:
            limits = {}
        terms = terms_of(Policy(**policy, limits=limits))
        digest = uid.encode().ljust(32)
        pk = self.ledger.open_run(
            NewRun(uid, uid, terms, None, digest, parent=parent and parent.pk)
        )
        chain = (pk, *(parent.chain if parent else ()))
        known = Scope(pk, uid, chain, terms.cap, terms.max_calls)
        known.daily = terms.rules[0].cap if terms.rules else None
        self.scopes[pk] = known
        return known

    @rule(target=runs, **POLICIES)
    def open_run(self, **policy: Any) -> Scope:
        """Open a run of its own."""
        return self._open(parent=None, **policy)

    @rule(target=runs)
    def first_run(self) -> Scope:
        """Go on with the run that has a daily limit only, so that most steps find one alive."""
        return next(iter(self.scopes.values()))

    @rule(target=runs, parent=runs, **POLICIES)
    def open_child(self, parent: Scope, **policy: Any) -> Scope:
        """Open a run in a run, if all above it are alive."""
        alive = all(self.scopes[pk].state == "open" for pk in parent.chain)
        try:
            child = self._open(parent=parent, **policy)
        except keybrake.CallRefused:
            assert not alive
            return parent
        assert alive
        return child

    @rule(target=runs, parent=runs, cap=st.none() | st.integers(0, 12))
    def use_tool(self, parent: Scope, cap: int | None) -> Scope:
        """Make a tool of a run; it is a scope like any other."""
        terms = terms_of(Policy(cap=cap))
        pk = self.ledger.tool(parent.pk, f"tool_{len(self.scopes)}", terms)
        self.scopes[pk] = Scope(pk, "", (pk, *parent.chain), terms.cap)
        return self.scopes[pk]

    def _admit(self, run: Scope, value: int, position: str | None, effect: Effect) -> Entry | None:
        asked = Call(
            "stripe", CREATE, "POST", "/v1/payment_intents", effect, value_micros=value, position=position
        )  # fmt: skip
        increase = max(0, value - self._worth(position))
        allowed = self._allowed(run, increase)
        try:
            admitted = self.ledger.admit(Admission("uid", asked, run.chain))
        except keybrake.CallRefused:
            assert not allowed
            for pk in run.chain:
                self.scopes[pk].refused += 1
            return None
        assert allowed
        assert admitted.reserved == increase
        entry = Entry(admitted, run.chain, self._day(), position, increase)
        for scope, bucket in self._counters(entry):
            scope.reserved += increase
            scope.calls += 1
            if bucket:
                bucket[1] += increase
                bucket[2] += 1
        self.entries.append(entry)
        if position in self.positions and effect is not Effect.READ:
            entry.tracked = True
            self.newest[position] = admitted.seq
            self.under_way.setdefault(position, []).append(admitted.seq)
        return entry

    @rule(
        target=calls,
        run=runs,
        dollars=st.integers(0, 6),
        position=st.sampled_from([None, "pi_1", "pi_1", "pi_2"]),
    )
    def admit(self, run: Scope, dollars: int, position: str | None) -> Any:
        """Ask for money: for a new event, or for more of an old one."""
        return self._admit(run, dollars * UNIT, position, Effect.MONEY) or multiple()

    @rule(entry=consumes(calls), target=ended, share=st.integers(0, 4), made=st.booleans())
    def settle(self, entry: Entry, share: int, made: bool) -> Entry:
        """Settle for what was reserved or less; the position is the one asked for or a new one."""
        key = entry.position or (f"made_{entry.admitted.seq}" if made else None)
        if key is None:
            self.ledger.settle(entry.admitted, Outcome(State.SETTLED))
            self._end(entry, "settled", entry.reserved)
            return entry
        before = self._worth(key)
        value = (before + entry.reserved) * share // 4
        self.ledger.settle(entry.admitted, Outcome(State.SETTLED, key, "settled", value))
        seq = entry.admitted.seq
        newest = (self.newest.get(key), self.under_way.get(key)) == (seq, [seq])
        if key not in self.positions:
            self.newest[key] = seq
        elif value < before and not newest:
            value = before  # an answer that may be older than what is counted gives nothing back
        self._end(entry, "settled", max(0, value - before))
        self._move(key, entry, value - before)
        return entry

    @rule(entry=consumes(calls), target=ended)
    def void(self, entry: Entry) -> Entry:
        """Prove that nothing happened."""
        self.ledger.settle(entry.admitted, Outcome(State.VOIDED))
        self._end(entry, "voided", 0)
        return entry

    @rule(entry=consumes(calls), target=unknowns)
    def lose(self, entry: Entry) -> Entry:
        """Lose sight of a call."""
        self.ledger.settle(entry.admitted, Outcome(State.UNKNOWN))
        entry.state = "unknown"
        return entry

    @rule(entry=consumes(unknowns), target=ended, happened=st.booleans())
    def resolve(self, entry: Entry, happened: bool) -> Entry:
        """Find out what became of a lost call."""
        state = State.SETTLED if happened else State.VOIDED
        self.ledger.settle(entry.admitted, Outcome(state))
        self._end(entry, str(state), entry.reserved if happened else 0)
        return entry

    @rule(entry=ended, state=st.sampled_from([State.SETTLED, State.VOIDED]))
    def settle_again(self, entry: Entry, state: State) -> None:
        """End a call a second time: refused, and nothing changes."""
        with pytest.raises(keybrake.LedgerError):
            self.ledger.settle(entry.admitted, Outcome(state, "pi_1", "settled", 3 * UNIT))

    @rule(run=runs, key=st.sampled_from(["pi_1", "pi_2", "made_1"]), dollars=st.integers(0, 6))
    def look(self, run: Scope, key: str, dollars: int) -> None:
        """Read an object: what it is worth may shrink by it, never grow."""
        entry = self._admit(run, 0, None, Effect.READ)
        if entry is None:
            return
        seen = Outcome(State.SETTLED, key, "settled", dollars * UNIT, observed=True)
        self.ledger.settle(entry.admitted, seen)
        self._end(entry, "settled", 0)
        less = key in self.positions and dollars * UNIT < self._worth(key)
        if less and not self.under_way.get(key):
            self._move(key, None, dollars * UNIT - self._worth(key))

    @precondition(lambda self: any(scope.uid for scope in self.scopes.values()))
    @rule(run=runs, word=st.sampled_from(["revoke", "pause", "resume", "close"]))
    def stop(self, run: Scope, word: str) -> None:
        """Say a word to a run; a state that cannot take it is told and stays."""
        if run.uid in ("", "run_0"):
            return
        if word == "close":
            self.ledger.close_run(run.pk)
            run.state = "revoked" if run.state == "revoked" else "closed"
        elif word == "revoke":
            self.ledger.revoke(run.uid)
            run.state = "revoked"
        elif run.state in ("open", "paused"):
            getattr(self.ledger, word)(run.uid)
            run.state = "paused" if word == "pause" else "open"
        else:
            with pytest.raises(keybrake.LedgerError):
                getattr(self.ledger, word)(run.uid)

    @rule(hours=st.integers(1, 30))
    def wait(self, hours: int) -> None:
        """Let time go by."""
        self.now += hours * clock.HOUR

    # The model

    def _day(self) -> int:
        return self.now - self.now % clock.DAY

    def _worth(self, key: str | None) -> int:
        return sum(entry.cost for entry in self.positions.get(key or "", []))

    def _allowed(self, run: Scope, increase: int) -> bool:
        for scope in (self.scopes[pk] for pk in run.chain):
            today = scope.buckets.get(self._day(), [0, 0, 0])
            counted = [(scope.cap, scope.spent + scope.reserved), (scope.daily, sum(today[:2]))]
            over = any(cap is not None and sum_ + increase > cap for cap, sum_ in counted)
            spent_calls = scope.max_calls is not None and scope.calls >= scope.max_calls
            if scope.state != "open" or spent_calls or (increase and over):
                return False
        return True

    def _counters(self, entry: Entry) -> list[tuple[Scope, list[int] | None]]:
        scopes = [self.scopes[pk] for pk in entry.scopes]
        return [
            (scope, None if scope.daily is None else scope.buckets.setdefault(entry.day, [0, 0, 0]))
            for scope in scopes
        ]

    def _end(self, entry: Entry, state: str, cost: int) -> None:
        for scope, bucket in self._counters(entry):
            scope.reserved -= entry.reserved
            if bucket:
                bucket[1] -= entry.reserved
        if entry.tracked:
            self.under_way[entry.position or ""].remove(entry.admitted.seq)
        entry.state = state
        self._charge(entry, cost)

    def _charge(self, entry: Entry, cost: int) -> None:
        for scope, bucket in self._counters(entry):
            scope.spent += cost
            if bucket:
                bucket[0] += cost
        entry.cost += cost

    def _move(self, key: str, entry: Entry | None, change: int) -> None:
        movers = self.positions.setdefault(key, [])
        for mover in reversed(movers) if change < 0 else ():
            back = min(-change, mover.cost)
            self._charge(mover, -back)
            change += back
        if entry is not None and (change > 0 or not movers):
            movers.append(entry)

    # What has to hold after every step

    @invariant()
    def the_ledger_says_what_the_model_says(self) -> None:
        """Totals, buckets, positions and states are equal."""
        if not hasattr(self, "scopes"):
            return
        found = self.eyes.execute(
            "SELECT id, spent, reserved, calls, refused FROM scope"
        ).fetchall()
        assert found == [
            (s.pk, s.spent, s.reserved, s.calls, s.refused) for s in self.scopes.values()
        ]
        found = self.eyes.execute("SELECT scope, at, spent, reserved, calls FROM bucket").fetchall()
        assert sorted(found) == sorted(
            (scope.pk, day, *counts)
            for scope in self.scopes.values()
            for day, counts in scope.buckets.items()
        )
        found = self.eyes.execute("SELECT key, value FROM position").fetchall()
        assert dict(found) == {key: self._worth(key) for key in self.positions}
        found = self.eyes.execute(
            "SELECT seq, state, coalesce(cost, 0), reserved FROM call"
        ).fetchall()
        refused = sum(state == "refused" for _, state, *_ in found)
        assert [row for row in found if row[1] != "refused"] == [
            (e.admitted.seq, e.state, e.cost, e.reserved) for e in self.entries
        ]
        assert len(found) == refused + len(self.entries)

    @invariant()
    def no_cap_is_passed_and_nothing_is_negative(self) -> None:
        """Spent and reserved stay within each cap, and totals are the sums of the rows."""
        if not hasattr(self, "scopes"):
            return
        for pk, cap, spent, reserved in self.eyes.execute(
            "SELECT id, cap, spent, reserved FROM scope"
        ):
            assert spent >= 0
            assert reserved >= 0
            assert cap is None or spent + reserved <= cap
            mine = [entry for entry in self.entries if pk in entry.scopes]
            held = [e for e in mine if e.state in ("reserved", "unknown")]
            assert spent == sum(entry.cost for entry in mine)
            assert reserved == sum(entry.reserved for entry in held)


TestLedgerModel = LedgerMachine.TestCase
TestLedgerModel.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.parametrize("seed", range(6))
def test_a_long_life_is_counted_as_the_model_counts(seed):
    """Hundreds of steps on a few runs and positions, compared after each of them."""
    dice = random.Random(seed)
    machine = LedgerMachine()
    machine.begin()
    try:
        _live(machine, dice, steps=600)
    finally:
        machine.teardown()


def _live(machine: LedgerMachine, dice: random.Random, steps: int) -> None:
    first = machine.first_run()
    runs = [first, machine.open_child(first, cap=40, max_calls=None, daily=9)]
    runs += [machine.use_tool(runs[1], cap=30), machine.open_run(cap=12, max_calls=20, daily=5)]
    waiting: list[Entry] = []
    lost: list[Entry] = []
    for _ in range(steps):
        match dice.choices(["admit", "end", "lose", "resolve", "look", "wait"], [8, 6, 1, 1, 3, 1])[
            0
        ]:
            case "admit":
                key = dice.choice([None, "pi_1", "pi_2"])
                entry = machine.admit(dice.choice(runs), dollars=dice.randint(0, 6), position=key)
                waiting += [entry] if isinstance(entry, Entry) else []
            case "end" if waiting:
                entry = waiting.pop(dice.randrange(len(waiting)))
                if dice.random() < 0.8:
                    machine.settle(entry, share=dice.randint(0, 4), made=dice.random() < 0.5)
                else:
                    machine.void(entry)
                machine.settle_again(entry, State.VOIDED)
            case "lose" if waiting:
                lost.append(machine.lose(waiting.pop()))
            case "resolve" if lost:
                machine.resolve(lost.pop(), happened=dice.random() < 0.5)
            case "look":
                key = dice.choice(["pi_1", "pi_2", "made_1"])
                machine.look(dice.choice(runs), key, dollars=dice.randint(0, 6))
            case "wait":
                machine.wait(hours=dice.randint(1, 30))
        machine.the_ledger_says_what_the_model_says()
        machine.no_cap_is_passed_and_nothing_is_negative()
