"""Run the child of ``keybrake exec``: pass signals on to it, and return its exit status."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

# Signals to pass on to the child. A terminal also sends some to every process in it, the child
# included: _next() recognizes those.
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
# Check for the end of the child at this interval: a thread that was started before hold_signals(), such
# as one that waited for the ledger, may have received the SIGCHLD.
_LOOK_AGAIN_S = 0.5
_PR_SET_DUMPABLE = 4  # <linux/prctl.h>


def hide() -> None:
    """
    Keep other programs of the same user from reading this process's environment and memory.

    It works on Linux only. The child is not protected, because exec resets the flag.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, *(ctypes.c_ulong(0) for _ in range(4)))


def hold_signals() -> None:
    """Block signals, so that none ends this process; ``run`` passes them on to the child."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, signal.SIGCHLD})


def run(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """
    Run a command and return its exit status; if a signal ended it, 128 plus the signal's number.

    Raises:
        OSError: The command cannot be started.
    """
    # Python ignores some signals; reset them to the default for the child.
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
    """Wait for a signal; return its number, and whether it must be passed on to the child."""
    wanted = {*_PASSED_ON, signal.SIGCHLD}
    if hasattr(signal, "sigtimedwait"):
        info = signal.sigtimedwait(wanted, _LOOK_AGAIN_S)
        if info is None:
            return signal.SIGCHLD, True
        # The kernel sent it, so the terminal has sent it to the child too. The exception is SIGHUP
        # for a closed terminal, which only the session leader gets.
        child_has_it = info.si_signo != signal.SIGHUP and info.si_code not in _SENT_BY_A_PROCESS
        return info.si_signo, not child_has_it
    # macOS does not tell the sender: assume that these two come from the terminal.
    number = signal.sigwait(wanted)
    return number, number not in (signal.SIGINT, signal.SIGQUIT)
