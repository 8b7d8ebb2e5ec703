"""
The way of one call.

Everything that can stop or count a call happens here, in this order: find the caller, price the
call, decide and reserve, forward it, read the outcome, settle. It is written once, as a generator
of steps; ``call`` takes them in a thread, ``call_async`` in a task. Only forwarding differs.
"""

from __future__ import annotations

import functools
import json
import logging
import secrets
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from keybrake import credentials
from keybrake.config import settings
from keybrake.config.config_file import NobodyInFront
from keybrake.credentials import Credential
from keybrake.errors import (
    CallRefused,
    CredentialError,
    CredentialUnavailable,
    LedgerUnavailable,
    NoActiveRun,
)
from keybrake.guard import call_counts, unentered_runs
from keybrake.guard import caller as callers
from keybrake.guard.caller import Caller, Unguarded
from keybrake.guard.steps import Way, Wire, walk, walk_async
from keybrake.guard.task_batching import Books
from keybrake.ledger import Admission, Admitted, Busy, Note, Stale
from keybrake.model.call import Call, Effect, Lookup, Outcome, Position, Reply, Request, State
from keybrake.policy import decision
from keybrake.vendors import VENDORS, Vendor
from keybrake.vendors.paths import path_of
from keybrake.vendors.secret_answers import GIVES_A_SECRET
from keybrake.wire import hosts

_log = logging.getLogger("keybrake")


class Door(Protocol):
    """
    Where a call came in: turns what arrived into a request, and what came back into a reply.

    Attributes:
        request: What arrived.
        vault_key: The one that it came with, if any.
        credential: What takes the vault key's place.
        follows_redirects: Whether the SDK would follow one, and takes every answer for the last.
    """

    request: Request
    vault_key: str | None
    credential: Credential | None
    follows_redirects: bool

    def take(self, credential: Credential) -> tuple[str, str] | None:
        """
        Send the call with *credential*, in the place of the vault key it came with.

        From here on ``request.owner`` is the credential's. Returns why the call may not have it.
        """

    def forward(self, idempotency_key: str | None) -> Any:
        """Let the SDK go on; awaitable in an async door."""

    def look_up(self, lookup: Lookup) -> Any:
        """
        Ask the vendor, with the caller's client and credential; awaitable in an async door.

        Returns the decoded body, or None if it is no success, and the status.
        """

    def reply(self, answer: Any) -> Reply:
        """Return what the SDK's answer says."""

    def failure(self, error: BaseException) -> Reply:
        """Return what the SDK's error says about what left the machine."""

    def as_sdk_error(self, refusal: CallRefused) -> CallRefused:
        """Return the refusal as one that the SDK's users catch, too."""


def call(door: Door) -> Any:
    """Take one call the whole way and return the vendor's answer, untouched."""
    return walk(_way(door))


async def call_async(door: Door) -> Any:
    """Take one call the whole way in a task; the event loop never waits for the ledger's lock."""
    return await walk_async(_way(door))


def _way(door: Door) -> Way:
    try:
        return (yield from _guarded(door))
    except CallRefused as refusal:
        # The SDK's own error shape is put on last, so that every refusal has it.
        raise door.as_sdk_error(refusal) from refusal.__cause__
    except NobodyInFront as error:
        gone = CredentialUnavailable(
            f"{error}. Nothing was sent. Do not retry: the same call will be refused again.",
            reason="credential_unavailable",
            hint="A person has to start the program with keybrake exec again.",
        )
        raise door.as_sdk_error(gone) from None


def _guarded(door: Door) -> Way:
    vendor = VENDORS[door.request.vendor]
    call = vendor.describe(door.request, settings.current().money)
    try:
        caller = yield Books(lambda wait: callers.resolve(door.vault_key, wait=wait))
    except NoActiveRun as refusal:
        yield from _note_orphan(call, refusal)
        raise
    if caller is None:
        call_counts.count_past(call.vendor)
        unentered_runs.warn_of_call(f"a call of {call.endpoint} was made unguarded")
        return (yield from _sent(door, Wire(functools.partial(door.forward, None))))
    if isinstance(caller, Unguarded):
        call_counts.count_past(call.vendor)
        return (yield from _pass_by(door, call, caller))
    call_counts.count_guarded(call.vendor)
    if door.vault_key is not None:
        call = yield from _credentialed(door, call)
    call, uid, admitted = yield from _admitted(door, vendor, call, caller)
    return (yield from _made(door, vendor, call, caller, uid, admitted))


