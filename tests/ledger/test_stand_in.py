"""Does whoever waits for the file get the lock when it is free, and does nobody keep it by mistake?"""

import errno
import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keybrake.ledger.protocol import Busy
from keybrake.ledger.stores.sqlite import lock_waiter, write_lock
from keybrake.ledger.stores.sqlite.lock_waiter import StandIn
from keybrake.ledger.stores.sqlite.write_lock import LedgerLock
from tests.ledger._queued import Struck


@pytest.fixture
def locks(tmp_path) -> Iterator[Callable[[], LedgerLock]]:
    """Return a function that makes the lock as another process would have it."""
    made: list[LedgerLock] = []

    def make() -> LedgerLock:
        made.append(LedgerLock(tmp_path / "ledger.db.lock"))
        return made[-1]

    yield make
    for lock in made:
        lock.close()


@pytest.fixture
def lock(locks) -> LedgerLock:
    """Return the lock that waits."""
    return locks()


@pytest.fixture
def other(locks) -> LedgerLock:
    """Return the one that it waits for."""
    return locks()


def places(lock: LedgerLock) -> int:
    """Return how many stand in the queue for *lock*."""
    return len(lock._stand_in._open)


def is_free(lock: LedgerLock, within_s: float = 5.0) -> bool:
    """Return whether another process gets the lock, soon."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            with lock.held(0):
                return True
        except Busy:
            time.sleep(0.001)
    return False


def test_it_waits_as_long_as_is_said(lock, other):
    """To a slice's end and no further, and not at all if it may not."""
    with other.held(0):
        for deadline_s in (0.0, 0.05, 0.3):
            began = time.monotonic()
            with pytest.raises(Busy):
                lock.acquire(deadline_s)
            assert deadline_s <= time.monotonic() - began <= deadline_s + 10
            assert not lock.is_mine()
            assert places(lock) == (deadline_s > 0 or places(lock))


def drop(lock: LedgerLock) -> None:
    """Let go of what *lock* holds, from whatever thread, as the end of its process would."""
    assert lock._fd is not None
    fcntl.flock(lock._fd, fcntl.LOCK_UN)


def test_it_comes_when_the_other_leaves(lock, other, locks):
    """And is given back like one that was free at once."""
    other.acquire(0)
    threading.Timer(0.1, drop, (other,)).start()
    lock.acquire(20)
    assert lock.is_mine()
    assert not is_free(locks(), 0.05)
    lock.release()
    assert is_free(locks())


def test_what_comes_too_late_is_given_back(lock, other, locks):
    """Nobody wants it any more, so nobody keeps it."""
    with other.held(0), pytest.raises(Busy):
        lock.acquire(0.02)
    assert is_free(locks())


def test_who_comes_later_takes_over_the_place(lock, other):
    """One thread stands in the queue, however many have given up."""
    other.acquire(0)
    for _ in range(3):
        with pytest.raises(Busy):
            lock.acquire(0.02)
    assert places(lock) == 1
    got: list[bool] = []

    def wait() -> None:
        with lock.held(20):
            got.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.05)
    other.release()
    waiting.join(20)
    assert got == [True]


def test_a_place_in_the_queue_is_not_the_lock(lock, other, locks):
    """What comes too late is not taken from one that has the lock by other means by then."""
    third = locks()
    for _ in range(100):
        with other.held(20), pytest.raises(Busy):
            lock.acquire(0.001)
        with lock.held(20):
            time.sleep(0.001)  # meanwhile the thread gets its turn, or stands there still
            with pytest.raises(Busy):
                third.acquire(0)


@pytest.mark.parametrize("leave_first", [True, False], ids=["it is free", "it is not"])
def test_an_interrupt_while_it_waits_leaves_nothing_locked(lock, other, locks, leave_first):
    """Neither for the threads of this process nor for another."""

    def strike(*_: object) -> None:
        if leave_first:
            other.release()
        raise Struck

    before = signal.signal(signal.SIGALRM, strike)
    other.acquire(0)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Struck):
            lock.acquire(20)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not lock.is_mine()
    if not leave_first:
        other.release()
    assert is_free(locks())
    assert is_free(lock)


