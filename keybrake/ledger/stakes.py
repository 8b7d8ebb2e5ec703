"""
Stakes: keep the price of a call valid between its look-up and its end.

A call that was priced by a look-up has a stake in the vendor objects that were read. While it is
open, no other call may raise the price of these objects. A look-up that began before such a raise
ended is outdated and must be repeated.
"""

from __future__ import annotations

from dataclasses import replace

from keybrake.ledger import statements as sql
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.protocol import Admission
from keybrake.model.call import Call
from keybrake.policy.clash import Clash

PRICES, RAISES = "prices", "raises"
# A number later than every event, for a call without a look-up: no raise can have outdated it.
_NEVER = 2**63 - 1


def with_absorbed(writing: Writing, admission: Admission) -> Admission:
    """
    Return an admission with a stake in each counted position that its call absorbs.

    The call reserves less because the absorbed amount is already spent. The stake keeps a second
    call from subtracting the same amount: an invoice item is collected only once, so one of the two
    would cost more than it has reserved.
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
    Return the call that conflicts with an admission: one still open, or one its look-up missed.

    An open call has precedence, because a new look-up is useless until that call has ended.
    """
    call = admission.call
    since = _NEVER if admission.as_of is None else admission.as_of
    found = [
        *(one for key in call.priced_by for one in _others(writing, call, RAISES, key, since)),
        *(one for key in call.may_raise for one in _others(writing, call, PRICES, key, _NEVER)),
    ]
    return min(found, key=lambda one: one.ended, default=None)


def _others(writing: Writing, call: Call, role: str, key: str, since: int) -> list[Clash]:
    # The vendor carries out only one of several calls with the same key, so these do not conflict.
    same = (call.idempotency_key, call.owner, call.method, call.path)
    rows = writing.execute(sql.SELECT_STAKES, (key, role, since, *same)).fetchall()
    return [
        Clash(key, seq, endpoint, state, raises=role == RAISES, ended=bool(ended))
        for seq, endpoint, state, ended in rows
    ]


def begin(writing: Writing, seq: int, call: Call) -> bool:
    """Write the stakes of an admitted call; return whether it has any."""
    for key in call.may_raise:
        writing.execute(sql.INSERT_STAKE, (key, RAISES, seq))
    for key in call.priced_by:
        writing.execute(sql.INSERT_STAKE, (key, PRICES, seq))
    return bool(call.priced_by or call.may_raise)


def end(writing: Writing, seq: int) -> None:
    """End the stakes of a call; the event of its end must have been written."""
    writing.execute(sql.END_PRICES, (seq,))
    # Keep only the newest raise of an object: a look-up after it is also after the older ones.
    writing.execute(sql.FORGET_RAISES, (seq,))
    writing.execute(sql.END_RAISES, (writing.event, seq))
