"""How the ledger is asked for a task: at once, together with other tasks, or in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import os
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from keybrake.errors import LedgerError, LedgerUnavailable
from keybrake.ledger import Busy, Ledger, Spoiled


@dataclass(frozen=True, slots=True)
class Books:
    """
    A step that asks the ledger.

    Attributes:
        work: Does it; takes whether it may wait.
        undo: Takes its result back, where nobody is left to use it.
        ledger: Which one, if the work is one transaction that others may share.
        durable: See ``Ledger.together``.
    """

    work: Callable[[bool], Any]
    undo: Callable[[Any], None] | None = None
    ledger: Ledger | None = None
    durable: bool = False


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
    waited = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(waited)
    except BaseException:
        # Cancelled or closed. Nobody will learn that it was admitted, or why it was not.
        if not waited.done():
            waited.add_done_callback(_hear)
        if step.undo is not None:
            future.add_done_callback(functools.partial(_undo, step.undo))
        raise


def _hear(waited: asyncio.Future[Any]) -> None:
    """Take note of how it ended, lest asyncio complain that nobody did."""
    if not waited.cancelled():
        waited.exception()


def _undo(undo: Callable[[Any], None], future: Future[Any]) -> None:
    """Take back what was admitted for a task that is gone."""
    if future.exception() is None:
        _waiting_room.submit(undo, future.result())


class _Asked:
    """One task's step, and what came of it."""

    __slots__ = ("answer", "error", "future", "over", "step")

    def __init__(self, step: Books, future: asyncio.Future[None]) -> None:
        self.step = step
        self.future = future
        self.over = False
        self.answer: Any = None
        self.error: Exception | None = None

    @property
    def wanted(self) -> bool:
        """Whether to do it: what can be taken back is not begun for a task that is gone."""
        return not self.over and not (self.future.done() and self.step.undo is not None)

    def do(self, *, wait: bool) -> None:
        """Do the work; what it raises is its answer."""
        self.error = None
        try:
            self.answer = self.step.work(wait)
        except Busy:
            raise
        except Exception as error:  # noqa: BLE001 -- it is raised in the task it belongs to
            self.error = error

    def tell(self) -> None:
        """Let the task go on; if it is gone, take back what was admitted for it."""
        if not self.future.done():
            self.future.set_result(None)
        elif self.step.undo is not None and self.error is None:
            _waiting_room.submit(self.step.undo, self.answer)

    def close(self) -> None:
        """End it where it stands: the coroutine that asked is being closed and may not wait."""
        if self.over:
            self.tell()
            return
        self.over = True
        if self.step.undo is None:
            with contextlib.suppress(LedgerError):  # a thread of the waiting room was quicker
                self.step.work(True)  # noqa: FBT003 -- to wait; see Books


class Gathering:
    """
    The tasks of one event loop that ask the ledger in the same turn of the loop.

    They share one transaction, and with it one wait for the disk.

    Attributes:
        walkers: How many calls are on their way in this loop. One that is alone asks by itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.walkers = 0
        self._loop = weakref.ref(loop)
        self._asked: dict[Ledger, list[_Asked]] = {}

    async def ask(self, step: Books) -> Any:
        """Ask together with whoever else asks before the loop comes round."""
        assert step.ledger is not None
        loop = asyncio.get_running_loop()
        asked = _Asked(step, loop.create_future())
        others = self._asked.get(step.ledger)
        if others is None:
            self._asked[step.ledger] = [asked]
            loop.call_soon(self._go, step.ledger)
        else:
            others.append(asked)
        try:
            await asked.future
        except GeneratorExit:
            asked.close()
            raise
        except BaseException:
            # Cancelled. If it was done in this very turn, nobody else will take it back.
            if not asked.future.cancelled():
                asked.tell()
            raise
        if asked.error is not None:
            raise asked.error
        return asked.answer

    def _go(self, ledger: Ledger) -> None:
        batch = self._asked.pop(ledger)
        try:
            _do_together(ledger, batch, wait=False)
        except Busy:
            _waiting_room.submit(self._go_in_thread, ledger, batch)
        else:
            _tell(batch)

    def _go_in_thread(self, ledger: Ledger, batch: list[_Asked]) -> None:
        _do_together(ledger, batch, wait=True)
        loop = self._loop()
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            if loop is not None:
                loop.call_soon_threadsafe(_tell, batch)
                return
        for asked in batch:
            if asked.over and asked.step.undo is not None and asked.error is None:
                asked.step.undo(asked.answer)


def _do_together(ledger: Ledger, batch: list[_Asked], *, wait: bool) -> None:
    """
    Do the work of a batch in one transaction; if one piece fails, each in its own.

    Raises:
        Busy: *wait* is False and somebody holds the lock; what is not over by then is not begun.
    """
    wanted = [asked for asked in batch if asked.wanted]
    if len(wanted) > 1:
        durable = any(asked.step.durable for asked in wanted)
        try:
            with ledger.together(durable=durable, wait=wait):
                for asked in wanted:
                    asked.do(wait=wait)
        except Spoiled:
            pass
        except LedgerUnavailable as error:
            for asked in wanted:
                asked.over, asked.error = True, copy.copy(error)
        else:
            for asked in wanted:
                asked.over = True
    for asked in wanted:
        if not asked.over:
            asked.do(wait=wait)
            asked.over = True


def _tell(batch: list[_Asked]) -> None:
    for asked in batch:
        if asked.over:
            asked.tell()


_gatherings: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Gathering] = (
    weakref.WeakKeyDictionary()
)


def gathering() -> Gathering:
    """Return the gathering of the running loop."""
    loop = asyncio.get_running_loop()
    found = _gatherings.get(loop)
    if found is None:
        found = _gatherings[loop] = Gathering(loop)
    return found
