"""What the workers saw: a line for each thing, written before they go on, and how far they are."""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any


class Record:
    """
    What one process saw, in a file of its own.

    A line is one ``write`` to the end of the file: a process that is killed has written all it
    saw before, and half a line never stands in the middle.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(folder / f"{name}.jsonl", flags, 0o600)
        # If it hangs, the driver asks for the stacks of its threads.
        self._stacks = (folder / f"{name}.stacks").open("w")
        faulthandler.register(signal.SIGUSR1, self._stacks)

    def tell_if_stuck(self, patience_s: float) -> None:
        """Write the stacks of this process in *patience_s* seconds, if it is still there then."""
        faulthandler.dump_traceback_later(patience_s, file=self._stacks)

    def write(self, what: str, **facts: Any) -> None:
        """Write down what happened."""
        line = json.dumps({"at": time.time(), "by": self.name, "what": what, **facts})
        os.write(self._fd, f"{line}\n".encode())


def stacks(folder: Path) -> list[str]:
    """Return the stacks of the processes that did not get on."""
    told = [(path.stem, path.read_text()) for path in sorted(folder.glob("*.stacks"))]
    return [f"{name}:\n{stack}" for name, stack in told if stack]


def read(folder: Path) -> list[dict[str, Any]]:
    """Return everything that any process wrote down, in the order of time."""
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return sorted(map(json.loads, lines), key=lambda record: float(record["at"]))


class Progress:
    """
    How many of its calls each worker has begun, in memory that all processes share.

    A worker that takes the place of a killed one goes on behind the last call that was begun.
    """

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, 3 * 8 * workers)
        self._counts = memoryview(self._memory).cast("Q")
        self._lock = threading.Lock()

    def take(self, worker: int, lane: int, end: int) -> int | None:
        """Return the next call for a lane (0: threads, 1: tasks), or None after the last."""
        with self._lock:
            taken = self._counts[3 * worker + lane]
            if taken >= end:
                return None
            self._counts[3 * worker + lane] = taken + 1
            return taken

    def begun(self) -> int:
        """Return how many calls have been begun in all."""
        return sum(self._counts) - sum(self._counts[2::3])

    def left(self, worker: int, ends: tuple[int, int]) -> bool:
        """Return whether a worker has calls left to begin."""
        return any(self._counts[3 * worker + lane] < ends[lane] for lane in (0, 1))

    def finish(self, worker: int) -> None:
        """Say that a worker has nothing left to do."""
        self._counts[3 * worker + 2] = 1

    def is_finished(self, worker: int) -> bool:
        """Return whether a worker has nothing left to do."""
        return self._counts[3 * worker + 2] == 1
