"""Waiting for threads: uses a clock that tests cannot freeze, and lets other greenlets run."""

from __future__ import annotations

import contextlib
import sys
import threading
from _queue import Empty, SimpleQueue
from _thread import RLock
from collections import deque
from collections.abc import Callable
from time import CLOCK_MONOTONIC, clock_gettime
from types import TracebackType
from typing import Any

# gevent and eventlet replace threads and locks with greenlet versions, before or after this module is
# imported, and sometimes only in part. This module must work in every order. So it is built on objects
# that neither library patches (C SimpleQueue, dict, original _thread functions), and it checks for a
# running hub each time it waits.

# A waiting greenlet polls: the first pause between two polls, and the longest.
_FIRST_NAP_S, _LONGEST_NAP_S = 0.001, 0.02
# A waiting thread also polls at this interval: an interrupt in release() can lose a wake-up.
_LOOK_AGAIN_S = 0.25


def monotonic() -> float:
    """Return the monotonic clock in seconds; freezegun and time-machine do not patch this one."""
    return clock_gettime(CLOCK_MONOTONIC)


def _native(name: str) -> Any:
    """Return the original function of ``_thread``, even if gevent or eventlet has replaced it."""
    import _thread

    if (of_gevent := getattr(sys.modules.get("gevent.monkey"), "get_original", None)) is not None:
        return of_gevent("_thread", name)
    if (of_eventlet := getattr(sys.modules.get("eventlet.patcher"), "original", None)) is not None:
        return getattr(of_eventlet("_thread"), name)
    return getattr(_thread, name)


# Starts an OS thread, never a greenlet, so that blocking in the kernel stops no other greenlet.
start_new_thread: Callable[[Callable[..., object], tuple[Any, ...]], int] = _native(
    "start_new_thread"
)
# Returns the id of the OS thread; the patched version returns the id of the greenlet.
_get_ident: Callable[[], int] = _native("get_ident")


def here() -> tuple[int, Any]:
    """Return an identity of the current thread and, if there is one, its current greenlet."""
    module = sys.modules.get("greenlet")
    if module is None:
        return _get_ident(), None
    current = module.getcurrent() if hasattr(module, "getcurrent") else None
    # The root greenlet of a thread has no parent. Use None for it: a thread must keep its identity
    # when the greenlet module is imported later.
    return _get_ident(), None if getattr(current, "parent", None) is None else current


def pause_of_hub() -> Callable[[float], None] | None:
    """Return a sleep function that lets other greenlets of this thread run; None: there is no hub."""
    # Another thread may be importing gevent or eventlet right now, so any attribute may be missing.
    find = getattr(sys.modules.get("gevent._hub_local"), "get_hub_if_exists", None)
    pause = getattr(sys.modules.get("gevent"), "sleep", None)
    if find is not None and pause is not None and (hub := find()) is not None:
        return None if hub is here()[1] else pause  # the hub itself must not sleep
    # Read eventlet's thread-local: its get_hub() would create a hub.
    hub = getattr(getattr(sys.modules.get("eventlet.hubs"), "_threadlocal", None), "hub", None)
    pause = getattr(sys.modules.get("eventlet"), "sleep", None)
    if hub is not None and pause is not None:
        return None if hub.greenlet is here()[1] else pause
    return None


class Native:
    """
    A re-entrant lock of Python, never patched; hold it only for short work that does not block.

    gevent does not patch existing locks. eventlet does: it searches modules, dictionaries, lists and
    attributes for RLocks and replaces them with greenlet locks, on which an OS thread cannot wait.
    It does not search slots, so this class has them.
    """

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = RLock()

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.lock.release()


class Gate:
    """An auto-reset event: one thread or greenlet waits until another one opens it."""

    __slots__ = ("_opened",)

    def __init__(self) -> None:
        self._opened: SimpleQueue[None] = SimpleQueue()

    def open(self) -> None:
        """Wake the waiter; if there is none, the next ``wait()`` returns at once."""
        if self._opened.empty():
            self._opened.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Wait for ``open()``; return whether it came within *timeout_s* seconds."""
        pause = pause_of_hub() if timeout_s > 0.0 else None
        if pause is None:
            return self._is_open(max(timeout_s, 0.0))
        until, nap_s = monotonic() + timeout_s, _FIRST_NAP_S
        while not self._is_open(0.0):
            left_s = until - monotonic()
            if left_s <= 0.0:
                return False
            pause(min(nap_s, left_s))
            nap_s = min(2 * nap_s, _LONGEST_NAP_S)
        return True

    def _is_open(self, timeout_s: float) -> bool:
        try:
            self._opened.get(timeout=timeout_s)
        except Empty:
            return False
        return True


class Mutex:
    """
    A fair lock for threads and greenlets that survives a KeyboardInterrupt.

    Its owner may take it again, but it does not count: one release frees it. The owner is one entry
    of a dictionary. ``setdefault`` and ``pop`` are atomic, so an interrupt cannot leave the lock half
    taken. An interrupt just before ``pop`` leaves the lock with its thread, which can take it again.
    """

    def __init__(self) -> None:
        self._owner: dict[str, tuple[int, Any]] = {}
        # Waiters in order of arrival: gate, start of waiting, deadline.
        self._line: deque[tuple[Gate, float, float]] = deque()

    def is_mine(self) -> bool:
        """Return whether this thread or greenlet holds the lock."""
        return self._owner.get("") == here()

    def locked(self) -> bool:
        """Return whether any thread or greenlet holds the lock."""
        return bool(self._owner)

    def acquire(
        self, timeout: float = threading.TIMEOUT_MAX, *, since: float | None = None
    ) -> bool:
        """
        Take the lock; return whether that succeeded within *timeout* seconds.

        Args:
            timeout: Seconds; 0: do not wait.
            since: When the caller began to wait elsewhere, on the monotonic clock. Waiters that
                began earlier go first.
        """
        if not (self._line and self._others_first(since)) and self._enter():
            return True
        if timeout <= 0.0:
            return False
        began = monotonic()
        mine = (Gate(), began, began + timeout)
        self._line.append(mine)
        try:
            while not self._enter():
                left_s = mine[2] - monotonic()
                if left_s <= 0.0:
                    return False
                mine[0].wait(min(left_s, _LOOK_AGAIN_S))
        finally:
            with contextlib.suppress(ValueError):
                self._line.remove(mine)
        return True

    def _others_first(self, since: float | None) -> bool:
        now = monotonic()
        # After an interrupt a dead waiter can stay in the line, so ignore it after its deadline.
        return any(began < (since or now) and now < until for _, began, until in list(self._line))

    def _enter(self) -> bool:
        mine = here()
        return self._owner.setdefault("", mine) == mine

    def release(self) -> None:
        """Release the lock and wake the first waiter."""
        self._owner.pop("", None)
        for gate, _, _ in list(self._line)[:1]:
            gate.open()

    def __enter__(self) -> None:
        try:
            self.acquire()
        except BaseException:
            if self.is_mine():
                self.release()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
