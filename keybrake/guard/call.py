"""
The way of one call: start reading here.

Everything that can stop or count a call happens in ``guarded``, in this order: find the caller,
price the call, decide and reserve, forward it, read the outcome, settle. It is written once, as
a generator of steps; ``run_steps`` takes them in a thread, ``run_steps_async`` in a task.
"""

from __future__ import annotations

import logging
import secrets
import warnings
from dataclasses import dataclass, replace
from typing import Any

from keybrake.config import settings
from keybrake.config.config_file import NobodyInFront
from keybrake.errors import CallRefused, CallStopped, CredentialUnavailable, NoActiveRun
from keybrake.guard import call_counts, unentered_runs
from keybrake.guard import caller as callers
from keybrake.guard.caller import Caller, Unguarded
from keybrake.guard.credentials import renew, with_credential
from keybrake.guard.door import Door
from keybrake.guard.lookups import admission_of, complete
from keybrake.guard.past_the_guard import note_orphan
from keybrake.guard.steps import Admit, FindCaller, Forward, Settle, Steps, WriteNote
from keybrake.ledger import Admitted, Note, Stale
from keybrake.model.call import Call, Effect, Outcome, Reply, State
from keybrake.policy import refusals
from keybrake.vendors import VENDORS, Vendor
from keybrake.wire import hosts

_log = logging.getLogger("keybrake")


@dataclass(frozen=True, slots=True)
class Sent:
    """What came back from the vendor: the SDK's answer or error, and how it reads as a reply."""

    answer: Any
    error: BaseException | None
    reply: Reply | None


def guarded(door: Door) -> Steps:
    """
    Take one call the whole way, and return the vendor's answer untouched.

    Raises:
        CallRefused: Nothing was sent.
        CallStopped: The call was sent, and led to another address than was decided on.
    """
    try:
        return (yield from _guarded(door))
    except (CallRefused, CallStopped) as refusal:
        # The SDK's own error type is added last, so that every refusal has it.
        raise door.as_sdk_error(refusal) from refusal.__cause__
    except NobodyInFront as error:
        gone = CredentialUnavailable(
            f"{error}. Nothing was sent. Do not retry: the same call will be refused again.",
            reason="credential_unavailable",
            hint="A person has to start the program with keybrake exec again.",
        )
        raise door.as_sdk_error(gone) from None


def _guarded(door: Door) -> Steps:
    vendor = VENDORS[door.request.vendor]
    call = vendor.describe(door.request, settings.current().money)
    try:
        caller = yield FindCaller(door.vault_key)
    except NoActiveRun as refusal:
        yield from note_orphan(call, refusal)
        raise
    if caller is None or isinstance(caller, Unguarded):
        return (yield from _unguarded(door, call, caller))
    call_counts.count_guarded(call.vendor)
    if door.vault_key is not None:
        call = yield from with_credential(door, call)
    call, uid, admitted = yield from _admit(door, vendor, call, caller)
    sent = yield from _forward(door, call, call.idempotency_key or f"kb-{uid}")
    error, outcome = sent.error, _outcome(vendor, call, sent.reply)
    if (why := _led_elsewhere(door, call, sent)) is not None:
        error, outcome = _stopped(caller, call, sent, why, outcome)
    yield from _settle(caller, admitted, outcome)
    try:
        if error is not None:
            raise error
        return sent.answer
    finally:
        del error, sent  # the error's traceback holds this frame


def _unguarded(door: Door, call: Call, caller: Unguarded | None) -> Steps:
    """Send a call that no run guards; inside ``unguarded`` the ledger has it in writing first."""
    call_counts.count_past(call.vendor)
    if caller is None:
        unentered_runs.warn_of_call(f"a call of {call.endpoint} was made unguarded")
    else:
        note = Note(secrets.token_hex(12), call, State.UNGUARDED, caller.why, run=caller.pk)
        yield WriteNote(caller.ledger, note)
    with callers.calling(door.request.vendor):
        return (yield Forward(door, None))


# How often a call is priced anew because the object that it was priced by changed meanwhile.
_MOST_REPEATS = 3


