"""How the steps of a call's way are taken: one after another in a thread, or in a task."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from keybrake.ledger import Busy


@dataclass(frozen=True, slots=True)
class Books:
    """A step that asks the ledger. *work* takes whether it may wait; *undo* takes its result."""

    work: Callable[[bool], Any]
    undo: Callable[[Any], None] | None = None


@dataclass(frozen=True, slots=True)
class Wire:
    """A step that goes to the vendor; *limit_s*: seconds it may take before it is given up."""

    send: Callable[[], Any]
    limit_s: float | None = None


Way = Generator[Books | Wire, Any, Any]


def walk(way: Way) -> Any:
    """Walk the way in this thread and return what it returns."""
    try:
        return _walk(way, next(way))
    except StopIteration as end:
        return end.value


def _walk(way: Way, step: Books | Wire) -> Any:
    while True:
        try:
            result = step.work(True) if isinstance(step, Books) else _go(step)  # noqa: FBT003 -- Books.work says what it takes
        except BaseException as error:  # noqa: BLE001 -- the way decides what it means
            step = way.throw(error)
        else:
            step = way.send(result)


def _go(step: Wire) -> Any:
    if step.limit_s is None:
        return step.send()
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(step.send())
        except BaseException as error:  # noqa: BLE001 -- goes to whoever waits
            future.set_exception(error)

    # A thread of its own: an SDK's timeouts are per read, and one that drips never ends.
    threading.Thread(target=copy_context().run, args=(work,), name="keybrake", daemon=True).start()
    return future.result(step.limit_s)


async def walk_async(way: Way) -> Any:
    """Walk the way in this task; the event loop never waits for the ledger's lock."""
    try:
        step = next(way)
        while True:
            try:
                if isinstance(step, Books):
                    result = await ask(step)
                elif step.limit_s is None:
                    result = await step.send()
                else:
                    result = await asyncio.wait_for(step.send(), step.limit_s)
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
