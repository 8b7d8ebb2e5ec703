"""How a thread waits: by a clock that no test stops, and so that other greenlets go on meanwhile."""

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

# gevent and eventlet put greenlets in the place of threads and locks: before this module is loaded,
# after it, or in part. What waits here has to be right in any order. So it stands on what neither of
# them replaces, which is SimpleQueue, dictionaries, and two functions as Python has them, and looks
# for a hub whenever it waits.

# A greenlet looks again after so many seconds, at first and at last.
_FIRST_NAP_S, _LONGEST_NAP_S = 0.001, 0.02
# One that was not told looks all the same: it may have been an interrupt that kept it from being told.
_LOOK_AGAIN_S = 0.25


def monotonic() -> float:
    """Return seconds that only go forward; freezegun and time-machine leave this clock alone."""
    return clock_gettime(CLOCK_MONOTONIC)


def _native(name: str) -> Any:
    """Return a function of ``_thread`` as Python has it, even if it was replaced before this import."""
    import _thread

    if (of_gevent := getattr(sys.modules.get("gevent.monkey"), "get_original", None)) is not None:
        return of_gevent("_thread", name)
    if (of_eventlet := getattr(sys.modules.get("eventlet.patcher"), "original", None)) is not None:
        return getattr(of_eventlet("_thread"), name)
    return getattr(_thread, name)


# Starts a thread of the system, never a greenlet: it may block in the kernel.
start_new_thread: Callable[[Callable[..., object], tuple[Any, ...]], int] = _native(
    "start_new_thread"
)
# The number of a thread of the system, also where every greenlet has one of its own.
_get_ident: Callable[[], int] = _native("get_ident")


def here() -> tuple[int, Any]:
    """Return what tells this thread, or this greenlet of it, from every other."""
    module = sys.modules.get("greenlet")
    if module is None:
        return _get_ident(), None
    current = module.getcurrent() if hasattr(module, "getcurrent") else None
    # A thread's first greenlet is the thread itself, also if greenlets come into it only later.
    return _get_ident(), None if getattr(current, "parent", None) is None else current


def pause_of_hub() -> Callable[[float], None] | None:
    """Return how to pause so that the other greenlets of this thread go on; None: there are none."""
    # Another thread may be in the middle of importing them, so each part is there or not.
    find = getattr(sys.modules.get("gevent._hub_local"), "get_hub_if_exists", None)
    pause = getattr(sys.modules.get("gevent"), "sleep", None)
    if find is not None and pause is not None and (hub := find()) is not None:
        return None if hub is here()[1] else pause  # the hub itself may not pause
    # get_hub() would make one.
    hub = getattr(getattr(sys.modules.get("eventlet.hubs"), "_threadlocal", None), "hub", None)
    pause = getattr(sys.modules.get("eventlet"), "sleep", None)
    if hub is not None and pause is not None:
        return None if hub.greenlet is here()[1] else pause
    return None


class Native:
    """
    A lock of Python's own, which its thread may take again, and under which nothing waits for long.

    gevent leaves it alone. eventlet looks for such locks in modules, dictionaries, lists and
    attributes, and replaces them by its own, which a thread of the system cannot wait for; it does
    not look into slots.
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
    """Is opened by one thread or greenlet, once or again; another waits for that."""

    __slots__ = ("_opened",)

    def __init__(self) -> None:
        self._opened: SimpleQueue[None] = SimpleQueue()

    def open(self) -> None:
        """Let the one that waits go on, or the next one that does."""
        if self._opened.empty():
            self._opened.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is opened; return whether it was, within *timeout_s* seconds."""
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
    Lets one thread or greenlet in at a time, and knows which.

    Who is inside is an entry of a dictionary. To write it where there is none, and to take it out,
    is one operation of Python's each, so an interrupt finds it done or not done. One that strikes
    before it could be taken out leaves its own thread inside: that one may enter again.
    """

    def __init__(self) -> None:
        self._inside: dict[str, tuple[int, Any]] = {}
        # Those that wait, in order, and from when until when.
        self._line: deque[tuple[Gate, float, float]] = deque()

    def is_mine(self) -> bool:
        """Return whether this thread or greenlet is inside."""
        return self._inside.get("") == here()

    def locked(self) -> bool:
        """Return whether any thread is inside."""
        return bool(self._inside)

    def acquire(
        self, timeout: float = threading.TIMEOUT_MAX, *, since: float | None = None
    ) -> bool:
        """
        Enter; return whether that was possible within *timeout* seconds.

        Args:
            timeout: 0: do not wait.
            since: From when on it has waited elsewhere. Those that wait here for longer go first.
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
        # One that an interrupt made forget its place stands there until its time is over.
        return any(began < (since or now) and now < until for _, began, until in list(self._line))

    def _enter(self) -> bool:
        mine = here()
        return self._inside.setdefault("", mine) == mine

    def release(self) -> None:
        """Leave, and let the next one look."""
        self._inside.pop("", None)
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