def _credentialed(door: Door, call: Call) -> Way:
    """Have the door take the credential that the vault key stands for, for this host only."""
    refusal = hosts.objection(call.vendor, door.request.url)
    if refusal is None:
        try:
            credential = yield Books(lambda wait: _credential(call.vendor, wait=wait))
        except CredentialError as error:
            refusal = ("credential_unavailable", str(error))
        else:
            refusal = door.take(credential)
    if refusal is not None:
        return call._replace(refusal=refusal, lookup=None)
    # What a vault key keeps from its holder, the vendor must not hand out in an answer.
    effect = Effect.AUTHORITY if call.endpoint in GIVES_A_SECRET else call.effect
    return call._replace(owner=door.request.owner, effect=effect)


def _credential(vendor: str, *, wait: bool, refused: Credential | None = None) -> Credential:
    known = credentials.current()
    found = known.kept(vendor)
    if found is not None and found != refused:
        return found
    if not wait:
        raise Busy
    return known.get(vendor, refused)


# How often a call is priced anew because what it was priced by had changed by the time it was to
# be admitted.
_MOST_REPEATS = 3


def _admitted(door: Door, vendor: Vendor, described: Call, caller: Caller) -> Way:
    """Price the call and have it admitted; return it with its id and its reservation."""
    for repeats_left in range(_MOST_REPEATS, -1, -1):
        # Before the first question to the vendor: what ends from here on, it may not show.
        asks = described.lookup is not None and described.lookup.path is not None
        as_of = caller.ledger.newest_event() if asks else None
        call = yield from _completed(door, vendor, described, caller)
        admission = _admission(door, call, caller)
        admission = replace(admission, as_of=as_of, may_repeat=repeats_left > 0)
        try:
            admitted = yield from _reserved(caller, admission)
        except Stale:
            continue
        break
    return call, admission.uid, admitted


def _reserved(caller: Caller, admission: Admission) -> Way:
    return (
        yield Books(
            lambda wait: caller.ledger.admit(admission, wait=wait),
            # Cancelled while it waited for the ledger: nothing was sent, so nothing is kept.
            undo=lambda held: caller.ledger.settle(held, Outcome(State.VOIDED, note="cancelled")),
            ledger=caller.ledger,
            durable=admission.call.effect is not Effect.READ,
        )
    )


def _made(
    door: Door, vendor: Vendor, call: Call, caller: Caller, uid: str, admitted: Admitted
) -> Way:
    """Forward a call that was admitted, and settle it by what came back."""
    key = call.idempotency_key or f"kb-{uid}"
    answer, error, told = yield from _forwarded(door, key)
    reply = _read(call, told)
    outcome = _judge(vendor, call, reply)
    if (why := _led_elsewhere(door, call, error, reply)) is not None:
        attempts = reply.attempts if reply is not None else ()
        unsent = bool(attempts) and all(attempt.unsent for attempt in attempts)
        error = decision.stopped(caller.label, caller.uid, call.endpoint, why, nothing_sent=unsent)
        # A read costs nothing either way, but this one was not made.
        outcome = replace(
            outcome, state=State.VOIDED if unsent else outcome.state, note=error.reason
        )
    yield from _settle(caller, admitted, outcome)
    try:
        if error is not None:
            raise error
        return answer
    finally:
        del error  # it has this frame in its traceback


def _sent(door: Door, step: Wire) -> Way:
    """Take a step to the vendor, known all the while for a call of the guard's."""
    with callers.calling(door.request.vendor):
        return (yield step)


_REDIRECTS = (301, 302, 303, 307, 308)


