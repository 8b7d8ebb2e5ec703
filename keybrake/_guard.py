"""
The way of one call.

Everything that can stop a call, or count it, happens here, in this order: who is calling, what
is it and what can it cost, decide and reserve, forward, read the outcome, settle. It is written
once, as a generator of steps; ``call`` walks it in a thread, ``call_async`` in a task. Only the
step that forwards differs between them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Protocol

from keybrake import _config, _scope
from keybrake._model import Call, Effect, Outcome, Reply, Request, State
from keybrake._scope import Caller, Unguarded
from keybrake.errors import CallRefused, LedgerUnavailable, NoActiveRun
from keybrake.ledger import Admission, Admitted, Busy, Note
from keybrake.vendors import VENDORS, Vendor

_log = logging.getLogger("keybrake")


class Door(Protocol):
    """Where a call came in: turns what arrived into a request, and what came back into a reply."""

    request: Request
    vault_key: str | None

    def forward(self, idempotency_key: str | None) -> Any:
        """Let the SDK go on; awaitable in an async door."""

    def look_up(self, path: str) -> Any:
        """GET *path* with the caller's client and credential; awaitable in an async door."""

    def reply(self, answer: Any) -> Reply:
        """Return what the SDK's answer says."""

    def failure(self, error: BaseException) -> Reply:
        """Return what the SDK's error says about what left the machine."""

    def as_sdk_error(self, refusal: CallRefused) -> CallRefused:
        """Return the refusal as one that the SDK's users catch, too."""


@dataclass(frozen=True, slots=True)
class Books:
    """A step that asks the ledger. *work* takes whether it may wait; *undo* takes its result."""

    work: Callable[[bool], Any]
    undo: Callable[[Any], None] | None = None


@dataclass(frozen=True, slots=True)
class Wire:
    """A step that goes to the vendor."""

    send: Callable[[], Any]


Way = Generator[Books | Wire, Any, Any]


def call(door: Door) -> Any:
    """Take one call the whole way and return the vendor's answer, untouched."""
    way = _way(door)
    try:
        return _walk(way, next(way))
    except StopIteration as end:
        return end.value


def _walk(way: Way, step: Books | Wire) -> Any:
    while True:
        try:
            result = step.work(True) if isinstance(step, Books) else step.send()  # noqa: FBT003 -- Books.work says what it takes
        except BaseException as error:  # noqa: BLE001 -- the way decides what it means
            step = way.throw(error)
        else:
            step = way.send(result)


async def call_async(door: Door) -> Any:
    """Take one call the whole way in a task; the event loop never waits for the ledger's lock."""
    way = _way(door)
    try:
        step = next(way)
        while True:
            try:
                result = await (ask(step) if isinstance(step, Books) else step.send())
            except GeneratorExit:
                # A coroutine that is being closed may not await any more: end the call here.
                with contextlib.suppress(_Closed):
                    _walk(way, way.throw(_Closed()))
                raise
            except BaseException as error:  # noqa: BLE001 -- the way decides what it means
                step = way.throw(error)
            else:
                step = way.send(result)
    except StopIteration as end:
        return end.value


class _Closed(BaseException):
    """Stands for GeneratorExit on the way, which Python would not let write anything down."""


def _way(door: Door) -> Way:
    try:
        return (yield from _guarded(door))
    except CallRefused as refusal:
        # The SDK's own error shape is put on last, so that every refusal has it.
        raise door.as_sdk_error(refusal) from refusal.__cause__


def _guarded(door: Door) -> Way:
    vendor = VENDORS[door.request.vendor]
    call = vendor.describe(door.request, _config.current().money)
    try:
        caller = yield Books(lambda wait: _scope.resolve(door.vault_key, wait=wait))
    except NoActiveRun as refusal:
        yield from _note_orphan(call, refusal)
        raise
    if caller is None:
        return (yield Wire(functools.partial(door.forward, None)))
    if isinstance(caller, Unguarded):
        return (yield from _pass_by(door, call, caller))
    call = yield from _completed(door, vendor, call, caller)
    return (yield from _admitted(door, vendor, call, caller))


def _admitted(door: Door, vendor: Vendor, call: Call, caller: Caller) -> Way:
    admission = _admission(call, caller)
    admitted = yield Books(
        lambda wait: caller.ledger.admit(admission, wait=wait),
        # Cancelled while it waited for the ledger: nothing was sent, so nothing is kept.
        undo=lambda held: caller.ledger.settle(held, Outcome(State.VOIDED, note="cancelled")),
    )
    key = call.idempotency_key or f"kb-{admission.uid}"
    try:
        answer = yield Wire(functools.partial(door.forward, key))
    except BaseException as error:
        ended = _judge(vendor, call, functools.partial(door.failure, error))
        yield from _settle(caller, admitted, ended)
        raise
    yield from _settle(
        caller, admitted, _judge(vendor, call, functools.partial(door.reply, answer))
    )
    return answer


