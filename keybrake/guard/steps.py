"""
The steps of a call, and how they are taken: one after another in a thread, or in a task.

A call is written once, as a generator of steps. ``run_steps`` takes them in this thread,
``run_steps_async`` in a task; both send each result, or its error, back into the generator.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Generator
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from keybrake import credentials
from keybrake.credentials import Credential
from keybrake.guard import caller as callers
from keybrake.guard import trio_waiting
from keybrake.guard.caller import Caller, Unguarded
from keybrake.guard.door import Door
from keybrake.guard.task_batching import LedgerStep, TaskBatches, ask, task_batches
from keybrake.ledger import Admission, Admitted, Busy, Ledger, Note
from keybrake.model.call import Effect, Lookup, Outcome, State
from keybrake.model.waiting import Gate, start_new_thread


@dataclass(frozen=True, slots=True)
class FindCaller(LedgerStep):
    """Find out who is calling; *vault_key*: the one in the SDK's key slot, if any."""

    vault_key: str | None

    def take(self, *, wait: bool) -> Caller | Unguarded | None:
        """See ``LedgerStep.take``."""
        return callers.resolve(self.vault_key, wait=wait)


@dataclass(frozen=True, slots=True)
class FetchCredential(LedgerStep):
    """Fetch a vendor's credential; *refused*: the one that the vendor refused, if any."""

    vendor: str
    refused: Credential | None = None

    def take(self, *, wait: bool) -> Credential:
        """See ``LedgerStep.take``. Raises ``CredentialError`` where the source has none."""
        known = credentials.current()
        kept = known.kept(self.vendor)
        if kept is not None and kept != self.refused:
            return kept
        if not wait:
            raise Busy
        return known.get(self.vendor, self.refused)


@dataclass(frozen=True, slots=True)
class Admit(LedgerStep):
    """Decide about a call and reserve its worst case, in one transaction."""

    ledger: Ledger
    admission: Admission

    @property
    def shared_ledger(self) -> Ledger:
        """See ``LedgerStep.shared_ledger``."""
        return self.ledger

    @property
    def can_undo(self) -> bool:
        """See ``LedgerStep.can_undo``."""
        return True

    @property
    def durable(self) -> bool:
        """A read reserves nothing that a power cut could lose."""
        return self.admission.call.effect is not Effect.READ

    def take(self, *, wait: bool) -> Admitted:
        """See ``LedgerStep.take``. Raises the refusal."""
        return self.ledger.admit(self.admission, wait=wait)

    def undo(self, result: Any) -> None:
        """Void the reservation: the call was cancelled while it waited, so nothing was sent."""
        self.ledger.settle(result, Outcome(State.VOIDED, note="cancelled"))


@dataclass(frozen=True, slots=True)
class Settle(LedgerStep):
    """Replace the reservation of a call by its outcome."""

    ledger: Ledger
    admitted: Admitted
    outcome: Outcome

    @property
    def shared_ledger(self) -> Ledger:
        """See ``LedgerStep.shared_ledger``."""
        return self.ledger

    def take(self, *, wait: bool) -> None:
        """See ``LedgerStep.take``."""
        self.ledger.settle(self.admitted, self.outcome, wait=wait)


@dataclass(frozen=True, slots=True)
class WriteNote(LedgerStep):
    """Write a row about a call that reserves nothing; *shared*: tasks may share the transaction."""

    ledger: Ledger
    note: Note
    shared: bool = False

    @property
    def shared_ledger(self) -> Ledger | None:
        """See ``LedgerStep.shared_ledger``."""
        return self.ledger if self.shared else None

    def take(self, *, wait: bool) -> None:
        """See ``LedgerStep.take``."""
        self.ledger.note(self.note, wait=wait)


class SendStep:
    """A step that asks the vendor."""

    __slots__ = ()

    @property
    def limit_s(self) -> float | None:
        """Seconds after which the answer is given up; None: the SDK's own timeouts hold."""
        return None

    def send(self) -> Any:
        """Send, and return the answer; awaitable in an async door."""
        raise AssertionError


