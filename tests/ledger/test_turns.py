"""Do threads that wait share one transaction, each with its own answer, and does none get stuck?"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import keybrake
from keybrake.errors import LedgerError
from keybrake.ledger import Spoiled
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.ledger.stores.sqlite.write_lock import LedgerLock
from keybrake.model.call import Outcome, State
from tests.ledger.test_contract import asking, opened, settled

THREADS = 16


@pytest.fixture
def ledger(tmp_path) -> Iterator[SQLiteLedger]:
    """Open a new ledger whose lock is waited for long enough."""
    opened_here = SQLiteLedger(tmp_path / "ledger.db", lock_timeout_s=20, durability="power")
    yield opened_here
    opened_here.close()


@pytest.fixture
def commits(ledger) -> list[int]:
    """Return a list that grows by the number of the newest event with each commit."""
    seen: list[int] = []
    commit = ledger._store.commit

    def counted(writing: Writing) -> None:
        commit(writing)
        seen.append(ledger._store._chain.seq)

    ledger._store.commit = counted
    return seen


@contextlib.contextmanager
def held_elsewhere(ledger: SQLiteLedger) -> Iterator[None]:
    """Hold the ledger's lock as another process would: by a descriptor of its own."""
    with LedgerLock(ledger.path.with_name(ledger.path.name + ".lock")).held(5):
        yield


def at_once(ledger: SQLiteLedger, works: list[Callable[[], Any]]) -> list[Any]:
    """Have a thread do each work while nobody gets in; return what each returned or raised."""

    def answer(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except (keybrake.KeybrakeError, LedgerError) as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        with held_elsewhere(ledger):
            futures = [pool.submit(answer, work) for work in works]
            while len(ledger._store.lock.waiting) < len(works) - 1:
                time.sleep(0.001)
        return [future.result() for future in futures]


def test_threads_that_wait_share_a_transaction(ledger, commits):
    """Sixteen admissions that pile up while the disk is busy are one commit, or very few."""
    run = opened(ledger)
    commits.clear()
    admitted = at_once(ledger, [lambda: ledger.admit(asking(1, run))] * THREADS)

    assert len({held.seq for held in admitted}) == THREADS
    assert len(commits) <= 2
    assert ledger.run(run).reserved == THREADS * 10**6


def test_one_that_is_refused_leaves_the_others_alone(ledger, commits):
    """A cap that fits five of sixteen admits exactly five; the refused are on record as such."""
    run = opened(ledger, cap=5)
    commits.clear()
    answers = at_once(ledger, [lambda: ledger.admit(asking(1, run))] * THREADS)

    refused = [it for it in answers if isinstance(it, keybrake.CapExceeded)]
    assert (len(refused), len(commits) <= 2) == (THREADS - 5, True)
    record = ledger.run(run)
    assert (record.reserved, record.calls, record.refused) == (5 * 10**6, 5, THREADS - 5)


def test_one_that_fails_leaves_the_others_alone(ledger):
    """A call that is settled a second time gets its error, and every other one its admission."""
    run = opened(ledger)
    held = ledger.admit(asking(1, run))
    ledger.settle(held, settled(1))
    works = [lambda: ledger.admit(asking(1, run))] * 7
    works.insert(3, lambda: ledger.settle(held, settled(1)))
    answers = at_once(ledger, works)

    failed = answers.pop(3)
    assert isinstance(failed, LedgerError)
    assert "has ended already" in str(failed)
    assert len({held.seq for held in answers}) == 7
    assert (ledger.run(run).spent, ledger.run(run).reserved) == (10**6, 7 * 10**6)


def test_each_thread_gives_up_at_its_own_deadline(tmp_path):
    """Threads that wait behind a lock nobody gives back are refused, and none stays in the queue."""
    ledger = SQLiteLedger(tmp_path / "ledger.db", lock_timeout_s=0.5, durability="power")
    run = opened(ledger)
    with held_elsewhere(ledger), ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(ledger.admit, asking(1, run)) for _ in range(8)]
        errors = [future.exception(timeout=20) for future in futures]

    assert {type(error) for error in errors} == {keybrake.LedgerUnavailable}
    assert not ledger._store.lock.waiting
    assert ledger.run(run).calls == 0
    ledger.admit(asking(1, run))
    ledger.close()


