"""What our ledger costs without any SDK: one admission and one settlement."""

from __future__ import annotations

import itertools
import os
from fractions import Fraction
from pathlib import Path

from keybrake import Policy
from keybrake._model import Call, Effect, Outcome, State
from keybrake._terms import terms_of
from keybrake.ledger.protocol import Admission, NewRun
from keybrake.ledger.sqlite import SQLiteLedger
from tests.bench._measure import WARM_UP


class Ours:
    """The same work as ``Floor``, with everything the guard promises."""

    def __init__(self, path: Path, *, durability: str) -> None:
        self._ledger = SQLiteLedger(path, lock_timeout_s=10, durability=durability)
        terms = terms_of(Policy(cap=1_000_000))
        new = NewRun("run_bench", "bench", terms, None, os.urandom(32))
        self._run = self._ledger.open_run(new)
        self._ids = itertools.count()
        self._call = Call(
            "stripe",
            "stripe.payment_intents.create",
            "POST",
            "/v1/payment_intents",
            Effect.MONEY,
            amount=1,
            currency="usd",
            value_micros=10_000,
            usd_per_unit=Fraction(1),
        )

    def call(self) -> None:
        """Record one call of one cent that makes a position of its own."""
        name = f"{next(self._ids):024x}"
        admitted = self._ledger.admit(Admission(name, self._call, (self._run,)))
        ended = Outcome(
            State.SETTLED,
            position=f"stripe::pi_{name}",
            position_state="open",
            value_micros=10_000,
            object_id=f"pi_{name}",
            http_status=200,
        )
        self._ledger.settle(admitted, ended)

    def admit(self) -> None:
        """Admit one call of one cent, and leave it at that."""
        name = f"{next(self._ids):024x}"
        self._ledger.admit(Admission(name, self._call, (self._run,)))

    def check(self, rounds: int) -> None:
        """Assert that the totals are exact."""
        run = self._ledger.run(self._run)
        assert (run.spent, run.reserved) == ((rounds + WARM_UP) * 10_000, 0)
        self._ledger.close()