@dataclass(frozen=True, slots=True)
class Forward(SendStep):
    """Let the SDK send the call; *key*: the idempotency key, None to send it as it came."""

    door: Door
    key: str | None

    def send(self) -> Any:
        """See ``SendStep.send``."""
        return self.door.forward(self.key)


# Seconds that a look-up may take: the call waits for it, and nothing is reserved yet.
_LOOKUP_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class LookUp(SendStep):
    """Ask the vendor for a fact that the price of the call needs."""

    door: Door
    lookup: Lookup

    @property
    def limit_s(self) -> float:
        """See ``SendStep.limit_s``."""
        return _LOOKUP_LIMIT_S

    def send(self) -> Any:
        """See ``SendStep.send``."""
        return self.door.look_up(self.lookup)


Steps = Generator[LedgerStep | SendStep, Any, Any]


def run_steps(steps: Steps, *, thrown: BaseException | None = None) -> Any:
    """Take every step in this thread, after *thrown* if given; return the generator's result."""
    try:
        step = next(steps) if thrown is None else steps.throw(thrown)
        while True:
            try:
                result = step.take(wait=True) if isinstance(step, LedgerStep) else _send(step)
            except BaseException as error:  # noqa: BLE001 -- the call decides what it means
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as end:
        return end.value


def _send(step: SendStep) -> Any:
    if step.limit_s is None:
        return step.send()
    over, came = Gate(), []

    def work() -> None:
        future: Future[Any] = Future()
        try:
            future.set_result(step.send())
        except BaseException as error:  # noqa: BLE001 -- raised in the thread that waits
            future.set_exception(error)
        came.append(future)
        over.open()

    # In a thread of its own, because an SDK's timeout is per read: a slow stream never ends.
    threading.Thread(target=copy_context().run, args=(work,), name="keybrake", daemon=True).start()
    if not over.wait(step.limit_s):
        raise TimeoutError
    return came[0].result()


async def _send_within(limit_s: float, sent: Awaitable[Any]) -> Any:
    """Await an answer for *limit_s* seconds, by a clock that tests cannot freeze."""
    loop, task, over = asyncio.get_running_loop(), asyncio.ensure_future(sent), Gate()

    def ring() -> None:
        if not over.wait(limit_s):
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(task.cancel)

    try:
        start_new_thread(ring, ())
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise TimeoutError from None
        raise
    finally:
        over.open()
        task.cancel()


async def run_steps_async(steps: Steps) -> Any:
    """Take every step in this task; the event loop never waits for the ledger's lock."""
    # The tasks of an asyncio loop share transactions; tasks of other libraries ask one by one.
    batches = task_batches()
    if batches is not None:
        batches.calls_in_flight.add(steps)
    try:
        step = next(steps)
        while True:
            try:
                result = await _take(step, batches)
            except GeneratorExit:
                # A coroutine that is being closed must not await: finish the call in this thread.
                with contextlib.suppress(_Closed):
                    run_steps(steps, thrown=_Closed())
                raise
            except BaseException as error:  # noqa: BLE001 -- the call decides what it means
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as end:
        return end.value
    finally:
        if batches is not None:
            batches.calls_in_flight.discard(steps)


async def _take(step: LedgerStep | SendStep, batches: TaskBatches | None) -> Any:
    """Take one step in a task and return its result."""
    if isinstance(step, LedgerStep):
        alone = batches is None or len(batches.calls_in_flight) == 1
        if batches is None or alone or step.shared_ledger is None:
            return await ask(step)
        return await batches.ask(step)
    if step.limit_s is None:
        return await step.send()
    if batches is not None:
        return await _send_within(step.limit_s, step.send())
    if (trio := trio_waiting.running()) is not None:
        return await trio_waiting.within(trio, step.limit_s, step.send())
    # keybrake cannot end a step under a library that it does not know: the SDK's timeouts hold.
    return await step.send()


class _Closed(BaseException):
    """Thrown instead of GeneratorExit, so that the steps may still yield to settle the call."""