_STRUCK = """
import os, signal, sys, threading, time
from pathlib import Path
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from tests.ledger.test_contract import asking, opened, settled

ledger = SQLiteLedger(Path(sys.argv[1]), lock_timeout_s=20, durability="process")
run = opened(ledger)
done, hits = [], []

def work():
    mine = 0
    while mine < 60 or not hits:
        ledger.settle(ledger.admit(asking(1, run)), settled(1))
        mine += 1
    done.append(mine)

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()

stop = threading.Event()

def strike():
    while not stop.wait(0.003):
        os.kill(os.getpid(), signal.SIGINT)

striker = threading.Thread(target=strike)
striker.start()
while not stop.is_set():
    try:
        while any(thread.is_alive() for thread in threads):
            ledger.settle(ledger.admit(asking(1, run)), settled(1))
        stop.set()
        striker.join()
    except KeyboardInterrupt:
        hits.append(1)
striker.join()
print(len(done), len(hits), ledger.run(run).spent + ledger.run(run).reserved, ledger.run(run).calls)
"""


def test_an_interrupted_leader_strands_nobody(tmp_path):
    """Ctrl-C hits the thread that leads; the threads whose work it carried are answered all the same."""
    child = [sys.executable, "-c", _STRUCK, str(tmp_path / "ledger.db")]
    out = subprocess.run(child, capture_output=True, text=True, timeout=90, check=False)
    assert out.returncode == 0, out.stderr[-2000:]
    done, struck, counted, calls = map(int, out.stdout.split())

    assert done == 8
    assert struck > 0
    # Every call is counted once; the interrupted ones may stay reserved.
    assert counted == calls * 10**6


def test_what_fails_inside_a_shared_block_leaves_nothing(ledger):
    """When one piece of a block fails, the block says so, and nothing of it was written."""
    run = opened(ledger)
    held = ledger.admit(asking(1, run))
    ledger.settle(held, Outcome(State.VOIDED))

    def both() -> None:
        with ledger.together(durable=True, wait=True):
            ledger.admit(asking(1, run))
            with contextlib.suppress(LedgerError):
                ledger.settle(held, settled(1))

    with pytest.raises(Spoiled):
        both()
    assert ledger.run(run).calls == 1
    ledger.admit(asking(1, run))


def test_a_handler_inside_a_shared_block_is_refused(ledger):
    """A signal handler that steers a run in the middle of a shared transaction is turned away."""
    run = opened(ledger)
    seen: list[BaseException | None] = []

    def handler(*_: object) -> None:
        try:
            ledger.revoke("run_1")
        except keybrake.LedgerUnavailable as error:
            seen.append(error)
        else:
            seen.append(None)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        while not any(seen):
            signal.setitimer(signal.ITIMER_REAL, 0.0007)
            with (
                contextlib.suppress(keybrake.RunRevoked),
                ledger.together(durable=False, wait=True),
            ):
                for _ in range(20):
                    ledger.admit(asking(1, run))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert "in the middle of using it" in str(next(filter(None, seen)))


def test_a_fork_while_threads_wait_leaves_nobody_waiting(ledger):
    """A thread that joined the queue during a fork is let in when the fork is over."""
    run, stop = opened(ledger), threading.Event()

    def work() -> int:
        count = 0
        while not stop.is_set():
            ledger.settle(ledger.admit(asking(0.01, run)), settled(0.01))
            count += 1
        return count

    def fork() -> None:
        if not (pid := os.fork()):
            os._exit(0)
        os.waitpid(pid, 0)

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(work) for _ in range(4)]
        try:
            for _ in range(20):
                fork()
        finally:
            stop.set()
        counts = [future.result(timeout=30) for future in futures]
    assert min(counts) > 0
    assert ledger.run(run).spent == sum(counts) * 10_000
