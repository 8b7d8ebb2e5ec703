"""A gate wakes one waiter, and a mutex admits one thread at a time, in order."""

import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from keybrake.model import waiting
from keybrake.model.waiting import Gate, Mutex, Native


def in_a_thread(work: Callable[[], object]) -> object:
    """Run *work* in another thread, and return its result."""
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(work()))
    thread.start()
    thread.join(20)
    return got[0]


def test_a_gate_wakes_one_waiter():
    """Opened twice it wakes one waiter, and a wait without an opening times out."""
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
    """The waiting thread continues at once."""
    gate = Gate()
    threading.Timer(0.02, gate.open).start()
    assert gate.wait(20)


def test_a_mutex_knows_its_owner():
    """Its owner may take it again, and other threads must wait for the release."""
    mutex = Mutex()
    with mutex:
        assert mutex.is_mine()
        assert mutex.locked()
        assert mutex.acquire(0)
        assert in_a_thread(mutex.is_mine) is False
        assert in_a_thread(lambda: mutex.acquire(0.02)) is False
    assert not mutex.locked()
    assert in_a_thread(lambda: mutex.acquire(0)) is True


def test_a_mutex_is_fair():
    """A new thread queues behind earlier waiters, unless it has waited elsewhere for longer."""
    mutex, got = Mutex(), []
    mutex.acquire()
    waits = threading.Thread(target=lambda: got.append(mutex.acquire(20)))
    since = waiting.monotonic()
    waits.start()
    while not mutex._line:
        time.sleep(0.001)
    mutex._owner.clear()  # the state between a release and the wake-up of the waiter
    assert not mutex.acquire(0) or got
    assert mutex.acquire(0, since=since) or got
    mutex.release()
    waits.join(20)
    assert got == [True]


def test_a_dead_waiter_does_not_block_the_line():
    """A waiter that an interrupt left in the line is ignored after its deadline."""
    mutex = Mutex()
    mutex._line.append((Gate(), 0.0, waiting.monotonic() + 0.05))
    assert not mutex.acquire(0)
    time.sleep(0.06)
    assert mutex.acquire(0)


def test_a_native_lock_is_reentrant():
    """Its own thread can take it again, and another thread cannot."""
    lock = Native()
    with lock, lock:
        assert in_a_thread(lambda: lock.lock.acquire(blocking=False)) is False
    assert not hasattr(lock, "__dict__")


@pytest.mark.parametrize("name", ["gevent._hub_local", "eventlet.hubs", "greenlet", "gevent"])
def test_a_half_imported_module_is_ignored(monkeypatch, name):
    """A module that another thread is importing may not have its attributes yet."""
    monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    assert waiting.pause_of_hub() is None
    assert waiting.here() == (threading.get_ident(), None)
