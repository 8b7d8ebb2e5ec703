"""Cost of calls through positions: a call pays for growth, and a decrease is given back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from keybrake.ledger import statements as sql
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.protocol import Admitted
from keybrake.model import clock
from keybrake.model.call import Call, Effect, Outcome

# Vendors keep an idempotency key for at least 24 hours. One hour less allows for clocks that differ.
_KEY_LIVES = 23 * clock.HOUR


class Increase(NamedTuple):
    """
    The amount to reserve for a call, in micro-USD.

    *leans_on* is an earlier attempt with the same key, whose amount covers the rest.
    """

    micros: int
    leans_on: int | None = None


def increase(writing: Writing, call: Call, scopes: tuple[int, ...]) -> Increase:
    """Return the most that a call may add to the spending of its scopes."""
    if not call.value_micros:
        return Increase(0)
    more = call.value_micros
    if call.position is not None:
        # Subtract only the settled value: other calls in flight on the position may yet be voided.
        row = writing.execute(sql.SELECT_POSITION, (call.position,)).fetchone()
        more = max(0, more - int(row[1])) if row else more
    if call.offsets is not None:
        run = scopes[0] if scopes else None
        more = max(0, more - _spent_on(writing, call.offsets, run))
    for key in call.absorbs:
        more = max(0, more - _absorbed(writing, key, scopes))
    if not more or call.idempotency_key is None:
        return Increase(more)
    return _after_earlier_attempt(writing, call, scopes, more)


def _after_earlier_attempt(
    writing: Writing, call: Call, scopes: tuple[int, ...], more: int
) -> Increase:
    """
    Return the amount that a call adds to an earlier attempt with the same idempotency key.

    The vendor carries out only one of the two. The earlier attempt must not be reserved any more: it
    might yet be voided, and the money for this call with it. It must also be charged to all scopes of
    this call: money that only another run has reserved does not count towards this run's cap.
    """
    same = (call.idempotency_key, call.vendor, call.owner, call.account, call.method, call.path)
    since = writing.now - _KEY_LIVES
    for seq, state, charged, counted in writing.execute(
        sql.SELECT_EARLIER_ATTEMPTS, (*same, since)
    ).fetchall():
        if state == "settled" and call.position is not None:
            continue  # its cost is in the position, which increase() has subtracted
        if set(scopes) <= set(json.loads(charged)):
            return Increase(max(0, more - counted), seq)
    return Increase(more)


def _spent_on(writing: Writing, position: str, run: int | None) -> int:
    """Return the amount that *run* itself has spent on a position."""
    row = writing.execute(sql.SELECT_COUNTED, (position,)).fetchone()
    return (
        0
        if row is None
        else sum(cost for _, cost, _, _, by in _charged(writing, row[2]) if by == run)
    )


def _absorbed(writing: Writing, key: str, scopes: Sequence[int]) -> int:
    """Return the amount that the run has spent on a position that joins another position."""
    row = writing.execute(sql.SELECT_COUNTED, (key,)).fetchone()
    if row is None or not scopes:
        return 0
    return min(int(row[0]), _spent_on(writing, key, scopes[0]))


def _absorb(writing: Writing, admitted: Admitted, outcome: Outcome, cost: int) -> int:
    """Return a cost minus the amounts the run has already spent on the positions that it absorbs."""
    for key in outcome.absorbs:
        own = min(cost, _absorbed(writing, key, admitted.scopes))
        row = writing.execute(sql.SELECT_COUNTED, (key,)).fetchone()
        if own and row is not None:
            # The earlier call keeps its cost. Release the absorbed position, so that the same money
            # cannot be given back twice.
            released = ("released", 0, None, None, row[2], key)
            writing.execute(sql.MOVE_POSITION, released)
        cost -= own
    return cost


def tracked(writing: Writing, call: Call) -> str | None:
    """
    Return the position that a call writes to, if the ledger knows it.

    A write to an unknown position has reserved its full value, so there is nothing to track.
    """
    if call.position is None or call.effect is Effect.READ:
        return None
    known = writing.execute(sql.SELECT_COUNTED, (call.position,)).fetchone()
    return None if known is None else call.position


def cost(writing: Writing, admitted: Admitted, outcome: Outcome) -> tuple[int, int | None]:
    """
    Return the cost of a settled call, and the call that changed its position before.

    The costs of all calls of a position add up to its value. If the value has grown, this call pays
    the difference. If it has shrunk, the calls that paid get the difference back, newest first.
    """
    if outcome.value_micros is None:
        return admitted.reserved, None
    if outcome.position is None:
        return outcome.value_micros, None
    rate = None if outcome.usd_per_unit is None else str(outcome.usd_per_unit)
    shown = (outcome.position_state, outcome.value_micros, outcome.currency, rate)
    if not outcome.observed:
        first = (outcome.position, *shown, admitted.seq, admitted.seq)
        if writing.execute(sql.NEW_POSITION, first).rowcount:
            net = _net(writing, admitted, outcome)
            return _absorb(writing, admitted, outcome, net), None
    row = writing.execute(sql.SELECT_COUNTED, (outcome.position,)).fetchone()
    if row is None or not _is_news(admitted, outcome, row):
        return 0, None
    counted, _, prior = row[:3]
    change = outcome.value_micros - counted
    if change > 0 and not outcome.observed:
        writing.execute(sql.MOVE_POSITION, (*shown, admitted.seq, outcome.position))
        return _absorb(writing, admitted, outcome, change), prior
    if change > 0:
        # A read found a late price. The call that caused it pays, not the call that read it.
        writing.execute(sql.CHARGE_MORE, (change, change, prior))
        writing.of_call("recounted", prior, spent=change)
        _, _, scopes, buckets, _ = next(_charged(writing, prior))
        recount(writing, scopes, buckets, 0, change)
    else:
        _give_back(writing, prior, -change)
    writing.execute(sql.MOVE_POSITION, (*shown, prior, outcome.position))
    return 0, None


def _net(writing: Writing, admitted: Admitted, outcome: Outcome) -> int:
    """
    Return the cost of a new position.

    With ``refunds = "net"``, a refund first gives back the money that its own run spent on the
    payment; only the rest is a cost.
    """
    assert outcome.value_micros is not None
    if outcome.offsets is None or not admitted.scopes:
        return outcome.value_micros
    run = admitted.scopes[0]
    own = min(outcome.value_micros, _spent_on(writing, outcome.offsets, run))
    row = writing.execute(sql.SELECT_COUNTED, (outcome.offsets,)).fetchone()
    if own and row is not None and outcome.position_state == "settled":
        # Give nothing back for a refund that is still pending: it may fail.
        _give_back(writing, row[2], own, run=run)
    return outcome.value_micros - own


def _is_news(admitted: Admitted, outcome: Outcome, counted: tuple[int, str, int, int, int]) -> bool:
    """
    Return whether an answer may change a position that the ledger already counts.

    The answer to a write may always raise the value; a read may raise it only if it was an estimate.
    A lower value may come from an answer that is older than the counted one. So only the newest write,
    or a read admitted after it, may lower the value, and only while no other write is open.
    """
    value, state, _, last_write, open_writes = counted
    assert outcome.value_micros is not None
    if outcome.value_micros > value:
        return state == "estimated" if outcome.observed else True
    if outcome.replayed:
        return False
    if outcome.observed:
        return last_write < admitted.seq and open_writes == 0
    mine = admitted.tracked == outcome.position
    return mine and last_write == admitted.seq and open_writes == 1


_Charged = tuple[int, int, list[int], list[list[int]], int | None]


def _charged(writing: Writing, newest: int | None) -> Iterator[_Charged]:
    """Yield the calls that paid for a position, newest first: number, cost, scopes, buckets, run."""
    seq = newest
    while seq is not None:
        paid, scopes, buckets, prior, run = writing.execute(sql.SELECT_CHARGED, (seq,)).fetchone()
        yield seq, paid, json.loads(scopes), json.loads(buckets or "[]"), run
        seq = prior


def _give_back(
    writing: Writing, newest: int | None, amount: int, *, run: int | None = None
) -> None:
    """Give *amount* back to the calls of a position, newest first; with *run*, only to its calls."""
    for seq, paid, scopes, buckets, by in _charged(writing, newest):
        back = min(amount, paid) if run in (None, by) else 0
        if back:
            writing.execute(sql.GIVE_BACK, (back, seq))
            writing.of_call("recounted", seq, spent=-back)
            recount(writing, scopes, buckets, 0, -back)
        amount -= back
        if not amount:
            return


def recount(
    writing: Writing,
    scopes: Sequence[int],
    buckets: Sequence[Sequence[int]],
    freed: int,
    cost: int,
) -> None:
    """Subtract *freed* from reserved and add *cost* to spent, in all scopes and buckets of a call."""
    if not (freed or cost):
        return
    for pk in scopes:
        writing.execute(sql.RECOUNT, (freed, cost, pk))
    for scope, rule, at in buckets:
        writing.execute(sql.RECOUNT_BUCKET, (freed, cost, scope, rule, at))
