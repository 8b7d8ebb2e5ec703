"""
Does the price that a call was given still hold when it goes out.

A call that was priced by a look-up has a stake in the objects that were read: while it is open,
no call may make one of them dearer, and a look-up that is older than such a change is repeated.
"""

from __future__ import annotations

from dataclasses import replace

from keybrake.ledger import statements as sql
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.protocol import Admission
from keybrake.model.call import Call
from keybrake.policy.clash import Clash

PRICES, RAISES = "prices", "raises"
# Later than every event: a call that looked nothing up cannot have looked too early.
_NEVER = 2**63 - 1


def with_absorbed(writing: Writing, admission: Admission) -> Admission:
    """
    Return an admission with a stake in every position whose cost its call takes off its own.

    Only one of two calls has an item of an invoice collected: if both took its cost off, one of
    them would cost more than it has reserved.
    """
    call = admission.call
    counted = tuple(key for key in call.absorbs if _is_counted(writing, key))
    if not counted:
        return admission
    call = call._replace(
        priced_by=tuple(dict.fromkeys((*call.priced_by, *counted))),
        may_raise=tuple(dict.fromkeys((*call.may_raise, *counted))),
    )
    return replace(admission, call=call)


def _is_counted(writing: Writing, key: str) -> bool:
    row = writing.execute(sql.SELECT_COUNTED, (key,)).fetchone()
    return row is not None and row[0] > 0


def clash(writing: Writing, admission: Admission) -> Clash | None:
    """
    Return the call that an admission has to wait for, or that its look-up did not see.

    A call that is still open comes first: until it has ended, looking up again is of no use.
    """
    call = admission.call
    since = _NEVER if admission.as_of is None else admission.as_of
    found = [
        *(one for key in call.priced_by for one in _others(writing, call, RAISES, key, since)),
        *(one for key in call.may_raise for one in _others(writing, call, PRICES, key, _NEVER)),
    ]
    return min(found, key=lambda one: one.ended, default=None)


def _others(writing: Writing, call: Call, role: str, key: str, since: int) -> list[Clash]:
    # The vendor carries out one of the calls under one key at most, so they do not disturb each
    # other.
    same = (call.idempotency_key, call.owner, call.method, call.path)
    rows = writing.execute(sql.SELECT_STAKES, (key, role, since, *same)).fetchall()
    return [
        Clash(key, seq, endpoint, state, raises=role == RAISES, ended=bool(ended))
        for seq, endpoint, state, ended in rows
    ]


def begin(writing: Writing, seq: int, call: Call) -> bool:
    """Write down the stakes of a call that was admitted; return whether it has any."""
    for key in call.may_raise:
        writing.execute(sql.INSERT_STAKE, (key, RAISES, seq))
    for key in call.priced_by:
        writing.execute(sql.INSERT_STAKE, (key, PRICES, seq))
    return bool(call.priced_by or call.may_raise)


def end(writing: Writing, seq: int) -> None:
    """Let the objects of a call go, now that the event of its end is written."""
    writing.execute(sql.END_PRICES, (seq,))
    # The newest change of an object says enough about every look-up.
    writing.execute(sql.FORGET_RAISES, (seq,))
    writing.execute(sql.END_RAISES, (writing.event, seq))
