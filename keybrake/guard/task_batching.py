"""How a task asks the ledger: at once, in one transaction with other tasks, or in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import os
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from keybrake.errors import LedgerError, LedgerUnavailable
from keybrake.guard import trio_waiting
from keybrake.ledger import Busy, Ledger, Spoiled


class LedgerStep:
    """A step that asks the ledger."""

    __slots__ = ()

    @property
    def shared_ledger(self) -> Ledger | None:
        """The ledger, if the step is one transaction that other tasks may share."""
        return None

    @property
    def durable(self) -> bool:
        """See ``Ledger.together``."""
        return False

    @property
    def can_undo(self) -> bool:
        """Whether ``undo`` takes the result back."""
        return False

    def take(self, *, wait: bool) -> Any:
        """Ask the ledger; raises ``Busy`` if *wait* is False and the answer would take waiting."""
        del wait
        raise AssertionError

    def undo(self, result: Any) -> None:
        """Take the result back, where no task is left to use it."""


@dataclass(frozen=True, slots=True)
class Ask(LedgerStep):
    """A step that calls *work* with whether it may wait, and *undo_work* with its result."""

    work: Callable[[bool], Any]
    undo_work: Callable[[Any], None] | None = None
    ledger: Ledger | None = None
    durably: bool = False

    @property
    def shared_ledger(self) -> Ledger | None:
        """See ``LedgerStep.shared_ledger``."""
        return self.ledger

    @property
    def durable(self) -> bool:
        """See ``LedgerStep.durable``."""
        return self.durably

    @property
    def can_undo(self) -> bool:
        """See ``LedgerStep.can_undo``."""
        return self.undo_work is not None

    def take(self, *, wait: bool) -> Any:
        """See ``LedgerStep.take``."""
        return self.work(wait)

    def undo(self, result: Any) -> None:
        """See ``LedgerStep.undo``."""
        if self.undo_work is not None:
            self.undo_work(result)


class _WaitingRoom:
    """Threads that wait for the ledger in the event loop's stead."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        """
        Have a thread do the work.

        Raises:
            LedgerUnavailable: No thread can be started. The pool may do the work later all the same.
        """
        # A forked child inherits the pool, but none of its threads.
        if self._pool is None or self._pid != os.getpid():
            # Several, so that each waits for its own deadline and not for those before it.
            self._pool = ThreadPoolExecutor(max_workers=32, thread_name_prefix="keybrake")
            self._pid = os.getpid()
        try:
            return self._pool.submit(work, *args)
        except RuntimeError as error:
            why = f"no thread can wait for it ({error})"
            raise _ledger_refusal(why) from error


_waiting_room = _WaitingRoom()


def _ledger_refusal(why: str) -> LedgerUnavailable:
    message = (
        f"The ledger cannot be asked: {why}. Nothing was sent. Do not retry; a person has to look: "
        f"keybrake doctor"
    )
    return LedgerUnavailable(message, reason="ledger_unavailable", hint="Run keybrake doctor.")


class _Asked:
    """
    One task's step and its result.

    Attributes:
        over: Whether the work has been done, well or not.
        answer: What it returned.
        error: What it raised instead.
    """

    __slots__ = ("_left", "answer", "error", "over", "step")

    def __init__(self, step: LedgerStep) -> None:
        self.step = step
        self.over = False
        self.answer: Any = None
        self.error: Exception | None = None
        # Whoever takes the step out of here does the work. To take is one operation of Python's, so
        # that no two do, whatever thread or error comes between.
        self._left = [step]

    def claim(self) -> bool:
        """Return whether the caller is to do the work, and nobody else is from now on."""
        try:
            self._left.pop()
        except IndexError:
            return False
        return True

    def give_back(self) -> None:
        """Leave to another what was claimed and could not be done without waiting."""
        self._left.append(self.step)

    def do(self, *, wait: bool) -> None:
        """Do the work; what it raises is its answer."""
        self.error = None
        try:
            self.answer = self.step.take(wait=wait)
        except Busy:
            raise
        except Exception as error:  # noqa: BLE001 -- it is raised in the task it belongs to
            self.error = error

    def result(self) -> Any:
        """Return or raise what came of it."""
        if not self.over:
            # Its work was begun, and something struck. It may be written down or not: then it counts.
            why = "it was interrupted in the middle of it"
            raise _ledger_refusal(why)
        if self.error is not None:
            raise self.error
        return self.answer

    def take_back(self, *_: object) -> None:
        """Undo what was done for a task that is gone."""
        if self.over and self.error is None and self.step.can_undo:
            # Without a thread it stays reserved, which counts.
            with contextlib.suppress(LedgerUnavailable):
                _waiting_room.submit(self.step.undo, self.answer)


class _Batch:
    """
    The steps that go into one transaction, and when they do.

    Attributes:
        turn: Ends when no more steps may join. The work is done right after that, before any task
            that waits for it goes on.
        thread: What does the work instead, if it has to wait.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, go: Callable[[_Batch], None]) -> None:
        self.asked: list[_Asked] = []
        self.turn: asyncio.Future[None] = loop.create_future()
        self.thread: Future[None] | None = None
        # Both are on their way before any task waits here. The loop ends the turn by itself, so that
        # no error in the work, or on the way to it, can keep a task waiting.
        loop.call_soon(self.turn.set_result, None)
        loop.call_soon(go, self)

    def leave(self, asked: _Asked) -> None:
        """End a step of a task that is cancelled: take it back, or leave it to those that do it."""
        if not asked.step.can_undo or (not asked.over and asked.claim()):
            return  # it is written all the same, or never begun
        if self.thread is None:
            asked.take_back()
        else:
            self.thread.add_done_callback(asked.take_back)

    def close(self, asked: _Asked) -> None:
        """End a step where it stands: the coroutine that asked is being closed and may not wait."""
        if not asked.step.can_undo and asked.claim():
            with contextlib.suppress(LedgerError):
                asked.step.take(wait=True)
        else:
            self.leave(asked)


