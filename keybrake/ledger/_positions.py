"""What a call costs: by how much its position grew, and who gets back what it shrank by."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from keybrake import _clock
from keybrake._model import Call, Effect, Outcome
from keybrake.ledger import _statements as sql
from keybrake.ledger.protocol import Admitted

# Vendors repeat what they answered under a key for 24 hours at least; ours may be slow clocks.
_KEY_LIVES = 23 * _clock.HOUR


class Increase(NamedTuple):
    """What a call may add to what is counted, in micros, and the call that counts in its stead."""

    micros: int
    leans_on: int | None = None


def increase(cursor: sqlite3.Cursor, call: Call, scopes: tuple[int, ...], now: int) -> Increase:
    """Return by how much a call may raise what its scopes count: only that is reserved."""
    if not call.value_micros:
        return Increase(0)
    more = call.value_micros
    if call.position is not None:
        # What other calls in flight would add is not taken off: they may yet be voided.
        row = cursor.execute(sql.SELECT_POSITION, (call.position,)).fetchone()
        more = max(0, more - int(row[1])) if row else more
    if call.offsets is not None:
        run = scopes[0] if scopes else None
        more = max(0, more - _spent_on(cursor, call.offsets, run))
    if not more or call.idempotency_key is None:
        return Increase(more)
    return _beside_twin(cursor, call, scopes, more, now)


def _beside_twin(
    cursor: sqlite3.Cursor, call: Call, scopes: tuple[int, ...], more: int, now: int
) -> Increase:
    """
    Return what a call adds to one that went out under the same key of the caller's.

    The vendor carries out one of the two at most. Not one that is still under way: it may yet be
    voided, and then nothing would be set aside for this one. And only one that all of this
    call's scopes count: a cap does not bind by what another run has set aside.
    """
    named = (call.idempotency_key, call.vendor, call.owner, call.account, call.method, call.path)
    twins = cursor.execute(sql.SELECT_TWIN, (*named, now - _KEY_LIVES)).fetchall()
    for seq, state, by, counted in twins:
        if state == "settled" and call.position is not None:
            continue  # the position has it already
        if set(scopes) <= set(json.loads(by)):
            return Increase(max(0, more - counted), seq)
    return Increase(more)


def _spent_on(cursor: sqlite3.Cursor, position: str, run: int | None) -> int:
    """Return what *run* itself has spent on a position."""
    row = cursor.execute(sql.SELECT_COUNTED, (position,)).fetchone()
    return (
        0
        if row is None
        else sum(cost for _, cost, _, _, by in _charged(cursor, row[2]) if by == run)
    )


def tracked(cursor: sqlite3.Cursor, call: Call) -> str | None:
    """
    Return the position a call is a write on, if the ledger counts it.

    A write on any other reserves its full value, so that nothing it answers can surprise.
    """
    if call.position is None or call.effect is Effect.READ:
        return None
    known = cursor.execute(sql.SELECT_COUNTED, (call.position,)).fetchone()
    return None if known is None else call.position


def cost(cursor: sqlite3.Cursor, admitted: Admitted, outcome: Outcome) -> tuple[int, int | None]:
    """
    Return what a settled call adds, and the call that moved its position before.

    A position is worth what its calls cost together. More than that is charged to this call;
    less is given back to the calls, and so to the runs, that were charged, newest first.
    """
    if outcome.value_micros is None:
        return admitted.reserved, None
    if outcome.position is None:
        return outcome.value_micros, None
    rate = None if outcome.usd_per_unit is None else str(outcome.usd_per_unit)
    shown = (outcome.position_state, outcome.value_micros, outcome.currency, rate)
    if not outcome.observed:
        first = (outcome.position, *shown, admitted.seq, admitted.seq)
        if cursor.execute(sql.NEW_POSITION, first).rowcount:
            return _net(cursor, admitted, outcome), None
    row = cursor.execute(sql.SELECT_COUNTED, (outcome.position,)).fetchone()
    if row is None or not _is_news(admitted, outcome, row):
        return 0, None
    counted, _, prior = row[:3]
    change = outcome.value_micros - counted
    if change > 0 and not outcome.observed:
        cursor.execute(sql.MOVE_POSITION, (*shown, admitted.seq, outcome.position))
        return change, prior
    if change > 0:
        # A price that came late is owed by whoever made the call, not by whoever looked.
        cursor.execute(sql.CHARGE_MORE, (change, change, prior))
        _, _, scopes, buckets, _ = next(_charged(cursor, prior))
        recount(cursor, scopes, buckets, 0, change)
    else:
        _give_back(cursor, prior, -change)
    cursor.execute(sql.MOVE_POSITION, (*shown, prior, outcome.position))
    return 0, None


def _net(cursor: sqlite3.Cursor, admitted: Admitted, outcome: Outcome) -> int:
    """Return what new money costs; a refund that counts net takes back what its own run spent."""
    assert outcome.value_micros is not None
    if outcome.offsets is None or not admitted.scopes:
        return outcome.value_micros
    run = admitted.scopes[0]
    own = min(outcome.value_micros, _spent_on(cursor, outcome.offsets, run))
    row = cursor.execute(sql.SELECT_COUNTED, (outcome.offsets,)).fetchone()
    if own and row is not None and outcome.position_state == "settled":
        # One that is only under way may still fail: then what it would take back stays spent.
        _give_back(cursor, row[2], own, run=run)
    return outcome.value_micros - own


def _is_news(admitted: Admitted, outcome: Outcome, counted: tuple[int, str, int, int, int]) -> bool:
    """
    Return whether an answer may move a position that is counted already.

    More is always counted. Less is believed only of the newest write, and of a look that began
    after it, while no other write is under way: else it may be older than what is counted.
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


def _charged(cursor: sqlite3.Cursor, newest: int | None) -> Iterator[_Charged]:
    """Yield the calls a position was charged to, newest first: number, cost, scopes, buckets, run."""
    seq = newest
    while seq is not None:
        paid, scopes, buckets, prior, run = cursor.execute(sql.SELECT_CHARGED, (seq,)).fetchone()
        yield seq, paid, json.loads(scopes), json.loads(buckets or "[]"), run
        seq = prior


def _give_back(
    cursor: sqlite3.Cursor, newest: int | None, amount: int, *, run: int | None = None
) -> None:
    for seq, paid, scopes, buckets, by in _charged(cursor, newest):
        back = min(amount, paid) if run in (None, by) else 0
        if back:
            cursor.execute(sql.GIVE_BACK, (back, seq))
            recount(cursor, scopes, buckets, 0, -back)
        amount -= back
        if not amount:
            return


def recount(
    cursor: sqlite3.Cursor,
    scopes: Sequence[int],
    buckets: Sequence[Sequence[int]],
    freed: int,
    cost: int,
) -> None:
    """Take *freed* off the reservations and add *cost* to what is spent, wherever a call counts."""
    if not (freed or cost):
        return
    for pk in scopes:
        cursor.execute(sql.RECOUNT, (freed, cost, pk))
    for scope, rule, at in buckets:
        cursor.execute(sql.RECOUNT_BUCKET, (freed, cost, scope, rule, at))
