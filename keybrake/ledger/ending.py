"""End a call, once; the outcome may also end an earlier attempt with the same idempotency key."""

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
    End a reserved or unknown call, and the earlier attempt whose outcome it proves.

    Raises:
        LedgerError: The call has ended already.
    """
    settled = outcome.state is State.SETTLED
    if outcome.state is State.UNKNOWN:
        learnt = (outcome.note, outcome.object_id, outcome.http_status)
        writing.execute(sql.MARK_UNKNOWN, (*learnt, writing.now, admitted.seq))
        if writing.cursor.rowcount != 1:
            raise _ended_already(admitted)
        # The event keeps the details too, because the end of the call overwrites those in its row.
        writing.of_call("unknown", admitted.seq, detail=json.dumps(learnt))
        return
    earlier = _earlier_attempt(writing, admitted, proven=settled or outcome.conclusive)
    cost, prior = positions.cost(writing, admitted, outcome) if settled else (0, None)
    if earlier is not None:
        by = f"call {admitted.seq}, under the same idempotency key"
        cost, prior = _end_earlier(writing, earlier, _End(outcome, by), cost, prior)
    _write(writing, admitted, _End(outcome, evidence), cost, prior)


class _End(NamedTuple):
    """The outcome of a call, and the evidence for it if the call was unknown."""

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
        # The call is unknown, not reserved: END_UNKNOWN keeps recorded facts that this outcome lacks.
        facts = writing.execute(sql.END_UNKNOWN, columns).fetchone()
        if facts is None:
            raise _ended_already(admitted)
    if admitted.tracked is not None and not admitted.write_ended:
        writing.execute(sql.END_WRITE, (admitted.tracked,))
    positions.recount(writing, admitted.scopes, admitted.buckets, admitted.reserved, cost)
    reserved = -admitted.reserved
    writing.of_call(state, admitted.seq, facts, reserved=reserved, spent=cost)
    if admitted.staked:
        stakes.end(writing, admitted.seq)


def _earlier_attempt(
    writing: Writing, admitted: Admitted, *, proven: bool
) -> tuple[str, Admitted] | None:
    """Return the earlier attempt that a call leans on, if the outcome proves anything about it."""
    if admitted.leans_on is None or not proven:
        return None
    state, earlier = open_call(writing, admitted.leans_on)
    if state == State.UNKNOWN and earlier.tracked is not None:
        # End its write now: with an open write, positions.cost() would not trust the new answer.
        writing.execute(sql.END_WRITE, (earlier.tracked,))
        earlier = earlier._replace(write_ended=True)
    return state, earlier


def _end_earlier(
    writing: Writing, earlier: tuple[str, Admitted], end: _End, cost: int, prior: int | None
) -> tuple[int, int | None]:
    """
    End the earlier attempt if it is unknown; return the cost and ``prior`` left for the newer call.

    Both calls are one event at the vendor, so the outcome holds for both. The earlier attempt costs
    at most its reservation. The newer call has reserved the rest, perhaps in other scopes.
    """
    state, admitted = earlier
    value = end.outcome.value_micros
    if state == State.UNKNOWN:
        share = min(admitted.reserved, cost)
        if end.outcome.state is State.SETTLED and value is None:
            share = admitted.reserved  # without a value, each call costs its own reservation
            cost += share
        end = end._replace(outcome=replace(end.outcome, note=None))
        _write(writing, admitted, end, share, prior)
        return cost - share, admitted.seq
    counted, position = writing.execute(
        "SELECT coalesce(cost, 0), position FROM call WHERE seq = ?", (admitted.seq,)
    ).fetchone()
    if state == State.SETTLED and position is None and value is not None:
        # A person settled it without naming an object: its cost is already part of this event.
        return max(0, cost - counted), admitted.seq
    return cost, prior


def open_call(writing: Writing, seq: int) -> tuple[str, Admitted]:
    """Return the current state of a call, and the call as it was admitted."""
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
        staked=True,  # its row does not tell; ending stakes that do not exist does nothing
    )


def _ended_already(admitted: Admitted) -> LedgerError:
    return LedgerError(f"call {admitted.seq} has ended already")
