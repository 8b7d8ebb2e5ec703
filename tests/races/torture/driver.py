"""Start the workers of a torture run, strike them as planned, and wait for what is left of them."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from stripe._object_classes import OBJECT_CLASSES

from tests.races.torture import record, worker
from tests.races.torture.plan import Blow
from tests.races.torture.stage import Stage

_LOOK_EVERY_S = 0.003
_IDLE_WITHIN_S = 15.0


@dataclass(slots=True)
class Struck:
    """
    What the driver did and saw.

    Attributes:
        blows: How many of each kind fell.
        killed: How many workers died of one.
        revoked_at: For each run that was revoked, when its revocation had returned.
        complaints: What went wrong with the processes themselves.
    """

    blows: dict[str, int] = field(default_factory=dict)
    revoked_at: dict[str, float] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    killed: int = 0
    took_s: float = 0.0


def torture(stage: Stage, *, limit_s: float) -> Struck:
    """Carry the plan out; ledger, journal and records are in the stage's folder afterwards."""
    driver = _Driver(stage)
    driver.drive(time.monotonic() + limit_s)
    driver.struck.complaints += (f"process: {stack}" for stack in record.stacks(stage.seen))
    return driver.struck


def _load_what_the_sdk_loads_late() -> None:
    """
    Import the classes of Stripe's objects, each of which the SDK imports when it first meets one.

    Whoever forks while another thread is at that leaves its child the lock of an import that never
    ends: Python's own, whatever is imported and whoever looks on.
    """
    for module, _ in OBJECT_CLASSES.values():
        importlib.import_module(module)


