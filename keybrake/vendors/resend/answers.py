"""What did Resend's answer say: which emails it took, and so what they cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from keybrake.model.call import Call, Reply

_LONGEST_ID = 255


class Taken(NamedTuple):
    """What an answer accepted: the id that stands for it, and its worth; None: as reserved."""

    object_id: str | None
    value_micros: int | None


def taken(call: Call, reply: Reply, *, batch: bool) -> Taken | None:
    """Return what Resend took of a call; None: the answer does not say."""
    body = _body(reply)
    if not batch:
        found = _id(body)
        return None if found is None else Taken(found, call.value_micros)
    emails = body.get("data")
    ids = [_id(email) for email in emails] if isinstance(emails, list) else []
    kept = _kept(call.gathered, body.get("errors"), len(ids))
    if not ids:
        # In permissive mode all of them may have been turned down.
        return Taken(None, 0) if kept == 0 and isinstance(emails, list) else None
    # The batch is one event. Its first id stands for it: a repeated answer has the same ids.
    return None if None in ids else Taken(ids[0], call.value_micros if kept is None else kept)


def _kept(values: tuple[int, ...], errors: object, accepted: int) -> int | None:
    """
    Return what the emails of a permissive batch that were not turned down cost.

    None: nothing was turned down, or the answer contradicts itself; then all of them count.
    """
    if not isinstance(errors, list) or not errors or not values:
        return None
    failed = {error.get("index") for error in errors if isinstance(error, Mapping)}
    known = {index for index in failed if type(index) is int and 0 <= index < len(values)}
    if failed != known or len(known) + accepted != len(values):
        return None
    return sum(value for index, value in enumerate(values) if index not in known)


def _id(thing: object) -> str | None:
    found = thing.get("id") if isinstance(thing, Mapping) else None
    return found if isinstance(found, str) and 0 < len(found) <= _LONGEST_ID else None


def _body(reply: Reply) -> Mapping[str, Any]:
    try:
        body = json.loads(reply.body or "")
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
