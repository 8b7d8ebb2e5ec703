"""How the steps of a call's way are taken: one after another in a thread, or in a task."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from keybrake.guard import trio_waiting
from keybrake.guard.task_batching import Books, Gathering, ask, gathering
from keybrake.model.waiting import Gate, start_new_thread


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
    over, came = Gate(), []

    def work() -> None:
        future: Future[Any] = Future()
        try:
            future.set_result(step.send())
        except BaseException as error:  # noqa: BLE001 -- is raised in the thread that waits
            future.set_exception(error)
        came.append(future)
        over.open()

    # A thread of its own: an SDK's timeouts are per read, and one that drips never ends.
    threading.Thread(target=copy_context().run, args=(work,), name="keybrake", daemon=True).start()
    if not over.wait(step.limit_s):
        raise TimeoutError
    return came[0].result()


async def _within(limit_s: float, sent: Awaitable[Any]) -> Any:
    """Await an answer for so long: by a clock that goes on even if a test has stopped the loop's."""
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


async def walk_async(way: Way) -> Any:
    """Walk the way in this task; the event loop never waits for the ledger's lock."""
    # The tasks of an asyncio loop share transactions; those of another library ask one by one.
    others = gathering()
    if others is not None:
        others.ways.add(way)
    try:
        step = next(way)
        while True:
            try:
                result = await _take(step, others)
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
    finally:
        if others is not None:
            others.ways.discard(way)


async def _take(step: Books | Wire, others: Gathering | None) -> Any:
    """Take one step in a task and return its result."""
    if isinstance(step, Books):
        if others is None or len(others.ways) == 1 or step.ledger is None:
            return await ask(step)
        return await others.ask(step)
    if step.limit_s is None:
        return await step.send()
    if others is not None:
        return await _within(step.limit_s, step.send())
    if (trio := trio_waiting.running()) is not None:
        return await trio_waiting.within(trio, step.limit_s, step.send())
    # No way is known to end a step of a library that keybrake does not know: the SDK's timeouts hold.
    return await step.send()


class _Closed(BaseException):
    """Stands for GeneratorExit on the way, which Python would not let write anything down."""
