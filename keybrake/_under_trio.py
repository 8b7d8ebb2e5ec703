"""How a task of trio waits: for the ledger in a thread, and for a look-up with a limit."""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any


def running() -> Any:
    """Return trio if a task of trio's is running here, else None; trio is never imported for it."""
    trio = sys.modules.get("trio")
    if trio is None or not hasattr(trio, "lowlevel"):
        return None  # not imported, or half-way so in another thread
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return None
    return trio


class _Job:
    """One piece of work in a thread; a task that is cancelled leaves it to end by itself."""

    def __init__(self, work: Callable[[], Any], undo: Callable[[Any], None] | None) -> None:
        self._work = work
        self._undo = undo
        self._lock = threading.Lock()
        self._is_abandoned = False
        self._done: tuple[Any] | None = None

    def run(self) -> Any:
        """Do the work; take it back if no task waits for it any more."""
        result = self._work()
        with self._lock:
            self._done = (result,)
            take_back = self._is_abandoned
        if take_back and self._undo is not None:
            self._undo(result)
        return result

    def abandon(self) -> None:
        """Take back what was done, now or when it is done."""
        with self._lock:
            self._is_abandoned = True
            done = self._done
        if done is not None and self._undo is not None:
            self._undo(done[0])


async def wait_in_thread(
    trio: Any, work: Callable[[], Any], undo: Callable[[Any], None] | None = None
) -> Any:
    """
    Do *work* in a thread, so that other tasks go on, and return its result.

    A cancelled task does not wait for the thread: the work is done all the same, and *undo* takes
    its result back.
    """
    job = _Job(work, undo)
    try:
        return await trio.to_thread.run_sync(job.run, abandon_on_cancel=True)
    except trio.Cancelled:
        job.abandon()
        raise


async def within(trio: Any, limit_s: float, sent: Awaitable[Any]) -> Any:
    """Await *sent*. Raises ``trio.TooSlowError`` after *limit_s* seconds."""
    with trio.fail_after(limit_s):
        return await sent
