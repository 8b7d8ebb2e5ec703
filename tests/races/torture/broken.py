"""Engines that are broken on purpose: a torture run that does not notice them proves nothing."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from keybrake.errors import CallRefused
from keybrake.ledger import Admission, Admitted, ending, positions
from keybrake.ledger import statements as sql
from keybrake.ledger.event_chain import _HEAD, Chain, Writing
from keybrake.ledger.stores.sqlite import owners
from keybrake.ledger.stores.sqlite.connections import Store
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.ledger.stores.sqlite.write_lock import LedgerLock
from keybrake.model.call import Outcome, State

# Long enough for another process to decide on the same total.
_PAUSE_S = 0.1


def no_transaction() -> None:
    """Reads, decides, and writes later, each by itself: no lock, no transaction, no cap in SQL."""
    begin, commit, reserve, write = Store.begin, Store.commit, SQLiteLedger._reserve, Chain.write

    def begin_none(self: Store, **how: bool) -> Writing:
        writing = begin(self, **how)
        writing.cursor.execute("COMMIT")
        return writing

    def commit_none(self: Store, writing: Writing) -> None:
        writing.cursor.execute("BEGIN IMMEDIATE")
        commit(self, writing)

    def reserve_late(self: SQLiteLedger, *decided: Any) -> Admitted:
        time.sleep(_PAUSE_S)
        return reserve(self, *decided)

    def write_anywhere(self: Chain, cursor: sqlite3.Cursor, *event: Any) -> None:
        while True:
            self.seq, self.at, self._hash = cursor.execute(_HEAD).fetchone()
            with contextlib.suppress(sqlite3.IntegrityError):
                return write(self, cursor, *event)

    sql.RESERVE = "UPDATE scope SET reserved = reserved + ?, calls = calls + 1 WHERE id = ? AND (? OR ? OR ? OR 1)"
    LedgerLock.lock_file = lambda _self, _deadline_s: None
    Store.begin, Store.commit = begin_none, commit_none
    SQLiteLedger._reserve, Chain.write = reserve_late, write_anywhere


def record_after_call() -> None:
    """Decides, lets the call go, and writes it down only when its outcome is there."""
    admit, settle = SQLiteLedger.admit, SQLiteLedger.settle
    numbers = itertools.count(1)
    later: dict[int, Admission] = {}

    def only_decide(self: SQLiteLedger, admission: Admission, *, wait: bool = True) -> Admitted:
        def decide(writing: Writing) -> None:
            raise _Decided(self._admit(admission, writing))

        try:
            self._group_commit.take(decide, wait=wait)
        except _Decided as decided:
            answer = decided.answer
        if isinstance(answer, CallRefused):
            return admit(self, admission, wait=wait)
        number = -next(numbers)
        later[number] = admission
        return answer._replace(seq=number)

    def write(
        self: SQLiteLedger, admitted: Admitted, outcome: Outcome, *, wait: bool = True
    ) -> None:
        settle(self, admit(self, later[admitted.seq], wait=wait), outcome, wait=wait)

    SQLiteLedger.admit, SQLiteLedger.settle = only_decide, write


class _Decided(Exception):
    """Takes a decision out of a transaction, which is rolled back by it."""

    def __init__(self, answer: Admitted | CallRefused) -> None:
        super().__init__()
        self.answer = answer


def void_on_error() -> None:
    """Takes every error for proof that nothing happened."""
    _void_if(lambda _outcome: True)


def void_on_5xx() -> None:
    """Takes a server's error for proof that nothing happened."""
    _void_if(lambda outcome: (outcome.http_status or 0) >= 500)


def _void_if(is_taken_for_proof: Callable[[Outcome], bool]) -> None:
    settle = SQLiteLedger.settle

    def settle_void(
        self: SQLiteLedger, admitted: Admitted, outcome: Outcome, *, wait: bool = True
    ) -> None:
        if outcome.state is State.UNKNOWN and is_taken_for_proof(outcome):
            outcome = replace(outcome, state=State.VOIDED)
        settle(self, admitted, outcome, wait=wait)

    SQLiteLedger.settle = settle_void


def release_on_dead_pid() -> None:
    """Gives back what a process had reserved as soon as that process is dead."""
    admit = SQLiteLedger._admit
    reserved = "SELECT seq, process FROM call WHERE state = 'reserved'"

    def release_and_admit(self: SQLiteLedger, admission: Admission, writing: Writing) -> Any:
        for seq, process in writing.execute(reserved).fetchall():
            if owners.is_gone(self.path, process):
                admitted = ending.open_call(writing, seq)[1]
                ending.end(writing, admitted, Outcome(State.VOIDED, note="its process died"))
        return admit(self, admission, writing)

    SQLiteLedger._admit = release_and_admit


def deaf_to_revoke() -> None:
    """Knows the runs as they were when they were opened: a revocation changes nothing."""
    standing = SQLiteLedger._standing

    def as_it_was(*asked: Any) -> Any:
        return standing(*asked)._replace(revoked_at=None)

    SQLiteLedger._standing = staticmethod(as_it_was)
    sql.RESERVE = sql.RESERVE.replace("revoked_at IS NULL AND", "")


def forget_refusals() -> None:
    """Says no, and writes nothing down."""
    SQLiteLedger._record_refusal = staticmethod(lambda *_: None)


def forget_totals() -> None:
    """Ends calls without counting them in their scopes."""
    positions.recount = lambda *_: None


ENGINES: dict[str, Callable[[], None]] = {
    engine.__name__.replace("_", "-"): engine
    for engine in (
        no_transaction,
        record_after_call,
        void_on_error,
        void_on_5xx,
        release_on_dead_pid,
        deaf_to_revoke,
        forget_refusals,
        forget_totals,
    )
}