def _admit(door: Door, vendor: Vendor, described: Call, caller: Caller) -> Steps:
    """Price the call and have it admitted; return it with its id and its reservation."""
    for repeats_left in range(_MOST_REPEATS, -1, -1):
        # Read before the first look-up: the look-up may not show calls that end after this event.
        asks = described.lookup is not None and described.lookup.path is not None
        as_of = caller.ledger.newest_event() if asks else None
        call = described
        if call.lookup is not None:
            call = yield from complete(door, vendor, described, caller)
        admission = admission_of(door, call, caller)
        admission = replace(admission, as_of=as_of, may_repeat=repeats_left > 0)
        try:
            admitted = yield Admit(caller.ledger, admission)
        except Stale:
            continue
        break
    return call, admission.uid, admitted


def _forward(door: Door, call: Call, key: str) -> Steps:
    """Send the call; once more if the vendor refused the credential and the source has another."""
    for may_renew in (door.vault_key is not None, False):
        answer, error = None, None
        try:
            with callers.calling(door.request.vendor):
                answer = yield Forward(door, key)
        except BaseException as raised:  # noqa: BLE001 -- raised again once it is written down
            error = raised
        reply = _read(door, call, answer, error)
        attempts = reply.attempts if reply is not None else ()
        was_refused = bool(attempts) and all(attempt.status == 401 for attempt in attempts)
        if not (may_renew and was_refused and (yield from renew(door))):
            break
    return Sent(answer, error, reply)


def _read(door: Door, call: Call, answer: Any, error: BaseException | None) -> Reply | None:
    """Return what came back; None: it cannot be read, which must not lose the answer."""
    try:
        return door.reply(answer) if error is None else door.failure(error)
    except Exception:  # noqa: BLE001 -- a surprise in the answer must not lose it
        _log.exception("%s: the answer cannot be read; the call counts in full", call.endpoint)
        return None


def _outcome(vendor: Vendor, call: Call, reply: Reply | None) -> Outcome:
    """Return how a call ended; an answer that cannot be read is an unknown outcome."""
    if reply is not None:
        try:
            return vendor.outcome(call, reply, settings.current().money)
        except Exception:  # noqa: BLE001 -- as above
            _log.exception("%s: the answer makes no sense; the call counts in full", call.endpoint)
    return Outcome(State.UNKNOWN, note="the answer could not be read")


_REDIRECTS = (301, 302, 303, 307, 308)


def _led_elsewhere(door: Door, call: Call, sent: Sent) -> str | None:
    """Return how the call came to go to another address than was decided on; None: it did not."""
    if isinstance(sent.error, hosts.Elsewhere):
        return sent.error.message
    # A read through an SDK that does not follow redirects gets the 3xx answer itself.
    if sent.reply is None or (call.effect is Effect.READ and not door.follows_redirects):
        return None
    if sent.reply.status not in _REDIRECTS:
        return None
    # The SDK would take the redirect for the vendor's answer.
    headers = sent.reply.headers
    places = [headers[name] for name in headers if name.lower() == "location"]
    if not places:
        return None
    place = hosts.origin_of(places[0]) if "://" in places[0] else places[0]
    return f"the answer {sent.reply.status} leads on to {place!a:.100}"


def _stopped(
    caller: Caller, call: Call, sent: Sent, why: str, outcome: Outcome
) -> tuple[CallRefused | CallStopped, Outcome]:
    """Return the error and the outcome of a call that went, or was led, elsewhere."""
    attempts = sent.reply.attempts if sent.reply is not None else ()
    unsent = bool(attempts) and all(attempt.unsent for attempt in attempts)
    error = refusals.stopped(caller.label, caller.uid, call.endpoint, why, nothing_sent=unsent)
    # A read costs nothing either way, but this one was not made.
    state = State.VOIDED if unsent else outcome.state
    return error, replace(outcome, state=state, note=error.reason)


def _settle(caller: Caller, admitted: Admitted, outcome: Outcome) -> Steps:
    try:
        yield Settle(caller.ledger, admitted, outcome)
    except Exception as error:  # noqa: BLE001 -- the vendor's answer is returned in any case
        # Raising would turn a charge that succeeded into an error that invites a retry. The row
        # keeps its reservation, which counts.
        _warn(
            f"{caller.label}: the call was made, but its outcome could not be written down "
            f"({error.__cause__ or error}); it stays reserved in full in {caller.ledger.url}"
        )


def _warn(message: str) -> None:
    _log.warning(message)
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    except RuntimeWarning:
        _log.debug("warnings are errors in this process; the log has this one")
