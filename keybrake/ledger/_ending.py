"""How a call ends: once, at its cost, and with it an older one under the same key."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from typing import NamedTuple

from keybrake._model import Outcome, State
from keybrake.errors import LedgerError
from keybrake.ledger import _positions
from keybrake.ledger import _statements as sql
from keybrake.ledger.protocol import Admitted


def end(
    cursor: sqlite3.Cursor,
    admitted: Admitted,
    outcome: Outcome,
    now: int,
    evidence: str | None = None,
) -> None:
    """
    End a call that is reserved or unknown, and whatever is proven by it.

    Raises:
        LedgerError: It has ended already.
    """
    settled = outcome.state is State.SETTLED
    if outcome.state is State.UNKNOWN:
        known = (outcome.note, outcome.object_id, outcome.http_status, now, admitted.seq)
        cursor.execute(sql.MARK_UNKNOWN, known)
        _must_have_ended(cursor, admitted)
        return
    twin = _twin(cursor, admitted, proven=settled or outcome.conclusive)
    cost, prior = _positions.cost(cursor, admitted, outcome) if settled else (0, None)
    if twin is not None:
        by = f"call {admitted.seq}, under the same idempotency key"
        cost, prior = _shared(cursor, twin, _End(outcome, now, by), cost, prior)
    _write(cursor, admitted, _End(outcome, now, evidence), cost, prior)


class _End(NamedTuple):
    """How a call ended, when that was known, and how it came to be known."""

    outcome: Outcome
    now: int
    evidence: str | None


def _write(
    cursor: sqlite3.Cursor, admitted: Admitted, end: _End, cost: int, prior: int | None
) -> None:
    outcome = end.outcome
    cursor.execute(
        sql.END_CALL,
        (
            outcome.state,
            cost,
            outcome.note or ("overrun" if cost > admitted.reserved else None),
            outcome.position,
            prior,
            outcome.object_id,
            outcome.http_status,
            end.now,
            outcome.contingent_micros,
            end.evidence,
            admitted.seq,
        ),
    )
    _must_have_ended(cursor, admitted)
    if admitted.tracked is not None and not admitted.let_go:
        cursor.execute(sql.END_WRITE, (admitted.tracked,))
    _positions.recount(cursor, admitted.scopes, admitted.buckets, admitted.reserved, cost)


def _twin(
    cursor: sqlite3.Cursor, admitted: Admitted, *, proven: bool
) -> tuple[str, Admitted] | None:
    """Return the call under the same key that counts in this one's stead, if this one proves it."""
    if admitted.leans_on is None or not proven:
        return None
    state, twin = open_call(cursor, admitted.leans_on)
    if state == State.UNKNOWN and twin.tracked is not None:
        # It is over now, so it keeps no answer of the newer call from being believed.
        cursor.execute(sql.END_WRITE, (twin.tracked,))
        twin = twin._replace(let_go=True)
    return state, twin


def _shared(
    cursor: sqlite3.Cursor, twin: tuple[str, Admitted], end: _End, cost: int, prior: int | None
) -> tuple[int, int | None]:
    """
    Return what is left to the newer of two calls that are one event, and what goes before it.

    What is proven of one is proven of the unknown one before it. That one takes what it had
    reserved and no more: the newer one has set the rest aside in scopes of its own.
    """
    state, older = twin
    value = end.outcome.value_micros
    if state == State.UNKNOWN:
        share = min(older.reserved, cost)
        if end.outcome.state is State.SETTLED and value is None:
            share = older.reserved  # each costs what it has reserved
            cost += share
        end = end._replace(outcome=replace(end.outcome, note=None))
        _write(cursor, older, end, share, prior)
        return cost - share, older.seq
    counted, position = cursor.execute(
        "SELECT coalesce(cost, 0), position FROM call WHERE seq = ?", (older.seq,)
    ).fetchone()
    if state == State.SETTLED and position is None and value is not None:
        # Settled by a person's word, which names no object: the event is counted there.
        return max(0, cost - counted), older.seq
    return cost, prior


def open_call(cursor: sqlite3.Cursor, seq: int) -> tuple[str, Admitted]:
    """Return a call as it was admitted, and the state it is in now."""
    row = cursor.execute(sql.SELECT_OPEN_CALL, (seq,)).fetchone()
    if row is None:
        msg = f"there is no call {seq} in this ledger; keybrake unresolved lists those in doubt"
        raise LedgerError(msg)
    state, _, scopes, buckets, reserved, tracked, leans_on = row
    counted = tuple(tuple(bucket) for bucket in json.loads(buckets or "[]"))
    return state, Admitted(seq, tuple(json.loads(scopes)), counted, reserved, tracked, leans_on)


def _must_have_ended(cursor: sqlite3.Cursor, admitted: Admitted) -> None:
    if cursor.rowcount != 1:
        msg = f"call {admitted.seq} has ended already"
        raise LedgerError(msg)
