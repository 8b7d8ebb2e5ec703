"""Whatever is retried under one key, and whatever is lost: is moved money counted, within every cap?"""

import random
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

import keybrake
from keybrake.ledger import Admission, NewRun
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.model.call import Call, Effect, Outcome, State
from keybrake.policy.policy import Policy, terms_of

CAP = 10
DOLLAR = 1_000_000


class Vendor:
    """The truth: a key is carried out once, and what was answered is repeated."""

    def __init__(self):
        self.answers = {}
        self.moved = []

    def carry_out(self, key, dollars, run, declined):
        """Return the answer to a request, and whether it repeats an older one."""
        if key in self.answers:
            return self.answers[key], True
        answer = None if declined else (f"ch_{key}", dollars)
        self.answers[key] = answer
        if not declined:
            self.moved.append((run, dollars))
        return answer, False


class SameKeyMachine(RuleBasedStateMachine):
    """Calls under few keys, many at once, some lost on the way there, some on the way back."""

    flights = Bundle("flights")

    @initialize()
    def begin(self):
        """Open a ledger, a run with a cap, and another under it."""
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "ledger.db"
        self.ledger = SQLiteLedger(path, lock_timeout_s=5.0, durability="process")
        self.vendor = Vendor()
        self.chains = []
        self._open("run_1", None, CAP)
        self._open("run_2", self.chains[0], CAP - 3)
        self._open("run_3", None, CAP)

    def _open(self, uid, parent, cap):
        above = parent or ()
        terms = terms_of(Policy(cap=cap))
        new = NewRun(
            uid, uid, terms, None, uid.encode().ljust(32), parent=above[0] if above else None
        )
        self.chains.append((self.ledger.open_run(new), *above))

    def teardown(self):
        """Close what was opened."""
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.folder.cleanup()

    @rule(
        target=flights,
        run=st.integers(0, 2),
        key=st.sampled_from("klm"),
        dollars=st.integers(1, 6),
    )
    def admit(self, run, key, dollars):
        """Ask for money under a key that may have been used before, with the same amount."""
        # Runs that share nothing share no keys: which of them counts an event would be open.
        key = f"{key}{self.chains[run][-1]}"
        dollars = self.__dict__.setdefault("amounts", {}).setdefault(key, dollars)
        call = Call(
            "stripe", "stripe.charges.create", "POST", "/v1/charges", Effect.MONEY, value_micros=dollars * DOLLAR,
            idempotency_key=key,
        )  # fmt: skip
        try:
            admitted = self.ledger.admit(Admission("u", call, self.chains[run]))
        except keybrake.CapExceeded:
            return None
        return admitted, key, dollars, run

    @rule(
        flight=consumes(flights),
        fate=st.sampled_from(
            ["answered", "answered", "declined", "lost before", "lost after", "unsent"]
        ),
    )
    def end(self, flight, fate):
        """Let a call arrive or not, and its answer come back or not."""
        if flight is None:
            return
        admitted, key, dollars, run = flight
        if fate == "unsent":
            self.ledger.settle(admitted, Outcome(State.VOIDED))
            return
        answer, replayed = (None, False)
        if fate != "lost before":
            answer, replayed = self.vendor.carry_out(key, dollars, run, fate == "declined")
        if fate.startswith("lost"):
            self.ledger.settle(admitted, Outcome(State.UNKNOWN))
            return
        self.ledger.settle(admitted, self._outcome(answer, replayed))

    @staticmethod
    def _outcome(answer, replayed):
        if answer is None:
            return Outcome(State.VOIDED, conclusive=True)
        object_id, dollars = answer
        return Outcome(
            State.SETTLED,
            object_id,
            "settled",
            dollars * DOLLAR,
            replayed=replayed,
            conclusive=True,
        )

    @rule(look=st.just(lambda: True))
    def reconcile(self, look):
        """A person looks at the vendor's dashboard and says what became of the lost calls there."""
        for doubt in self.ledger.in_doubt():
            if not look():
                continue
            answer = self.vendor.answers.get(doubt.idempotency_key)
            ended = (
                Outcome(State.VOIDED) if answer is None else self._outcome(answer, replayed=False)
            )
            try:
                self.ledger.resolve(doubt.seq, ended, "looked")
            except keybrake.LedgerError as error:
                assert "resolve that one first" in str(error)  # noqa: PT017 -- any other is a failure

    @invariant()
    def what_moved_is_counted_and_no_cap_is_passed(self):
        """The vendor's own account never exceeds what the outermost run counts, nor a run its cap."""
        if not hasattr(self, "ledger"):
            return
        for number, chain in enumerate(self.chains):
            run = self.ledger.run(chain[0])
            assert run.spent + run.reserved <= run.cap, number
            members = [i for i, other in enumerate(self.chains) if chain[0] in other]
            moved = sum(dollars for by, dollars in self.vendor.moved if by in members)
            if len(chain) == 1:
                assert moved * DOLLAR <= run.spent + run.reserved, number


TestSameKey = SameKeyMachine.TestCase
TestSameKey.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


_FATES = ["answered", "declined", "lost before", "lost after", "unsent"]


@pytest.mark.parametrize("seed", range(12))
def test_a_long_life_of_retries_stays_within_its_caps(seed):
    """Many calls under the same keys, several at once, looked at after each step."""
    dice = random.Random(seed)
    for _ in range(12):
        machine = SameKeyMachine()
        machine.begin()
        try:
            _live(machine, dice)
        finally:
            machine.teardown()


def _live(machine, dice):
    flights = []
    for _ in range(40):
        match dice.choices(["admit", "end", "reconcile"], [5, 5, 1])[0]:
            case "admit":
                flights.append(
                    machine.admit(dice.randint(0, 1), dice.choice("kl"), dice.randint(1, 6))
                )
            case "end" if flights:
                machine.end(flights.pop(dice.randrange(len(flights))), dice.choice(_FATES))
            case "reconcile":
                machine.reconcile(lambda: dice.random() < 0.4)
        machine.what_moved_is_counted_and_no_cap_is_passed()


@pytest.mark.parametrize("times", [1, 4])
def test_a_lost_charge_and_its_retries_take_their_cap_once(tmp_path, times):
    """A charge of the whole cap, lost and retried under its key, is one charge of the whole cap."""
    ledger = SQLiteLedger(tmp_path / "l.db", lock_timeout_s=5.0, durability="process")
    terms = terms_of(Policy(cap=CAP))
    run = ledger.open_run(NewRun("run_1", "r", terms, None, b"1" * 32))
    call = Call(
        "stripe", "stripe.charges.create", "POST", "/v1/charges", Effect.MONEY, value_micros=CAP * DOLLAR,
        idempotency_key="k",
    )  # fmt: skip
    ledger.settle(ledger.admit(Admission("u", call, (run,))), Outcome(State.UNKNOWN))
    for _ in range(times):
        admitted = ledger.admit(Admission("u", call, (run,)))
        ledger.settle(
            admitted, Outcome(State.SETTLED, "ch_1", "settled", CAP * DOLLAR, conclusive=True)
        )

    assert (ledger.run(run).spent, ledger.run(run).reserved) == (CAP * DOLLAR, 0)
