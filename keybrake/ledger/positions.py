"""What a call costs: by how much its position grew, and who gets back what it shrank by."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from keybrake.ledger import statements as sql
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.protocol import Admitted
from keybrake.model import clock
from keybrake.model.call import Call, Effect, Outcome

# Vendors repeat what they answered under a key for 24 hours at least; ours may be slow clocks.
_KEY_LIVES = 23 * clock.HOUR


class Increase(NamedTuple):
    """What a call may add to what is counted, in micros, and the call that counts in its stead."""

    micros: int
    leans_on: int | None = None


def increase(writing: Writing, call: Call, scopes: tuple[int, ...]) -> Increase:
    """Return by how much a call may raise what its scopes count: only that is reserved."""
    if not call.value_micros:
        return Increase(0)
    more = call.value_micros
    if call.position is not None:
        # What other calls in flight would add is not taken off: they may yet be voided.
        row = writing.execute(sql.SELECT_POSITION, (call.position,)).fetchone()
        more = max(0, more - int(row[1])) if row else more
    if call.offsets is not None:
        run = scopes[0] if scopes else None
        more = max(0, more - _spent_on(writing, call.offsets, run))
    for key in call.absorbs:
        more = max(0, more - _absorbed(writing, key, scopes))
    if not more or call.idempotency_key is None:
        return Increase(more)
    return _beside_twin(writing, call, scopes, more)


def _beside_twin(writing: Writing, call: Call, scopes: tuple[int, ...], more: int) -> Increase:
    """
    Return what a call adds to one that went out under the same key of the caller's.

    The vendor carries out one of the two at most. Not one that is still under way: it may yet be
    voided, and then nothing would be set aside for this one. And only one that all of this
    call's scopes count: a cap does not bind by what another run has set aside.
    """
    named = (call.idempotency_key, call.vendor, call.owner, call.account, call.method, call.path)
    twins = writing.execute(sql.SELECT_TWIN, (*named, writing.now - _KEY_LIVES)).fetchall()
    for seq, state, by, counted in twins:
        if state == "settled" and call.position is not None:
            continue  # the position has it already
        if set(scopes) <= set(json.loads(by)):
            return Increase(max(0, more - counted), seq)
    return Increase(more)


def _spent_on(writing: Writing, position: str, run: int | None) -> int:
    """Return what *run* itself has spent on a position."""
    row = writing.execute(sql.SELECT_COUNTED, (position,)).fetchone()
    return (
        0
        if row is None
        else sum(cost for _, cost, _, _, by in _charged(writing, row[2]) if by == run)
    )


def _absorbed(writing: Writing, key: str, scopes: Sequence[int]) -> int:
    """Return what the run has spent on a position that becomes a part of another one."""
    row = writing.execute(sql.SELECT_COUNTED, (key,)).fetchone()
    if row is None or not scopes:
        return 0
    return min(int(row[0]), _spent_on(writing, key, scopes[0]))


def _absorb(writing: Writing, admitted: Admitted, outcome: Outcome, cost: int) -> int:
    """Return what is left of a cost beside the positions that became a part of it."""
    for key in outcome.absorbs:
        own = min(cost, _absorbed(writing, key, admitted.scopes))
        row = writing.execute(sql.SELECT_COUNTED, (key,)).fetchone()
        if own and row is not None:
            # What was spent on it stays with the call that spent it. It is not counted by itself
            # any more, so that nothing gives it back twice.
            released = ("released", 0, None, None, row[2], key)
            writing.execute(sql.MOVE_POSITION, released)
        cost -= own
    return cost


def tracked(writing: Writing, call: Call) -> str | None:
    """
    Return the position a call is a write on, if the ledger counts it.

    A write on any other reserves its full value, so that nothing it answers can surprise.
    """
    if call.position is None or call.effect is Effect.READ:
        return None
    known = writing.execute(sql.SELECT_COUNTED, (call.position,)).fetchone()
    return None if known is None else call.position


def cost(writing: Writing, admitted: Admitted, outcome: Outcome) -> tuple[int, int | None]:
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
        # A price that came late is owed by whoever made the call, not by whoever looked.
        writing.execute(sql.CHARGE_MORE, (change, change, prior))
        writing.of_call("recounted", prior, spent=change)
        _, _, scopes, buckets, _ = next(_charged(writing, prior))
        recount(writing, scopes, buckets, 0, change)
    else:
        _give_back(writing, prior, -change)
    writing.execute(sql.MOVE_POSITION, (*shown, prior, outcome.position))
    return 0, None


def _net(writing: Writing, admitted: Admitted, outcome: Outcome) -> int:
    """Return what new money costs; a refund that counts net takes back what its own run spent."""
    assert outcome.value_micros is not None
    if outcome.offsets is None or not admitted.scopes:
        return outcome.value_micros
    run = admitted.scopes[0]
    own = min(outcome.value_micros, _spent_on(writing, outcome.offsets, run))
    row = writing.execute(sql.SELECT_COUNTED, (outcome.offsets,)).fetchone()
    if own and row is not None and outcome.position_state == "settled":
        # One that is only under way may still fail: then what it would take back stays spent.
        _give_back(writing, row[2], own, run=run)
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


def _charged(writing: Writing, newest: int | None) -> Iterator[_Charged]:
    """Yield the calls a position was charged to, newest first: number, cost, scopes, buckets, run."""
    seq = newest
    while seq is not None:
        paid, scopes, buckets, prior, run = writing.execute(sql.SELECT_CHARGED, (seq,)).fetchone()
        yield seq, paid, json.loads(scopes), json.loads(buckets or "[]"), run
        seq = prior


def _give_back(
    writing: Writing, newest: int | None, amount: int, *, run: int | None = None
) -> None:
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
    """Take *freed* off the reservations and add *cost* to what is spent, wherever a call counts."""
    if not (freed or cost):
        return
    for pk in scopes:
        writing.execute(sql.RECOUNT, (freed, cost, pk))
    for scope, rule, at in buckets:
        writing.execute(sql.RECOUNT_BUCKET, (freed, cost, scope, rule, at))
