"""What our ledger is asked in a bench: admissions and settlements of a cent, without any SDK."""

from __future__ import annotations

import os
import random
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any

from keybrake import CapExceeded, Policy
from keybrake.ledger.protocol import Admission, Admitted, NewRun
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.model.call import Call, Effect, Outcome, State
from keybrake.policy.policy import terms_of

CENT = 10_000
CALL = Call(
    "stripe",
    "stripe.payment_intents.create",
    "POST",
    "/v1/payment_intents",
    Effect.MONEY,
    amount=1,
    currency="usd",
    value_micros=CENT,
    usd_per_unit=Fraction(1),
)
ORIGIN = "https://api.stripe.com"
# What the guard keeps of an ordinary request until its outcome is known.
REQUEST = (
    '{"params": {"amount": 1, "currency": "usd", "customer": "cus_NffrFeUfNV2Hib", "automatic_payme'
    'nt_methods": {"enabled": true}}, "value": 10000, "gathered": [], "offsets": null}'
)


class Ours:
    """
    The same work as ``Floor``, with everything the guard promises.

    Each call makes a position of its own, under an id that is random: what Twilio and Resend
    give is, and it is the harder case, as it lands anywhere in the index.

    Args:
        path: Of the ledger.
        durability: Of the ledger.
        run: Whose run of a ledger that is there; None: a new one.
        policy: Of a new run.
    """

    def __init__(
        self,
        path: Path,
        *,
        durability: str,
        run: int | None = None,
        policy: Policy | None = None,
        lock_timeout_s: float = 60,
    ) -> None:
        self.ledger = SQLiteLedger(path, lock_timeout_s=lock_timeout_s, durability=durability)
        self.run = self._opened(policy or Policy(cap=100_000_000)) if run is None else run
        self._hex = random.Random(os.urandom(8)).getrandbits
        self._open: deque[Admitted] = deque()
        self._asked: Admission | None = None
        self._ended: Outcome | None = None
        self.calls = 0

    def _opened(self, policy: Policy) -> int:
        uid = f"run_{os.urandom(8).hex()}"
        return self.ledger.open_run(NewRun(uid, "bench", terms_of(policy), None, os.urandom(32)))

    def admission(self) -> Admission:
        """Return a call that asks to be admitted."""
        uid = f"{self._hex(96):024x}"
        return Admission(uid, CALL, (self.run,), origin=ORIGIN, request=REQUEST)

    def outcome(self) -> Outcome:
        """Return what Stripe answered: a position of its own."""
        name = f"pi_{self._hex(96):024x}"
        return Outcome(
            State.SETTLED,
            position=f"stripe::{name}",
            position_state="open",
            value_micros=CENT,
            currency="usd",
            usd_per_unit=CALL.usd_per_unit,
            object_id=name,
            http_status=200,
        )

    def prepare(self) -> None:
        """Make up the next call and its answer: in the guard, that is the vendor's part."""
        self._asked, self._ended = self.admission(), self.outcome()

    def call(self) -> None:
        """Record one call of one cent."""
        admitted = self.ledger.admit(self._asked or self.admission())
        self.ledger.settle(admitted, self._ended or self.outcome())
        self._asked = self._ended = None
        self.calls += 1

    def admit(self) -> None:
        """Admit one call; ``settle`` ends it some time."""
        self._open.append(self.ledger.admit(self._asked or self.admission()))
        self._asked = None

    def settle(self) -> None:
        """End the oldest of the calls that were admitted."""
        self.ledger.settle(self._open.popleft(), self._ended or self.outcome())
        self._ended = None
        self.calls += 1

    def refused(self) -> None:
        """Ask for a call that does not fit; the policy has to be one that refuses."""
        try:
            self.ledger.admit(self._asked or self.admission())
        except CapExceeded:
            self.calls += 1
        else:
            msg = "it was admitted"
            raise AssertionError(msg)

    def check(self, calls: int | None = None) -> None:
        """Assert that the totals are exact: those of *calls*, or of its own if nobody else writes."""
        spent = (self.calls if calls is None else calls) * CENT
        found = self.ledger.run(self.run)
        totals: tuple[Any, ...] = (found.spent, found.reserved)
        assert totals == (spent, len(self._open) * CENT), (totals, spent)

    def check_refused(self) -> None:
        """Assert that every refusal is on record, and nothing else."""
        found = self.ledger.run(self.run)
        assert (found.refused, found.calls, found.spent) == (self.calls, 0, 0), found

    def close(self) -> None:
        """Let go of the file."""
        self.ledger.close()