def _led_elsewhere(
    door: Door, call: Call, error: BaseException | None, reply: Reply | None
) -> str | None:
    """Return in what a call was about to be another than was decided on; None: it was not."""
    if isinstance(error, hosts.Elsewhere):
        return error.message
    # Who only looks, with an SDK that follows nothing, is shown where it would go on.
    if reply is None or (call.effect is Effect.READ and not door.follows_redirects):
        return None
    if reply.status not in _REDIRECTS:
        return None
    # What the SDK would take for the vendor's answer is a sign to somewhere else.
    places = [reply.headers[name] for name in reply.headers if name.lower() == "location"]
    if not places:
        return None
    place = hosts.origin_of(places[0]) if "://" in places[0] else places[0]
    return f"the answer {reply.status} leads on to {place!a:.100}"


def _forwarded(door: Door, key: str) -> Way:
    """
    Forward; once more if the vendor refused the credential and there is another by now.

    Returns the answer or the error, and what says how to read it.
    """
    for may_renew in (door.vault_key is not None, False):
        answer, error = None, None
        try:
            answer = yield from _sent(door, Wire(functools.partial(door.forward, key)))
        except BaseException as raised:  # noqa: BLE001 -- raised again once it is written down
            error = raised
        told = (
            functools.partial(door.failure, error)
            if error
            else functools.partial(door.reply, answer)
        )
        if not may_renew or not (yield from _renewed(door, told)):
            break
    return answer, error, told


def _renewed(door: Door, told: Callable[[], Reply]) -> Way:
    """Have the door take another credential, if the vendor did nothing but refuse the one it has."""
    try:
        attempts = told().attempts
    except Exception:  # noqa: BLE001 -- whoever judges the answer finds that, too
        return False
    if not attempts or any(attempt.status != 401 for attempt in attempts):
        return False
    return (yield from _renew(door))


def _renew(door: Door) -> Way:
    """Fetch the credential anew; return whether the door has another one now."""
    old, vendor = door.credential, door.request.vendor
    try:
        new = yield Books(lambda wait: _credential(vendor, wait=wait, refused=old))
    except CredentialError as error:
        _log.warning("the credential that %s refused could not be fetched anew: %s", vendor, error)
        return False
    return new != old and door.take(new) is None


def _admission(door: Door, call: Call, caller: Caller) -> Admission:
    return Admission(
        secrets.token_hex(12),
        call,
        caller.scopes,
        caller.tool,
        origin=hosts.origin_of(door.request.url),
        request=_kept(call, door.request.params) if _may_be_in_doubt(call) else None,
    )


def _may_be_in_doubt(call: Call) -> bool:
    """Return whether it matters what became of a call if its answer is lost."""
    return call.effect is Effect.MONEY or bool(call.may_raise)


# More than a request with its attachments is worth keeping for the case that its answer is lost.
_MOST_KEPT = 64 * 1024