async def ask(step: LedgerStep) -> Any:
    """Ask the ledger at once if it is free, else in a thread, so that the loop goes on."""
    try:
        return step.take(wait=False)
    except Busy:
        return await _ask_in_thread(_Asked(step))


async def do_in_thread(work: Callable[[], Any]) -> Any:
    """Do *work* in a thread, so that other tasks go on, and return its result."""
    thread = _waiting_room.submit(copy_context().run, work)
    await _end_of(thread)
    return thread.result()


async def _ask_in_thread(asked: _Asked) -> Any:
    # The thread has to see the same run around the call as the task does.
    seen = copy_context().run
    try:
        thread = _waiting_room.submit(
            functools.partial(seen, _do_together, None, [asked], wait=True)
        )
    except BaseException:
        asked.claim()  # the pool may still run it from its queue, after this task has gone
        raise
    try:
        await _end_of(thread)
    except BaseException:
        # Cancelled or closed. Nobody will learn that it was admitted, or why it was not.
        if asked.step.can_undo:
            thread.add_done_callback(asked.take_back)
        raise
    return asked.result()


async def _end_of(thread: Future[Any]) -> None:
    """Wait until a thread is done, well or not; it goes on if this task does not."""
    if (trio := trio_waiting.running()) is not None:
        return await trio_waiting.end_of(trio, thread)
    if _running_loop() is None:
        # A library that keybrake does not know drives this coroutine: no way but to wait here.
        wait((thread,))
        return None
    waited = asyncio.wrap_future(thread)
    waited.add_done_callback(_retrieve_error)
    await asyncio.wait((waited,))
    return None


def _retrieve_error(waited: asyncio.Future[Any]) -> None:
    """Retrieve the error: else asyncio logs that it was never retrieved."""
    if not waited.cancelled():
        waited.exception()


class TaskBatches:
    """
    The tasks of one event loop that ask the ledger in the same turn of the loop.

    They share one transaction, and with it one wait for the disk.

    Attributes:
        calls_in_flight: The calls that this loop has begun. A call that is alone asks by itself. The
            set is weak: a call that is lost leaves it.
    """

    def __init__(self) -> None:
        self.calls_in_flight: weakref.WeakSet[Any] = weakref.WeakSet()
        self._batches: dict[Ledger, _Batch] = {}

    async def ask(self, step: LedgerStep) -> Any:
        """Ask together with the other tasks that ask before the loop comes round."""
        assert step.shared_ledger is not None
        asked = _Asked(step)
        batch = self._batch(step.shared_ledger)
        batch.asked.append(asked)
        try:
            await asyncio.shield(batch.turn)
            if batch.thread is not None:
                await _end_of(batch.thread)
        except GeneratorExit:
            batch.close(asked)
            raise
        except BaseException:
            batch.leave(asked)
            raise
        if not asked.over and asked.claim():
            # Something struck before anybody began with it.
            return await ask(step)
        return asked.result()

    def _batch(self, ledger: Ledger) -> _Batch:
        """Return the batch that may still be joined, or a new one."""
        batch = self._batches.get(ledger)
        if batch is None or batch.turn.done():
            batch = _Batch(asyncio.get_running_loop(), functools.partial(self._go, ledger))
            self._batches[ledger] = batch
        return batch

    def _go(self, ledger: Ledger, batch: _Batch) -> None:
        """Do the work of a batch in its turn: at once, or in a thread if somebody holds the lock."""
        self._batches.pop(ledger, None)
        try:
            _do_together(ledger, batch.asked, wait=False)
        except Busy:
            # Without a thread each task asks by itself, and is told why it cannot.
            with contextlib.suppress(LedgerUnavailable):
                work = functools.partial(_do_together, ledger, batch.asked, wait=True)
                batch.thread = _waiting_room.submit(work)


def _do_together(ledger: Ledger | None, batch: Sequence[_Asked], *, wait: bool) -> None:
    """
    Do the work of a batch in one transaction; if one piece fails, each in its own.

    Raises:
        Busy: *wait* is False and another holds the lock; steps that are not over were not begun.
    """
    claimed = [asked for asked in batch if asked.claim()]
    try:
        if len(claimed) > 1 and ledger is not None:
            _share(ledger, claimed, wait=wait)
        for asked in claimed:
            if not asked.over:
                asked.do(wait=wait)
                asked.over = True
    except Busy:
        for asked in claimed:
            if not asked.over:
                asked.give_back()
        raise


def _share(ledger: Ledger, claimed: Sequence[_Asked], *, wait: bool) -> None:
    durable = any(asked.step.durable for asked in claimed)
    try:
        with ledger.together(durable=durable, wait=wait):
            for asked in claimed:
                asked.do(wait=wait)
    except Spoiled:
        return
    except LedgerUnavailable as error:
        for asked in claimed:
            asked.over, asked.error = True, copy.copy(error)
    else:
        for asked in claimed:
            asked.over = True


_batches_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, TaskBatches] = (
    weakref.WeakKeyDictionary()
)


def task_batches() -> TaskBatches | None:
    """Return the batches of the running loop; None: this is no task of an asyncio loop."""
    loop = None if trio_waiting.running() is not None else _running_loop()
    if loop is None:
        return None
    found = _batches_of_loops.get(loop)
    if found is None:
        found = _batches_of_loops[loop] = TaskBatches()
    return found


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
