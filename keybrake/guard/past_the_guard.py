"""Requests on an SDK's own HTTP client, and calls outside of every run: refused, with a row."""

from __future__ import annotations

import logging
import secrets

from keybrake.errors import LedgerUnavailable, NoActiveRun
from keybrake.guard import caller as callers
from keybrake.guard.caller import Unguarded
from keybrake.guard.steps import Admit, FindCaller, Steps, WriteNote
from keybrake.ledger import Admission, Note
from keybrake.model.call import Call, Effect, State
from keybrake.vendors.paths import path_of
from keybrake.wire import hosts

_log = logging.getLogger("keybrake")


def past_the_guard(vendor: str, method: str, url: str, *, hook_was_out: bool) -> Steps:
    """
    Refuse a request that code made on an SDK's own HTTP client, below the guard's hooks.

    In a process that has no run open, and inside ``unguarded``, it may go.

    Args:
        vendor: The vendor of the SDK.
        method: The method of the request.
        url: Its address.
        hook_was_out: Whether another library had taken out a hook that guards the call.

    Raises:
        CallRefused: The process has a run open. The refusal has a row.
    """
    path = path_of(url)
    words = f"{method} {path} was asked of the SDK's own HTTP client, past the guard"
    why = ("past_the_guard", words)
    if hook_was_out:
        why = ("hook_taken_out", "another library had taken out the hook that guards it")
    endpoint = f"{vendor}.past_the_guard"
    call = Call(vendor, endpoint, method, path, Effect.UNCLASSIFIED, refusal=why)
    try:
        caller = yield FindCaller(None)
    except NoActiveRun as refusal:
        yield from note_orphan(call, refusal)
        raise
    uid = secrets.token_hex(12)
    if isinstance(caller, Unguarded):
        note = Note(uid, call, State.UNGUARDED, caller.why, run=caller.pk)
        yield WriteNote(caller.ledger, note)
    elif caller is not None:
        origin = hosts.origin_of(url)
        admission = Admission(uid, call, caller.scopes, caller.tool, origin=origin)
        yield Admit(caller.ledger, admission)


def note_orphan(call: Call, refusal: NoActiveRun) -> Steps:
    """Write a row about a call that was refused because it is in no run."""
    ledger = callers.open_runs.newest_ledger()
    if ledger is None:
        return
    note = Note(secrets.token_hex(12), call, State.REFUSED, refusal.reason)
    try:
        yield WriteNote(ledger, note)
    except LedgerUnavailable as error:
        _log.warning("a refusal could not be written down: %s", error)
