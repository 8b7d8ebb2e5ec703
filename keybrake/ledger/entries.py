"""Write the row of a call to the call log: admitted, refused, or noted without a charge."""

from __future__ import annotations

import functools
import json

from keybrake.ledger import statements as sql
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.protocol import Admission, Note
from keybrake.model.call import Call, State

_NOTED = {State.REFUSED: "refused", State.UNGUARDED: "unguarded"}


def write_note(writing: Writing, note: Note) -> int:
    """Append a row without a charge, which ends at once; return its number."""
    scopes = () if note.run is None else (note.run,)
    admission = Admission(note.uid, note.call, scopes, note.tool)
    row = row_of(admission, note.state, writing.now, reason=note.reason)
    kind = _NOTED.get(note.state, "noted")
    seq = write(writing, kind, row, detail=note.reason)
    writing.execute(sql.END_NOTE, (note.http_status, writing.now, seq))
    return seq


def write(
    writing: Writing,
    kind: str,
    row: tuple[object, ...],
    *,
    reserved: int = 0,
    detail: str | None = None,
) -> int:
    """Append a row to the call log, and the event that covers it; return the number of the row."""
    writing.execute(sql.INSERT_CALL, row)
    seq = int(writing.cursor.lastrowid or 0)
    # CALL_FACTS: all columns but those that may change later, which are request, state, reason,
    # reserved, contingent and position.
    facts = (*row[:12], *row[16:21], row[22], row[23], row[24], row[26], row[27])
    writing.of_call(kind, seq, facts, reserved=reserved, detail=detail)
    return seq


@functools.lru_cache(maxsize=4096)
def _listed(scopes: tuple[int, ...]) -> str:
    return json.dumps(scopes)


def _rate_text(call: Call) -> str | None:
    if call.usd_per_unit is None:
        return None
    return "1" if call.currency == "usd" else str(call.usd_per_unit)


def row_of(  # noqa: PLR0913 -- the columns that are known when a call begins
    admission: Admission,
    state: State,
    now: int,
    *,
    reserved: int = 0,
    reason: str | None = None,
    request: str | None = None,
    buckets: str | None = None,
    would_refuse: str | None = None,
    position: str | None = None,
    leans_on: int | None = None,
    process: str | None = None,
) -> tuple[object, ...]:
    """Return the columns of a call that are known when it begins, in the order of INSERT_CALL."""
    call, scopes = admission.call, admission.scopes
    return (
        admission.uid,
        now,
        scopes[0] if scopes else None,
        admission.tool,
        _listed(scopes),
        call.vendor,
        call.endpoint,
        call.method,
        call.path,
        admission.origin,
        call.account,
        call.owner,
        request,
        # Plain str: for a subclass such as StrEnum, sqlite3 would first look for an adapter.
        state.value,
        reason,
        reserved,
        call.amount,
        call.currency,
        _rate_text(call),
        call.idempotency_key,
        None if call.meter is None else call.meter.value,
        call.contingent_micros,
        int(call.recurring),
        buckets,
        would_refuse,
        position,
        leans_on,
        process,
    )
