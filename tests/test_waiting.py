"""Does a gate open once for one that waits, and does a mutex let one in at a time, in order?"""

import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from keybrake.model import waiting
from keybrake.model.waiting import Gate, Mutex, Native


def in_a_thread(work: Callable[[], object]) -> object:
    """Return what another thread gets."""
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(work()))
    thread.start()
    thread.join(20)
    return got[0]


def test_a_gate_is_waited_for_and_opened_once():
    """Opened twice it lets one go on; a wait that is over says so."""
    gate = Gate()
    began = time.monotonic()
    assert not gate.wait(0.05)
    assert time.monotonic() - began >= 0.05
    assert not gate.wait(-1)
    gate.open()
    gate.open()
    assert gate.wait(20)
    assert not gate.wait(0)


def test_a_gate_is_opened_by_another_thread():
    """The one that waits goes on at once."""
    gate = Gate()
    threading.Timer(0.02, gate.open).start()
    assert gate.wait(20)


def test_a_mutex_knows_who_is_inside():
    """Its own thread may enter again, others not before it has left."""
    mutex = Mutex()
    with mutex:
        assert mutex.is_mine()
        assert mutex.locked()
        assert mutex.acquire(0)
        assert in_a_thread(mutex.is_mine) is False
        assert in_a_thread(lambda: mutex.acquire(0.02)) is False
    assert not mutex.locked()
    assert in_a_thread(lambda: mutex.acquire(0)) is True


def test_those_that_wait_longer_go_first():
    """One that comes meanwhile goes behind them, unless it has waited elsewhere for longer still."""
    mutex, got = Mutex(), []
    mutex.acquire()
    waits = threading.Thread(target=lambda: got.append(mutex.acquire(20)))
    since = waiting.monotonic()
    waits.start()
    while not mutex._line:
        time.sleep(0.001)
    mutex._owner.clear()  # as it is for a moment, before the next one looks
    assert not mutex.acquire(0) or got
    assert mutex.acquire(0, since=since) or got
    mutex.release()
    waits.join(20)
    assert got == [True]


def test_a_place_that_was_forgotten_holds_up_nobody_for_ever():
    """An interrupt left it in the line; it counts until its time is over."""
    mutex = Mutex()
    mutex._line.append((Gate(), 0.0, waiting.monotonic() + 0.05))
    assert not mutex.acquire(0)
    time.sleep(0.06)
    assert mutex.acquire(0)


def test_a_native_lock_may_be_taken_again():
    """By its own thread, and by no other."""
    lock = Native()
    with lock, lock:
        assert in_a_thread(lambda: lock.lock.acquire(blocking=False)) is False
    assert not hasattr(lock, "__dict__")


@pytest.mark.parametrize("name", ["gevent._hub_local", "eventlet.hubs", "greenlet", "gevent"])
def test_a_module_that_is_being_imported_is_not_asked(monkeypatch, name):
    """Another thread is in the middle of it, and it has nothing in it yet."""
    monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    assert waiting.pause_of_hub() is None
    assert waiting.here() == (threading.get_ident(), None)
