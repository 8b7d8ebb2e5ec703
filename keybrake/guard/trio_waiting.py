"""How a task of trio waits: for the ledger in a thread, and for a look-up with a limit."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable
from concurrent.futures import Future
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
    # A task of trio's may run a loop of asyncio's, and then the task of that loop is the one here.
    return None if _is_in_asyncio_task() else trio


def _is_in_asyncio_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


async def end_of(trio: Any, thread: Future[Any]) -> None:
    """Wait until a thread is done, well or not; it goes on if this task does not."""
    done, token = trio.Event(), trio.lowlevel.current_trio_token()

    def tell(_: object) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    thread.add_done_callback(tell)
    await done.wait()


async def within(trio: Any, limit_s: float, sent: Awaitable[Any]) -> Any:
    """Await *sent*. Raises ``trio.TooSlowError`` after *limit_s* seconds."""
    with trio.fail_after(limit_s):
        return await sent
