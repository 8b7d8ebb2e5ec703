"""Run a fake vendor in a separate process."""

import argparse
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final

from keybrake.testing.fake import FakeVendor

# Not taken from the docstring, because python -OO strips docstrings.
_ABOUT = "Run a fake vendor in a separate process."

_STDIN: Final = 0


def serve(
    name: str,
    start: Callable[[int, str | None, float], FakeVendor],
    arguments: Sequence[str] | None,
) -> int:
    """
    Print the URL, and serve until standard input is closed or SIGTERM or SIGINT arrives.

    If standard input is ``/dev/null``, only a signal ends the process.

    Args:
        name: The module name after ``python -m``.
        start: A function that takes port, journal path and latency, and returns the fake.
        arguments: The command-line arguments; None: those of this process.

    """
    options = _parser(name).parse_args(arguments)
    fake = start(options.port, options.journal, options.latency)
    fake.chaos(options.chaos, seed=options.seed)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with fake:
        sys.stdout.write(f"{fake.url}\n")
        sys.stdout.flush()
        if _is_watchable(_STDIN):
            threading.Thread(target=_until_closed, args=(done,), daemon=True).start()
        done.wait()
    return 0


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=_ABOUT)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free port")
    parser.add_argument("--journal", help="file to write the journal to")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds per answer")
    parser.add_argument("--chaos", type=float, default=0.0, help="share of POSTs that go wrong")
    parser.add_argument("--seed", type=int, default=0, help="makes chaos repeatable")
    return parser


def _is_watchable(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return os.isatty(descriptor) or not stat.S_ISCHR(mode)


def _until_closed(done: threading.Event) -> None:
    # Use os.read: a thread that holds the lock of sys.stdin aborts the interpreter at exit.
    try:
        while os.read(_STDIN, 4096):
            pass
    except OSError:
        # An unreadable standard input counts as closed.
        pass
    done.set()
