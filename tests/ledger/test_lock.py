"""Does the lock let one in at a time, for as long as is said, and is it let go whatever happens?"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from keybrake.ledger.protocol import Busy
from keybrake.ledger.stores.sqlite import forking, write_lock
from keybrake.ledger.stores.sqlite.write_lock import LedgerLock
from tests.ledger._queued import Struck


@pytest.fixture
def lock(tmp_path) -> Iterator[LedgerLock]:
    """Return the lock of a ledger."""
    made = LedgerLock(tmp_path / "ledger.db.lock")
    yield made
    made.close()


@pytest.fixture
def other(lock) -> Iterator[LedgerLock]:
    """Return the same lock as another process has it: by a descriptor of its own."""
    made = LedgerLock(lock.path)
    yield made
    made.close()


def in_a_thread(work: Callable[[], object]) -> object:
    """Return what another thread gets."""
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(work()))
    thread.start()
    thread.join()
    return got[0]


# Threads and processes


def test_one_thread_is_inside_and_knows_it(lock):
    """The others are kept out; whoever is inside can ask whether it is."""
    assert not lock.is_mine()
    assert lock.enter()
    assert lock.is_mine()
    assert in_a_thread(lock.is_mine) is False
    assert in_a_thread(lock.enter) is False
    assert lock.enter()
    lock.release()
    assert not lock.is_mine()


def test_one_process_holds_the_file(lock, other):
    """The other is refused at once, or waits for as long as it says."""
    with lock.held(0):
        began = time.monotonic()
        with pytest.raises(Busy):
            other.acquire(0)
        with pytest.raises(Busy):
            other.acquire(0.3)
        assert time.monotonic() - began >= 0.3
        assert not other.is_mine()
    with other.held(20):
        assert other.is_mine()


def test_a_waiter_is_let_in_when_the_other_leaves(lock, other):
    """It waits no longer than it has to."""
    lock.acquire(0)

    def hold() -> None:
        with other.held(20):
            pass

    waiting = threading.Thread(target=hold)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    lock.release()
    waiting.join(20)
    assert not waiting.is_alive()


def test_a_thread_waits_for_a_thread(lock):
    """For as long as it says, and is let in when the other leaves."""
    lock.acquire(0)
    assert in_a_thread(lambda: lock.enter(0.05)) is False

    def enter_and_leave() -> bool:
        entered = lock.enter(20)
        lock.release()
        return entered

    got: list[bool] = []
    waiting = threading.Thread(target=lambda: got.append(enter_and_leave()))
    waiting.start()
    lock.release()
    waiting.join()
    assert got == [True]


def test_a_block_that_fails_lets_go(lock, other):
    """Whatever is raised inside."""
    with pytest.raises(ZeroDivisionError), lock.held(0):
        raise ZeroDivisionError
    with other.held(0):
        assert not lock.is_mine()


def test_no_thread_is_kept_out_after_one_was_refused(lock, other):
    """Who does not get the file gives the other threads their turn."""
    with other.held(0), pytest.raises(Busy):
        lock.acquire(0)
    assert in_a_thread(lambda: lock.enter(0)) is True


# The file


def test_the_lock_file_is_the_owners_alone_and_no_link(lock, tmp_path):
    """It is made when it is first needed, not inherited by other programs, and never removed."""
    assert not lock.path.exists()
    before = os.umask(0)
    try:
        with lock.held(0):
            assert not os.get_inheritable(lock._fd)
    finally:
        os.umask(before)
    assert lock.path.stat().st_mode & 0o777 == 0o600
    linked = LedgerLock(tmp_path / "linked.lock")
    linked.path.symlink_to(lock.path)
    with pytest.raises(OSError, match="symbolic"):
        linked.acquire(0)
    assert not linked.is_mine()


def test_a_closed_lock_opens_again(lock, other):
    """Closing it twice is no error, and what was held is let go."""
    lock.acquire(0)
    lock.close()
    lock.close()
    with other.held(0):
        pass
    lock.release()
    with lock.held(0), pytest.raises(Busy):
        other.acquire(0)


# In the middle of it


def test_whoever_waits_longest_is_woken(lock):
    """The thread that leaves wakes one; the others are woken by that one."""

    class Sleeper:
        woken = 0

        def wake(self) -> None:
            self.woken += 1

    one, two = Sleeper(), Sleeper()
    lock.waiting.extend((one, two))
    with lock.held(0):
        assert one.woken == 0
    assert (one.woken, two.woken) == (1, 0)
    lock.waiting.clear()


def test_interrupts_leave_nothing_locked(lock, other, monkeypatch):
    """Ctrl-C in the middle of giving it back is raised once all is given back."""
    unlock, strikes = write_lock.unlock_descriptor, [Struck, Struck]

    def struck(fd: int) -> None:
        if strikes:
            raise strikes.pop()
        unlock(fd)

    lock.acquire(0)
    monkeypatch.setattr(write_lock, "unlock_descriptor", struck)
    with pytest.raises(Struck):
        lock.release()
    assert not lock.is_mine()
    with other.held(0):
        pass


def test_a_descriptor_that_cannot_be_unlocked_holds_nobody_up(lock):
    """Somebody closed it: then it locks nothing, and the threads go on."""
    lock.acquire(0)
    os.close(lock._fd)
    lock.release()
    lock._fd = None
    assert in_a_thread(lambda: lock.enter(0)) is True


def test_a_handler_in_the_middle_of_the_work_is_refused(lock):
    """It runs in the thread that is inside, further up whose stack the ledger is in use."""
    seen: list[object] = []

    def handler(*_: object) -> None:
        try:
            lock.enter()
        except BlockingIOError as error:
            seen.append(str(error))
        else:
            seen.append(None)

    # A function of the ledger that takes long enough for a signal to strike inside of it.
    busy: dict[str, object] = {"__name__": "keybrake.ledger.busy", "time": time}
    exec("def work(until):\n    while not until: time.sleep(0.001)", busy)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with lock.held(0):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            busy["work"](seen)
            assert lock.enter()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert seen == ["this thread is in the middle of using it (a signal handler, or a finalizer)"]


# Forks


@pytest.mark.parametrize("child", [True, False], ids=["child", "parent"])
def test_after_a_fork_both_sides_have_free_locks(lock, other, child):
    """The child has a descriptor and locks of its own, and nobody waits there."""
    with lock.held(0):
        pass
    fd, mutex = lock._fd, lock._mutex
    lock.waiting.append(None)
    taken = lock.before_fork()
    assert taken == (True, True)
    assert in_a_thread(lambda: lock.enter(0)) is False
    assert in_a_thread(lambda: lock.reading.acquire(timeout=0)) is False
    if not child:
        lock.waiting.clear()
    lock.after_fork(taken, child=child)

    assert (lock._fd is None, lock._mutex is mutex) == (child, not child)
    assert not lock.waiting
    assert in_a_thread(lambda: lock.enter(0)) is True
    assert in_a_thread(lambda: lock.reading.acquire(timeout=0)) is True
    if child:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_what_a_fork_could_not_take_it_does_not_give_back(lock, monkeypatch):
    """A thread that stays inside for too long is not thrown out; the fork goes on without it."""
    monkeypatch.setattr(forking, "PATIENCE_S", 0.02)
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with lock.held(0), lock.reading:
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait(20)
    taken = lock.before_fork()
    lock.after_fork(taken, child=False)
    assert taken == (False, False)
    assert not lock.enter(0)
    leave.set()
    thread.join()
    assert lock.enter(0)
    lock.release()


@pytest.mark.parametrize("which", ["reading", "writing"])
def test_a_fork_gives_back_just_what_it_took(lock, monkeypatch, which):
    """Another thread kept one of the two locks all the while, and keeps it."""
    monkeypatch.setattr(forking, "PATIENCE_S", 0.02)
    inside, leave = threading.Event(), threading.Event()
    kept = lock.reading if which == "reading" else lock._mutex

    def stay() -> None:
        with kept:
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait(20)
    taken = lock.before_fork()
    assert taken == (which == "reading", which == "writing")
    lock.after_fork(taken, child=False)
    free = (
        in_a_thread(lambda: lock._mutex.acquire(timeout=0)),
        in_a_thread(lambda: lock.reading.acquire(timeout=0)),
    )
    assert free == taken
    leave.set()
    thread.join()


def test_a_fork_waits_for_every_ledger(lock, other):
    """And for nobody who is opening one; afterwards all of them are free."""
    forking._before()
    assert in_a_thread(lambda: lock.enter(0)) is False
    assert in_a_thread(lambda: other.enter(0)) is False
    assert forking.opening.locked()
    forking._after_in_parent()
    assert not forking.opening.locked()
    assert not write_lock._TAKEN
    for it in (lock, other):
        assert in_a_thread(lambda it=it: it.enter(0)) is True


def test_a_child_has_new_locks(lock):
    """Whoever held the old ones is not in the child to give them back."""
    mutex = lock._mutex
    forking._before()
    forking._after_in_child()
    assert lock._mutex is not mutex
    assert not forking.opening.locked()


@pytest.mark.parametrize("child", [True, False])
def test_a_fork_in_the_middle_of_opening_goes_on(monkeypatch, child):
    """A thread that opens a ledger for too long keeps its lock, save in the child, where it is not."""
    monkeypatch.setattr(forking, "PATIENCE_S", 0.02)
    forking.opening.acquire()
    forking._before()
    (forking._after_in_child if child else forking._after_in_parent)()
    assert forking.opening.locked() is not child
    if not child:
        forking.opening.release()


def test_others_may_be_asked_along_at_a_fork():
    """Each before it, and after it with whether this is the child."""
    seen: list[object] = []
    forking.also(lambda: seen.append("before"), seen.append)
    try:
        forking._before()
        forking._after_in_parent()
        forking._before()
        forking._after_in_child()
    finally:
        forking._more.pop()
    assert seen == ["before", False, "before", True]