def _admission(call: Call, caller: Caller) -> Admission:
    return Admission(secrets.token_hex(12), call, caller.scopes, caller.tool)


def _completed(door: Door, vendor: Vendor, call: Call, caller: Caller) -> Way:
    """Find out what the request alone does not say: in the ledger first, else at the vendor."""
    lookup = call.lookup
    if lookup is None or call.refusal is not None:
        return call
    money = _config.current().money
    if lookup.known_as is not None:
        known = caller.ledger.position(lookup.known_as)
        if known is not None:
            return vendor.complete(call, known, money)
    # A call that is refused anyway, because its run is revoked, say, asks the vendor nothing.
    if lookup.path is None or caller.ledger.refuses(_admission(call, caller)):
        return call
    found, status = None, None
    try:
        found, status = yield Wire(functools.partial(door.look_up, lookup.path))
    except Exception as error:  # noqa: BLE001 -- whatever went wrong, the amount stays unknown
        _log.debug("look-up of %s failed: %r", lookup.path, error)
    note = Note(
        uid=secrets.token_hex(12),
        call=_lookup_call(call, lookup.path),
        state=State.SETTLED,
        reason="lookup",
        run=caller.pk,
        tool=caller.tool,
        http_status=status,
    )
    yield Books(lambda wait: caller.ledger.note(note, wait=wait))
    return vendor.complete(call, found or {}, money)


def _lookup_call(call: Call, path: str) -> Call:
    return Call(
        call.vendor, f"{call.vendor}.lookup", "GET", path, Effect.READ, account=call.account
    )


def _judge(vendor: Vendor, call: Call, reply: Callable[[], Reply]) -> Outcome:
    """Read what came back. Whatever cannot be read is unknown; it never hides the answer."""
    try:
        return vendor.outcome(call, reply(), _config.current().money)
    except Exception:  # noqa: BLE001 -- a surprise in the answer must not lose it
        _log.exception("%s: what came back cannot be read; the call counts in full", call.endpoint)
        return Outcome(State.UNKNOWN, note="the answer could not be read")


def _settle(caller: Caller, admitted: Admitted, outcome: Outcome) -> Way:
    try:
        yield Books(lambda wait: caller.ledger.settle(admitted, outcome, wait=wait))
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
    return (yield Wire(functools.partial(door.forward, None)))


def _note_orphan(call: Call, refusal: NoActiveRun) -> Way:
    ledger = _scope.open_runs.newest_ledger()
    if ledger is None:
        return
    note = Note(secrets.token_hex(12), call, State.REFUSED, refusal.reason)
    try:
        yield Books(lambda wait: ledger.note(note, wait=wait))
    except LedgerUnavailable as error:
        _log.warning("a refusal could not be written down: %s", error)


class _WaitingRoom:
    """Threads that wait for the ledger in the event loop's stead."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        # A forked child inherits the pool, but none of its threads.
        if self._pool is None or self._pid != os.getpid():
            # Several, so that each waits for its own deadline and not for those before it.
            self._pool = ThreadPoolExecutor(max_workers=32, thread_name_prefix="keybrake")
            self._pid = os.getpid()
        return self._pool.submit(work, *args)


_waiting_room = _WaitingRoom()


async def ask(step: Books) -> Any:
    """Ask the ledger at once if it is free, else in a thread, so that the loop goes on."""
    try:
        return step.work(False)  # noqa: FBT003 -- not to wait; see Books
    except Busy:
        # The thread has to see the same run around the call as the task does.
        work = functools.partial(copy_context().run, step.work, True)  # noqa: FBT003 -- to wait; see Books
        future = _waiting_room.submit(work)
    try:
        return await asyncio.shield(asyncio.wrap_future(future))
    except BaseException:
        # Cancelled or closed. Nobody will learn that it was admitted.
        if step.undo is not None:
            future.add_done_callback(functools.partial(_undo, step.undo))
        raise


def _undo(undo: Callable[[Any], None], future: Future[Any]) -> None:
    """Take back what was admitted for a task that is gone."""
    if future.exception() is None:
        _waiting_room.submit(undo, future.result())