class _Driver:
    """Forks the workers, and again those that died before their work was done."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        # Whoever was forked has the end to write; the other tells when all of them are gone.
        self._all_gone, self._alive = os.pipe()
        self._pids: dict[int, int] = {}
        self._lives = [0] * stage.plan.pressure.processes
        self._doomed: dict[int, Blow] = {}
        self._stopped: list[tuple[float, int]] = []
        self._revoking: dict[str, subprocess.Popen[str]] = {}
        self._due: list[tuple[float, Blow]] = []
        self._waiting = list(stage.plan.blows)
        self.struck = Struck()

    def drive(self, deadline: float) -> None:
        _load_what_the_sdk_loads_late()
        began = time.monotonic()
        for each in range(len(self._lives)):
            self._fork(each)
        try:
            while not self._is_over():
                self._look(time.monotonic())
                if self._stage.vendor.poll() is not None:
                    self.struck.complaints.append("process: the vendor is gone; nothing is shown")
                    return
                if time.monotonic() > deadline:
                    self._complain_of_hanging()
                    return
                time.sleep(_LOOK_EVERY_S)
            self.struck.took_s = time.monotonic() - began
            self._see_that_nothing_is_locked()
            os.close(self._stage.leave)
            self._wait_for_the_last(deadline)
        finally:
            for pid in self._pids.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            for process in self._revoking.values():
                process.kill()

    def _is_over(self) -> bool:
        finished = all(map(self._stage.progress.is_finished, range(len(self._lives))))
        return finished and not (self._revoking or self._stopped)

    def _fork(self, each: int) -> None:
        self._lives[each] += 1
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os.close(self._stage.leave)
            worker.live(self._stage, each, self._lives[each])
        with contextlib.suppress(OSError):  # whoever is first; both may kill the group then
            os.setpgid(pid, pid)
        self._pids[each] = pid

    def _look(self, now: float) -> None:
        self._replace_the_dead()
        begun = self._stage.progress.begun()
        while self._waiting and self._waiting[0].at <= begun:
            blow = self._waiting.pop(0)
            self._due.append((now + blow.after_s, blow))
        for moment, blow in list(self._due):
            if moment <= now:
                self._due.remove((moment, blow))
                self._strike(blow, now)
        for moment, pid in list(self._stopped):
            if moment <= now:
                self._stopped.remove((moment, pid))
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGCONT)
        for run, process in list(self._revoking.items()):
            if process.poll() is not None:
                self._hear(run, process)

    def _replace_the_dead(self) -> None:
        for each, pid in list(self._pids.items()):
            gone, status = os.waitpid(pid, os.WNOHANG)
            if gone == 0:
                continue
            del self._pids[each]
            self._note_the_end(each, pid, os.waitstatus_to_exitcode(status))
            if not self._stage.progress.is_finished(each):
                self._fork(each)

    def _note_the_end(self, each: int, pid: int, status: int) -> None:
        blow = self._doomed.pop(pid, None)
        if status == -signal.SIGKILL:
            self.struck.killed += 1
        elif status == 0 and blow is not None:
            # It had left before it could be killed: another one has to die.
            self.struck.blows[blow.what] -= 1
            self._due.append((0.0, blow))
        elif status != 0:
            self.struck.complaints.append(f"process: worker {each} ended with {status}")

    def _strike(self, blow: Blow, now: float) -> None:
        if blow.what == "revoke":
            self._count(blow)
            self._revoke(str(blow.whom))
            return
        pid = self._victim(int(blow.whom))
        if pid is None:
            return
        self._count(blow)
        if blow.what != "stop":
            self._doomed[pid] = blow
        match blow.what:
            case "kill":
                os.kill(pid, signal.SIGKILL)
            case "kill_group":
                os.killpg(pid, signal.SIGKILL)
            case "stop":
                os.killpg(pid, signal.SIGSTOP)
                self._stopped.append((now + blow.lasts_s, pid))

    def _count(self, blow: Blow) -> None:
        self.struck.blows[blow.what] = self.struck.blows.get(blow.what, 0) + 1

    def _victim(self, wanted: int) -> int | None:
        """Return the process of a worker that still works: the wanted one, or the next."""
        workers = len(self._lives)
        for each in (*range(wanted, workers), *range(wanted)):
            pid = self._pids.get(each)
            if pid and pid not in self._doomed and not self._stage.progress.is_finished(each):
                return pid
        return None

    def _revoke(self, run: str) -> None:
        """Revoke a run as a person would: by the command line, in a process of its own."""
        command = [sys.executable, "-m", "keybrake", "revoke", self._stage.uids[run]]
        pipe = subprocess.PIPE
        self._revoking[run] = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)

    def _hear(self, run: str, process: subprocess.Popen[str]) -> None:
        said = "".join(process.communicate())
        del self._revoking[run]
        if process.returncode == 0:
            self.struck.revoked_at[run] = time.time()
        else:
            self.struck.complaints.append(f"process: keybrake revoke failed: {said.strip()}")

    def _see_that_nothing_is_locked(self) -> None:
        """Begin a transaction while every worker is idle with its ledger open."""
        path, last = self._stage.ledger, time.monotonic() + _IDLE_WITHIN_S
        while why := why_locked(path):
            # A child whose parent was killed may have a call to make still.
            if time.monotonic() > last:
                self.struck.complaints.append(f"locked: every worker is idle, but {why}")
                return
            time.sleep(_LOOK_EVERY_S)

    def _wait_for_the_last(self, deadline: float) -> None:
        """Wait for every process that was forked, by whomever."""
        os.close(self._alive)
        if not select.select([self._all_gone], [], [], deadline - time.monotonic())[0]:
            self._complain_of_hanging()
            return
        for pid in self._pids.values():
            os.waitpid(pid, 0)
        self._pids.clear()

    def _complain_of_hanging(self) -> None:
        at_work = [each for each in self._pids if not self._stage.progress.is_finished(each)]
        for each in at_work:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pids[each], signal.SIGUSR1)  # they write their stacks; see Record
        time.sleep(1.0)
        self.struck.complaints.append(f"process: workers {at_work} hang; or what they forked")


def why_locked(ledger: Path) -> str:
    """Return why nobody could write to the ledger now; "": somebody could."""
    lock = os.open(f"{ledger}.lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.closing(sqlite3.connect(ledger, isolation_level=None, timeout=0)) as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")
    except (OSError, sqlite3.OperationalError) as error:
        return str(error)
    finally:
        os.close(lock)
    return ""
