"""One child, and this process in front of it: signals go through, and so does how it ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

# Those that a terminal sends to every process in it reach the child by themselves.
_PASSED_ON = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_SENT_BY_A_PROCESS = (0, -1, -6)  # SI_USER, SI_QUEUE, SI_TKILL: <bits/siginfo-consts.h>
# A thread that was begun before the signals were held, such as one that waited for the ledger, may
# take the signal that says that the child has ended.
_LOOK_AGAIN_S = 0.5
_PR_SET_DUMPABLE = 4  # <linux/prctl.h>


def hide() -> None:
    """
    Keep programs of the same user from reading this process: its environment, its memory.

    Linux alone has it. What this process starts is a program like any other.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, *(ctypes.c_ulong(0) for _ in range(4)))


def hold_signals() -> None:
    """From here on no signal ends this process; ``run`` passes them on. Threads begun later inherit it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, signal.SIGCHLD})


def run(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """
    Run a command and return its exit status, 128 and the signal's number if one ended it.

    Raises:
        OSError: It cannot be started.
    """
    # What Python ignores for itself, the child meets as ever.
    child = os.posix_spawnp(
        command[0], list(command), dict(environ), setsigmask=[], setsigdef=_IGNORED_BY_PYTHON
    )
    while True:
        number, is_the_childs = _next()
        if number != signal.SIGCHLD:
            if is_the_childs:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, number)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def _next() -> tuple[int, bool]:
    """Wait for a signal; return it, and whether the child has still to be told of it."""
    wanted = {*_PASSED_ON, signal.SIGCHLD}
    if hasattr(signal, "sigtimedwait"):
        info = signal.sigtimedwait(wanted, _LOOK_AGAIN_S)
        if info is None:
            return signal.SIGCHLD, True
        # Of a terminal that is gone, the kernel tells the leader of its session alone.
        told = info.si_signo != signal.SIGHUP and info.si_code not in _SENT_BY_A_PROCESS
        return info.si_signo, not told
    # macOS does not say who sent it: take these two for a terminal's.
    number = signal.sigwait(wanted)
    return number, number not in (signal.SIGINT, signal.SIGQUIT)
