"""Engines that are broken on purpose: a test that lets one of these pass shows nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keybrake.ledger.stores.sqlite import ledger
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.model.call import Outcome, State


def recording_after_the_call() -> None:
    """Send first and write the call down when its answer is there."""
    admit, settle = SQLiteLedger.admit, SQLiteLedger.settle
    engine: Any = SQLiteLedger
    engine.admit = lambda _, admission, *, wait=True: admission
    engine.settle = lambda self, admission, outcome, *, wait=True: settle(
        self, admit(self, admission, wait=wait), outcome, wait=wait
    )


def without_a_transaction() -> None:
    """Count a call in one transaction and write its row in another."""
    reserve = ledger._reserve_in

    def reserve_and_commit(writing: Any, *rest: Any) -> Any:
        buckets = reserve(writing, *rest)
        writing.execute("COMMIT")
        writing.execute("BEGIN IMMEDIATE")
        return buckets

    ledger._reserve_in = reserve_and_commit


def releasing_what_the_dead_left() -> None:
    """Take it that a call whose process died was never made."""
    in_doubt = SQLiteLedger.in_doubt
    engine: Any = SQLiteLedger

    def released(self: SQLiteLedger, seq: int | None = None) -> Any:
        found = in_doubt(self, seq)
        if seq is None:
            for doubt in found:
                self.resolve(doubt.seq, Outcome(State.VOIDED), "its process is dead")
        return found

    engine.in_doubt = released


BROKEN: dict[str, Callable[[], None]] = {
    engine.__name__: engine
    for engine in (recording_after_the_call, without_a_transaction, releasing_what_the_dead_left)
}