def test_without_a_thread_it_says_so(lock, other, monkeypatch):
    """The process may have as many as it may have; the next time it tries again."""

    def cannot(*_: object) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    with other.held(0):
        with monkeypatch.context() as patch:
            patch.setattr(lock_waiter, "start_new_thread", cannot)
            with pytest.raises(OSError, match="no thread can be"):
                lock.acquire(20)
        assert places(lock) == 0
        with pytest.raises(Busy):
            lock.acquire(0.02)


def test_a_place_that_an_interrupt_made_forget_disturbs_nobody(lock, other, locks, monkeypatch):
    """Ctrl-C strikes right after its thread was started; it takes its turn and gives it back."""
    start = lock_waiter.start_new_thread

    def struck(*how: object) -> None:
        start(*how)
        raise Struck

    with other.held(0):
        for _ in range(3):
            with monkeypatch.context() as patch:
                patch.setattr(lock_waiter, "start_new_thread", struck)
                with pytest.raises(Struck):
                    lock.acquire(20)
        assert places(lock) == 3
        threading.Timer(0.05, drop, (other,)).start()
        with lock.held(20), pytest.raises(Busy):
            locks().acquire(0.1)
    while places(lock):
        time.sleep(0.001)
    assert is_free(locks())


def test_what_the_system_says_is_said(lock, other, monkeypatch):
    """That a descriptor cannot be locked, say; the next time it tries again."""

    def cannot(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with other.held(0):
        with monkeypatch.context() as patch:
            patch.setattr(lock_waiter.fcntl, "flock", cannot)
            with pytest.raises(OSError, match="No locks"):
                lock._stand_in.wait(20)
        lock._stand_in.let_go()
        assert places(lock) == 0
        threading.Timer(0.05, drop, (other,)).start()
        with lock.held(20):
            pass


_FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # while a thread waits


@_FORKS
def test_a_forked_child_has_no_part_in_it(lock, other, locks):
    """Its parent waits; what comes to the parent is the parent's to give back."""
    other.acquire(0)
    with pytest.raises(Busy):
        lock.acquire(0.02)
    assert places(lock) == 1
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with pytest.raises(Busy):
                lock.acquire(0.05)  # a thread of its own stands in for it
            os.write(write, b"%d" % places(lock))
            time.sleep(20)
        finally:
            os._exit(0)
    try:
        assert os.read(read, 1) == b"1"
        other.release()
        assert is_free(locks())
        assert is_free(lock)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)


@_FORKS
def test_a_child_keeps_nothing_locked_that_its_dead_parent_had(lock, other, locks):
    """It shares no descriptor with it, so the parent's death lets go of everything."""
    other.acquire(0)
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            with pytest.raises(Busy):
                lock.acquire(0.02)
            if os.fork() == 0:
                os.write(write, os.getpid().to_bytes(4))
                time.sleep(20)
            lock.acquire(20)  # by the thread that stands there from before
            os.write(write, bytes(4))
            time.sleep(20)
        finally:
            os._exit(0)
    try:
        child = int.from_bytes(os.read(read, 4))
        other.release()
        assert os.read(read, 4) == bytes(4)
        assert not is_free(locks(), 0.05)
        os.kill(parent, signal.SIGKILL)
        assert is_free(locks())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(parent, 0)
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("which", [0, 1], ids=["first", "second"])
def test_a_fork_that_was_interrupted_leaves_the_child_nothing(locks, monkeypatch, which):
    """Ctrl-C strikes while the fork waits for one of the ledgers; the child has free locks all the same."""
    both = [locks(), locks()]
    for lock in both:
        with lock.held(0):
            pass
    inherited = [lock._fd for lock in both]
    monkeypatch.setattr(write_lock, "_ALL", both)
    wait = both[which].before_fork

    def struck() -> None:
        wait()
        raise Struck

    with monkeypatch.context() as patch:
        patch.setattr(both[which], "before_fork", struck)
        with pytest.raises(Struck):
            write_lock._before_fork()
    write_lock._after_fork(True)
    for lock, fd in zip(both, inherited, strict=True):
        assert lock._fd is None
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
        with lock.held(0):
            pass


def test_it_follows_no_link(tmp_path):
    """Somebody put one in the place of the lock file meanwhile."""
    (tmp_path / "real").touch()
    Path(tmp_path / "link").symlink_to(tmp_path / "real")
    stand_in = StandIn(tmp_path / "link")
    with pytest.raises(OSError, match="symbolic"):
        stand_in.wait(1)
    stand_in.let_go()