def _kept(call: Call, params: Any) -> str | None:
    """
    Return what is needed to read a lost answer later, as JSON; None: it cannot be kept.

    Beside the parameters, what was found out before the call: at which worth it was admitted,
    what look-ups brought, and what it takes back.
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
    return text if len(text) <= _MOST_KEPT else None


# Seconds a look-up may take: the call waits for it, and nothing is reserved yet.
_LOOKUP_LIMIT_S = 10.0
# An invoice or subscription may name several prices, each to be looked up.
_MOST_LOOKUPS = 20


def _completed(door: Door, vendor: Vendor, call: Call, caller: Caller) -> Way:
    """Find out what the request alone does not say: in the ledger first, else at the vendor."""
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
            # A call that is refused anyway, its run being revoked, say, asks the vendor nothing.
            if lookup.path is None or caller.ledger.refuses(_admission(door, call, caller)):
                return call
            found = yield from _looked_up(door, call, lookup, caller)
        call = vendor.complete(call._replace(lookup=None), found, money)
    if call.lookup is None:
        return call
    words = f"more than {_MOST_LOOKUPS} look-ups would be needed"
    return call._replace(refusal=("unknown_amount", words))


def _looked_up(door: Door, call: Call, lookup: Lookup, caller: Caller) -> Way:
    """Ask the vendor, and write down that it was asked; what goes wrong leaves nothing found."""
    found, status = yield from _answered(door, lookup)
    if status == 401 and door.vault_key is not None and (yield from _renew(door)):
        found, status = yield from _answered(door, lookup)
    note = Note(
        uid=secrets.token_hex(12),
        call=_lookup_call(call, lookup),
        state=State.SETTLED,
        reason="lookup",
        run=caller.pk,
        tool=caller.tool,
        http_status=status,
    )
    yield Books(lambda wait: caller.ledger.note(note, wait=wait), ledger=caller.ledger)
    return found or {}


def _answered(door: Door, lookup: Lookup) -> Way:
    try:
        step = Wire(functools.partial(door.look_up, lookup), _LOOKUP_LIMIT_S)
        return (yield from _sent(door, step))
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


def _read(call: Call, told: Callable[[], Reply]) -> Reply | None:
    """Return what came back; None: it cannot be read, which never hides the answer."""
    try:
        return told()
    except Exception:  # noqa: BLE001 -- a surprise in the answer must not lose it
        _log.exception("%s: what came back cannot be read; the call counts in full", call.endpoint)
        return None


def _judge(vendor: Vendor, call: Call, reply: Reply | None) -> Outcome:
    """Say how a call ended. Whatever cannot be read is unknown."""
    if reply is not None:
        try:
            return vendor.outcome(call, reply, settings.current().money)
        except Exception:  # noqa: BLE001 -- as above
            _log.exception("%s: the answer makes no sense; the call counts in full", call.endpoint)
    return Outcome(State.UNKNOWN, note="the answer could not be read")


def _settle(caller: Caller, admitted: Admitted, outcome: Outcome) -> Way:
    try:
        yield Books(
            lambda wait: caller.ledger.settle(admitted, outcome, wait=wait), ledger=caller.ledger
        )
    except Exception as error:  # noqa: BLE001 -- the vendor's answer goes back whatever happens here
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
        _log.debug("warnings are errors here; the log has this one")


def _pass_by(door: Door, call: Call, caller: Unguarded) -> Way:
    """Let an unguarded call go, once the ledger has it in writing."""
    note = Note(secrets.token_hex(12), call, State.UNGUARDED, caller.why, run=caller.pk)
    yield Books(lambda wait: caller.ledger.note(note, wait=wait))
    return (yield from _sent(door, Wire(functools.partial(door.forward, None))))


def past_the_guard(vendor: str, method: str, url: str, *, hook_was_out: bool) -> Way:
    """
    Refuse a request that was made on an SDK's own HTTP layer, where the guard decides nothing.

    Outside of every run, in a process with none, and inside ``unguarded`` it may go.

    Args:
        vendor: Whose SDK it is.
        method: The method of the request.
        url: Its address.
        hook_was_out: Whether another library had taken out a hook that guards the call.

    Raises:
        CallRefused: The request stands in a run, or in a process that has one open. It has a row.
    """
    path = path_of(url)
    words = f"{method} {path} was asked of the SDK's own HTTP client, past the guard"
    why = ("past_the_guard", words)
    if hook_was_out:
        why = ("hook_taken_out", "another library had taken out the hook that guards it")
    endpoint = f"{vendor}.past_the_guard"
    call = Call(vendor, endpoint, method, path, Effect.UNCLASSIFIED, refusal=why)
    try:
        caller = yield Books(lambda wait: callers.resolve(None, wait=wait))
    except NoActiveRun as refusal:
        yield from _note_orphan(call, refusal)
        raise
    uid = secrets.token_hex(12)
    if isinstance(caller, Unguarded):
        note = Note(uid, call, State.UNGUARDED, caller.why, run=caller.pk)
        yield Books(lambda wait: caller.ledger.note(note, wait=wait))
    elif caller is not None:
        origin = hosts.origin_of(url)
        admission = Admission(uid, call, caller.scopes, caller.tool, origin=origin)
        yield Books(lambda wait: caller.ledger.admit(admission, wait=wait), ledger=caller.ledger)


def _note_orphan(call: Call, refusal: NoActiveRun) -> Way:
    ledger = callers.open_runs.newest_ledger()
    if ledger is None:
        return
    note = Note(secrets.token_hex(12), call, State.REFUSED, refusal.reason)
    try:
        yield Books(lambda wait: ledger.note(note, wait=wait))
    except LedgerUnavailable as error:
        _log.warning("a refusal could not be written down: %s", error)
