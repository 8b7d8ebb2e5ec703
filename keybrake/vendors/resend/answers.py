"""Read Resend's answers: the emails it accepted, and so their cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from keybrake.model.call import Call, Reply

_LONGEST_ID = 255


class Taken(NamedTuple):
    """The accepted emails: the id of their position, and their cost (None: as reserved)."""

    object_id: str | None
    value_micros: int | None


def taken(call: Call, reply: Reply, *, batch: bool) -> Taken | None:
    """Return the emails of a call that Resend accepted; None: the answer does not say."""
    body = _body(reply)
    if not batch:
        found = _id(body)
        return None if found is None else Taken(found, call.value_micros)
    emails = body.get("data")
    ids = [_id(email) for email in emails] if isinstance(emails, list) else []
    kept = _kept(call.gathered, body.get("errors"), len(ids))
    if not ids:
        # In permissive mode Resend may reject every email of the batch.
        return Taken(None, 0) if kept == 0 and isinstance(emails, list) else None
    # A batch is one position, named by its first id: a replayed answer has the same ids.
    return None if None in ids else Taken(ids[0], call.value_micros if kept is None else kept)


def _kept(values: tuple[int, ...], errors: object, accepted: int) -> int | None:
    """
    Return the cost of the emails in a permissive batch that Resend did not reject.

    None: Resend rejected none, or the answer contradicts itself. Then all emails count.
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
