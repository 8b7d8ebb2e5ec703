"""The facts that a price needs and the request does not have: from the ledger, else the vendor."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from typing import Any

from keybrake.config import settings
from keybrake.guard import caller as callers
from keybrake.guard.caller import Caller
from keybrake.guard.credentials import renew
from keybrake.guard.door import Door
from keybrake.guard.steps import LookUp, Steps, WriteNote
from keybrake.ledger import Admission, Note
from keybrake.model.call import Call, Effect, Lookup, Position, State
from keybrake.vendors import Vendor
from keybrake.wire import hosts

_log = logging.getLogger("keybrake")

# An invoice or subscription may name several prices, each to be looked up.
_MOST_LOOKUPS = 20


def complete(door: Door, vendor: Vendor, call: Call, caller: Caller) -> Steps:
    """Look up the facts that a price needs: in the ledger first, else at the vendor."""
    money = settings.current().money
    for _ in range(_MOST_LOOKUPS):
        lookup = call.lookup
        if lookup is None or call.refusal is not None:
            return call
        found: Position | Mapping[str, Any] | None = None
        if lookup.known_as is not None:
            found = caller.ledger.position(lookup.known_as)
        if isinstance(found, Position) and found.in_doubt and lookup.path is not None:
            found = None  # the vendor may know of more than the ledger does
        if found is None:
            # A call that is refused anyway, because its run is revoked, say, asks the vendor nothing.
            if lookup.path is None or caller.ledger.refuses(admission_of(door, call, caller)):
                return call
            found = yield from _looked_up(door, call, lookup, caller)
        call = vendor.complete(call._replace(lookup=None), found, money)
    if call.lookup is None:
        return call
    words = f"more than {_MOST_LOOKUPS} look-ups would be needed"
    return call._replace(refusal=("unknown_amount", words))


def _looked_up(door: Door, call: Call, lookup: Lookup, caller: Caller) -> Steps:
    """Ask the vendor, and write a row about the look-up; a failure finds nothing."""
    found, status = yield from _answer(door, lookup)
    if status == 401 and door.vault_key is not None and (yield from renew(door)):
        found, status = yield from _answer(door, lookup)
    note = Note(
        uid=secrets.token_hex(12),
        call=_lookup_call(call, lookup),
        state=State.SETTLED,
        reason="lookup",
        run=caller.pk,
        tool=caller.tool,
        http_status=status,
    )
    yield WriteNote(caller.ledger, note, shared=True)
    return found or {}


def _answer(door: Door, lookup: Lookup) -> Steps:
    try:
        with callers.calling(door.request.vendor):
            return (yield LookUp(door, lookup))
    except Exception as error:  # noqa: BLE001 -- whatever went wrong, the amount stays unknown
        _log.debug("look-up of %s failed: %r", lookup.path, error)
        return None, None


def _lookup_call(call: Call, lookup: Lookup) -> Call:
    assert lookup.path is not None
    return Call(
        call.vendor,
        f"{call.vendor}.lookup",
        lookup.method,
        lookup.path,
        Effect.READ,
        account=call.account,
    )


def admission_of(door: Door, call: Call, caller: Caller) -> Admission:
    """Return the call as it asks to be admitted, under a new id."""
    return Admission(
        secrets.token_hex(12),
        call,
        caller.scopes,
        caller.tool,
        origin=hosts.origin_of(door.request.url),
        request=_facts_kept(call, door.request.params) if _may_be_in_doubt(call) else None,
    )


def _may_be_in_doubt(call: Call) -> bool:
    """Return whether a person has to find out how the call ended if its answer is lost."""
    return call.effect is Effect.MONEY or bool(call.may_raise)


# Characters of a request that are kept at most, for the case that its answer is lost.
_MOST_CHARACTERS = 64 * 1024


def _facts_kept(call: Call, params: Any) -> str | None:
    """
    Return the facts that a later reading of a lost answer needs, as JSON; None: they do not fit.

    They are the parameters, the value at which the call was admitted, the results of its look-ups,
    and the position that it takes money back from.
    """
    if any(type(fact) not in (str, int) for fact in call.gathered):
        return None
    try:
        text = json.dumps(
            {
                "params": params,
                "value": call.value_micros,
                "gathered": call.gathered,
                "offsets": call.offsets,
            }
        )
    except (TypeError, ValueError):
        return None
    return text if len(text) <= _MOST_CHARACTERS else None
