"""Does a forked child work on a handle of its own, whatever its parent was doing?"""

import os
import signal
import subprocess
import sys
import threading
import warnings

import pytest
import stripe

import keybrake


def _fork(work) -> int:
    """Run *work* in a forked child and return its exit status; a child that hangs is ended."""
    with warnings.catch_warnings():
        # Python 3.12 warns of forking with threads: that is what is tried here.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _charge() -> None:
    stripe.PaymentIntent.create(amount=100, currency="usd")


def test_a_forked_child_charges_the_same_run(ledger_url, fake):
    """Parent and forked child both charge the run, and its totals have both."""
    with keybrake.run("forked", cap=10) as run:
        _charge()

        assert _fork(_charge) == 0
        _charge()

        assert (run.spent, run.calls) == (3, 3)


def test_a_child_that_leaves_the_block_does_not_close_the_run(ledger_url, fake):
    """The run stays open when a forked child leaves its parent's with block."""

    def leave() -> None:
        run.__exit__(None, None, None)

    with keybrake.run("forked", cap=10) as run:
        assert _fork(leave) == 0
        _charge()

        assert (run.state, run.spent) == ("open", 1)


@pytest.mark.parametrize("trial", range(12))
def test_forking_with_busy_threads_never_hangs_the_child(ledger_url, fake, trial):
    """A child forked while threads are inside the ledger makes its call and ends."""
    with keybrake.run("busy", cap=None) as run:
        stop = threading.Event()

        def busy() -> None:
            while not stop.is_set():
                run._frame.ledger.tool(run._frame.pk, os.urandom(6).hex(), _NO_LIMITS)
                assert run.spent >= 0

        threads = [threading.Thread(target=busy) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            assert _fork(_charge) == 0
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        _charge()

        assert (run.spent, run.calls) == (2, 2)


_NO_LIMITS = keybrake.policy.policy.terms_of(keybrake.Policy(cap=None))

_FIRST_OPENING = """
import os, signal, sys, threading, time
import keybrake
thread = threading.Thread(target=keybrake.open_ledger, args=(sys.argv[1],))
thread.start()
time.sleep(float(sys.argv[3]))
pid = os.fork()
if pid == 0:
    signal.alarm(8)
    keybrake.open_ledger(sys.argv[2])
    os._exit(0)
thread.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("pause", ["0", "0.004", "0.01", "0.015", "0.02", "0.03", "0.05"])
def test_forking_while_a_ledger_is_first_opened_never_hangs_the_child(tmp_path, pause):
    """A child forked while its parent loads and makes its first ledger opens one of its own."""
    ledgers = [f"sqlite:///{tmp_path / name}" for name in ("a.db", "b.db")]
    child = [sys.executable, "-W", "ignore", "-c", _FIRST_OPENING, *ledgers, pause]

    assert subprocess.run(child, timeout=40, check=False).returncode == 0
