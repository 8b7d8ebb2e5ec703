"""Strikes at any line: an error is raised just before a line of ours is carried out, once."""

from __future__ import annotations

import contextlib
import linecache
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NamedTuple

from keybrake.ledger.stores.sqlite import lock_waiter


class Line(NamedTuple):
    """The *k*-th time that a line is reached."""

    file: str
    number: int
    k: int

    def text(self) -> str:
        """Return what stands there."""
        return linecache.getline(self.file, self.number).strip()

    def __str__(self) -> str:
        return f"{self.file.rpartition('/keybrake/')[2]}:{self.number} ({self.k})"


class Tracer:
    """
    Follows this process through the lines of some files, in each thread that it starts.

    Args:
        files: The ends of their paths.
        strike: Where the error is raised.
        error: What is raised there.
    """

    def __init__(
        self,
        files: tuple[str, ...],
        strike: Line | None = None,
        error: type[BaseException] = MemoryError,
    ) -> None:
        self.seen: Counter[tuple[str, int]] = Counter()
        self.struck = False
        self._files = files
        self._strike = strike
        self._error = error
        self._turn = threading.Lock()

    def enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        """Follow a function of those files; see ``sys.settrace``."""
        return self._line if frame.f_code.co_filename.endswith(self._files) else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event != "line" or self.struck:
            return self._line
        at = (frame.f_code.co_filename, frame.f_lineno)
        with self._turn:
            self.seen[at] += 1
            here = self._strike is not None and Line(*at, self.seen[at]) == self._strike
            self.struck = here
        if here:
            raise self._error
        return self._line


@contextlib.contextmanager
def traced(tracer: Tracer) -> Iterator[Tracer]:
    """Follow the lines of a block, those of the threads that it starts included."""
    start, before = lock_waiter.start_new_thread, sys.gettrace()

    def start_traced(function: Callable[..., Any], args: tuple[Any, ...]) -> int:
        def work() -> None:
            sys.settrace(tracer.enter)
            with contextlib.suppress(tracer._error):
                function(*args)

        return start(work, ())

    lock_waiter.start_new_thread = start_traced
    threading.settrace(tracer.enter)
    sys.settrace(tracer.enter)
    try:
        yield tracer
    finally:
        sys.settrace(before)
        threading.settrace(before)
        lock_waiter.start_new_thread = start


def lines(tracer: Tracer, most: int) -> list[Line]:
    """Return the lines that a block went through, each up to *most* times."""
    return [Line(*at, k + 1) for at, n in sorted(tracer.seen.items()) for k in range(min(n, most))]
