"""How a call ends: once, at its cost, and with it an older one under the same key."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import NamedTuple

from keybrake.errors import LedgerError
from keybrake.ledger import positions, stakes
from keybrake.ledger import statements as sql
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.protocol import Admitted
from keybrake.model.call import Outcome, State


def end(
    writing: Writing, admitted: Admitted, outcome: Outcome, evidence: str | None = None
) -> None:
    """
    End a call that is reserved or unknown, and whatever is proven by it.

    Raises:
        LedgerError: It has ended already.
    """
    settled = outcome.state is State.SETTLED
    if outcome.state is State.UNKNOWN:
        learnt = (outcome.note, outcome.object_id, outcome.http_status)
        writing.execute(sql.MARK_UNKNOWN, (*learnt, writing.now, admitted.seq))
        if writing.cursor.rowcount != 1:
            raise _ended_already(admitted)
        # In full, because a later event will overwrite what the row says.
        writing.of_call("unknown", admitted.seq, detail=json.dumps(learnt))
        return
    twin = _twin(writing, admitted, proven=settled or outcome.conclusive)
    cost, prior = positions.cost(writing, admitted, outcome) if settled else (0, None)
    if twin is not None:
        by = f"call {admitted.seq}, under the same idempotency key"
        cost, prior = _shared(writing, twin, _End(outcome, by), cost, prior)
    _write(writing, admitted, _End(outcome, evidence), cost, prior)


class _End(NamedTuple):
    """How a call ended, and how that came to be known."""

    outcome: Outcome
    evidence: str | None


def _write(writing: Writing, admitted: Admitted, end: _End, cost: int, prior: int | None) -> None:
    outcome, state = end.outcome, end.outcome.state.value
    contingent = outcome.contingent_micros
    facts: tuple[object, ...] = (
        admitted.tracked if outcome.position is None else outcome.position,
        prior,
        outcome.object_id,
        outcome.http_status,
        admitted.contingent_micros if contingent is None else contingent,
        writing.now,
        end.evidence,
    )
    reason = outcome.note or ("overrun" if cost > admitted.reserved else None)
    columns = (state, cost, reason, *facts, admitted.seq)
    writing.execute(sql.END_RESERVED, columns)
    if writing.cursor.rowcount != 1:
        # What is known of an unknown call stays, unless more is known now.
        facts = writing.execute(sql.END_UNKNOWN, columns).fetchone()
        if facts is None:
            raise _ended_already(admitted)
    if admitted.tracked is not None and not admitted.let_go:
        writing.execute(sql.END_WRITE, (admitted.tracked,))
    positions.recount(writing, admitted.scopes, admitted.buckets, admitted.reserved, cost)
    reserved = -admitted.reserved
    writing.of_call(state, admitted.seq, facts, reserved=reserved, spent=cost)
    if admitted.staked:
        stakes.end(writing, admitted.seq)


def _twin(writing: Writing, admitted: Admitted, *, proven: bool) -> tuple[str, Admitted] | None:
    """Return the call under the same key that counts in this one's stead, if this one proves it."""
    if admitted.leans_on is None or not proven:
        return None
    state, twin = open_call(writing, admitted.leans_on)
    if state == State.UNKNOWN and twin.tracked is not None:
        # It is over now, so it keeps no answer of the newer call from being believed.
        writing.execute(sql.END_WRITE, (twin.tracked,))
        twin = twin._replace(let_go=True)
    return state, twin


def _shared(
    writing: Writing, twin: tuple[str, Admitted], end: _End, cost: int, prior: int | None
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
        _write(writing, older, end, share, prior)
        return cost - share, older.seq
    counted, position = writing.execute(
        "SELECT coalesce(cost, 0), position FROM call WHERE seq = ?", (older.seq,)
    ).fetchone()
    if state == State.SETTLED and position is None and value is not None:
        # Settled by a person's word, which names no object: the event is counted there.
        return max(0, cost - counted), older.seq
    return cost, prior


def open_call(writing: Writing, seq: int) -> tuple[str, Admitted]:
    """Return a call as it was admitted, and the state it is in now."""
    row = writing.execute(sql.SELECT_OPEN_CALL, (seq,)).fetchone()
    if row is None:
        msg = f"there is no call {seq} in this ledger; keybrake unresolved lists those in doubt"
        raise LedgerError(msg)
    state, scopes, buckets, *facts = row
    counted = tuple(tuple(bucket) for bucket in json.loads(buckets or "[]"))
    reserved, tracked, leans_on, contingent = facts
    return state, Admitted(
        seq,
        tuple(json.loads(scopes)),
        counted,
        reserved,
        tracked,
        leans_on,
        contingent_micros=contingent,
        staked=True,  # as far as its row says; if it is not, nothing is there to be ended
    )


def _ended_already(admitted: Admitted) -> LedgerError:
    return LedgerError(f"call {admitted.seq} has ended already")
