"""Who waits for its turn, for how long, and what is it told if that does not come?"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import keybrake
from keybrake.errors import LedgerError, LedgerUnavailable
from keybrake.ledger import Note
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.protocol import Busy, Spoiled
from keybrake.ledger.stores.sqlite import group_commit
from keybrake.ledger.stores.sqlite.connections import Store
from keybrake.ledger.stores.sqlite.group_commit import GroupCommit, _Result, _Work
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.model.call import State
from keybrake.policy.policy import Policy, terms_of
from tests.ledger._queued import Struck, failing, is_woken, lined_up, note, written
from tests.ledger.test_contract import READ, asking, opened, settled
from tests.ledger.test_turns import held_elsewhere


@pytest.fixture
def ledger(tmp_path) -> Iterator[SQLiteLedger]:
    """Open a new ledger whose lock is not waited for for long."""
    opened_here = SQLiteLedger(tmp_path / "ledger.db", lock_timeout_s=0.4, durability="power")
    yield opened_here
    opened_here.close()


@pytest.fixture
def turns(ledger) -> GroupCommit:
    """Return the turns of the ledger."""
    return ledger._group_commit


@pytest.fixture
def begun(ledger, monkeypatch) -> list[dict[str, bool]]:
    """Return a list that grows by how each transaction was begun."""
    seen: list[dict[str, bool]] = []
    begin = Store.begin

    def noted(store: Store, **how: bool) -> Writing:
        seen.append(how)
        return begin(store, **how)

    monkeypatch.setattr(Store, "begin", noted)
    return seen


# Whoever asks


WRITES = {
    "open_run": lambda ledger, run, **how: ledger.open_run(run_of("run_2"), **how),
    "close_run": lambda ledger, run, **how: ledger.close_run(run, **how),
    "tool": lambda ledger, run, **how: ledger.tool(run, "pay", terms_of(Policy(cap=1)), **how),
    "admit": lambda ledger, run, **how: ledger.admit(asking(1, run), **how),
    "settle": lambda ledger, run, **how: ledger.settle(ADMITTED[0], settled(1), **how),
    "note": lambda ledger, run, **how: ledger.note(Note("n", READ, State.SETTLED, "x"), **how),
}
ADMITTED: list[Any] = []


def run_of(uid: str) -> Any:
    """Return a run to be opened."""
    from keybrake.ledger import NewRun

    return NewRun(uid, uid, terms_of(Policy(cap=1)), None, uid.encode().ljust(32))


@pytest.mark.parametrize("what", WRITES)
def test_whoever_may_not_wait_is_told_at_once(ledger, what):
    """And whoever may is let in when the other leaves."""
    run = opened(ledger)
    ADMITTED[:] = [ledger.admit(asking(1, run))]
    with held_elsewhere(ledger), pytest.raises(Busy):
        WRITES[what](ledger, run, wait=False)
    release = held_for(ledger, 0.05)
    WRITES[what](ledger, run)
    release.join()
    WRITES["note"](ledger, run, wait=False)


def test_a_settlement_does_not_look_again(ledger, begun):
    """That it is the newest ledger was looked at when the call was admitted."""
    held = ledger.admit(asking(1, opened(ledger)))
    ledger.settle(held, settled(1))

    assert [how["check"] for how in begun] == [True, True, False]


def held_for(ledger: SQLiteLedger, seconds: float) -> threading.Thread:
    """Hold the ledger's lock for so long, as another process would."""
    inside = threading.Event()

    def hold() -> None:
        with held_elsewhere(ledger):
            inside.set()
            time.sleep(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(20)
    return thread


def test_whoever_is_too_late_is_told_who_holds_it(ledger):
    """After as long as was said, with the lock's file by name."""
    run = opened(ledger)
    with held_elsewhere(ledger), pytest.raises(LedgerUnavailable) as refused:
        ledger.admit(asking(1, run))
    assert (
        f"cannot be used: it was not free within 0.4 s; another process holds {ledger.path}.lock"
        in (str(refused.value))
    )
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("wait", [True, False])
def test_a_block_waits_only_if_it_may(ledger, wait):
    """For another process, or for another thread of this one."""
    run, inside, leave = opened(ledger), threading.Event(), threading.Event()

    def stay() -> None:
        with ledger._store.lock.held(1):
            inside.set()
            leave.wait(20)

    error = LedgerUnavailable if wait else Busy
    with held_elsewhere(ledger), pytest.raises(error), ledger.together(durable=True, wait=wait):
        ledger.admit(asking(1, run))
    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait(20)
    with pytest.raises(error), ledger.together(durable=True, wait=wait):
        ledger.admit(asking(1, run))
    leave.set()
    thread.join()
    with ledger.together(durable=True, wait=wait):
        ledger.admit(asking(1, run))
        ledger.admit(asking(1, run))
    assert ledger.run(run).calls == 2


def test_a_block_is_one_transaction(ledger, begun):
    """Nobody else sees half of it; if it fails, there is nothing of it."""
    run = opened(ledger)
    begun.clear()
    with ledger.together(durable=True, wait=True):
        ledger.admit(asking(1, run))
        assert ledger.run(run).calls == 0
        ledger.admit(asking(1, run))
    assert ledger.run(run).calls == 2
    assert begun == [{"durable": True, "wait": True, "check": True}]

    def fail() -> None:
        with ledger.together(durable=True, wait=True):
            ledger.admit(asking(1, run))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert ledger.run(run).calls == 2
    ledger.admit(asking(1, run))
    assert ledger.run(run).calls == 3


def test_one_spoilt_block_does_not_spoil_the_next(ledger):
    """Each begins anew."""
    run = opened(ledger)
    held = ledger.admit(asking(1, run))
    ledger.settle(held, settled(1))
    with (
        pytest.raises(Spoiled),
        ledger.together(durable=False, wait=True),
        contextlib.suppress(LedgerError),
    ):
        ledger.settle(held, settled(1))
    with ledger.together(durable=False, wait=True):
        ledger.admit(asking(1, run))
    assert ledger.run(run).calls == 2


def test_another_thread_is_not_in_the_block(ledger):
    """What it asks meanwhile waits for its own turn."""
    run = opened(ledger)
    got: list[object] = []

    def ask() -> None:
        try:
            got.append(ledger.admit(asking(1, run), wait=False))
        except Busy as error:
            got.append(error)

    with ledger.together(durable=False, wait=True):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert [type(it) for it in got] == [Busy]


def test_a_failure_of_the_file_in_a_block_is_told(ledger, monkeypatch):
    """At its beginning or at its end."""
    run = opened(ledger)
    for name in ("begin", "commit"):
        monkeypatch.setattr(
            Store, name, lambda *_, **__: failing(sqlite3.OperationalError("full"))(0)
        )
        with (
            pytest.raises(LedgerUnavailable, match="cannot be used: full") as refused,
            ledger.together(durable=True, wait=True),
        ):
            pass
        assert isinstance(refused.value.__cause__, sqlite3.OperationalError)
        monkeypatch.undo()
    ledger.admit(asking(1, run))


# Following


def test_whoever_follows_is_answered_by_the_leader(ledger, turns):
    """It lines up while another thread is inside, and goes with the next one."""
    got: list[object] = []
    turns._lock.enter()
    thread = threading.Thread(target=lambda: got.append(turns.take(note(ledger, "b"))))
    thread.start()
    while not turns._waiting:
        time.sleep(0.001)
    turns._lead(_Work(note(ledger, "a"), durable=False, check=True), wait=True)
    thread.join(20)

    assert got == ["b"]
    assert written(ledger) == ["a", "b"]
    assert not turns._waiting


def test_whoever_follows_leads_once_nobody_is_inside(ledger, turns, begun):
    """It is woken by the one who leaves, and takes along who waits behind it."""
    turns._lock.enter()
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(turns.take(note(ledger, "b"))))
    thread.start()
    while not turns._waiting:
        time.sleep(0.001)
    (behind,) = lined_up(turns, note(ledger, "c"))
    turns._lock.release()
    thread.join(20)

    assert got == ["b"]
    assert written(ledger) == ["b", "c"]
    assert begun == [{"durable": False, "wait": True, "check": True}]
    assert is_woken(behind)


def test_whoever_follows_gives_up_in_time(ledger, turns):
    """A thread that stays inside lets nobody in; the one who waits is refused, and is in no queue."""
    turns._lock.enter()
    got: list[BaseException] = []

    def ask() -> None:
        began = time.monotonic()
        with pytest.raises(LedgerUnavailable) as refused:
            turns.take(note(ledger, "b"))
        got.extend((refused.value, time.monotonic() - began))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(20)
    turns._lock.release()

    assert "it was not free within 0.4 s" in str(got[0])
    assert got[1] >= 0.39
    assert not turns._waiting
    assert written(ledger) == []


def test_whoever_is_being_served_at_the_deadline_waits_for_its_answer(ledger, turns):
    """It is in no queue any more, so somebody is at it: giving up now could count it twice."""
    turns._lock.enter()
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(turns.take(note(ledger, "b"))))
    thread.start()
    while not turns._waiting:
        time.sleep(0.001)
    taken = turns._waiting.popleft()
    thread.join(0.7)
    assert thread.is_alive()
    taken.value, taken.result = "b", _Result()
    taken.result.over = True
    taken.wake()
    thread.join(20)
    turns._lock.release()
    assert got == ["b"]


def test_whoever_has_waited_has_less_patience_left(ledger, turns, monkeypatch):
    """Waiting for a thread and then for a process is waiting once."""
    given: list[float] = []
    enter, lock_file = turns._lock.enter, turns._lock.lock_file
    outside, moments = iter((False, False)), iter((0, 0, 0.125, 5, 5.125))
    turns._store.lock_timeout_s = 0.5
    monkeypatch.setattr(
        turns._lock,
        "lock_file",
        lambda deadline_s: (given.append(deadline_s), lock_file(deadline_s)),
    )
    turns.take(note(ledger, "a"))
    turns.take(note(ledger, "b"), wait=False)
    with monkeypatch.context() as patch:
        patch.setattr(turns._lock, "enter", lambda **_: next(outside, None) is None and enter())
        patch.setattr(group_commit, "monotonic", lambda: next(moments))
        patch.setattr(_Work, "wait", lambda *_: None)
        assert turns._follow(_Work(note(ledger, "c"), durable=False, check=True)) == "c"

    assert given == [0.5, 0.0, 0.25]


@pytest.mark.parametrize(
    ("moments", "waits"),
    [([0, 900, 0, -50, 0, 0.25], [0.25, 0.25, 0.25]), ([0, 0.125] * 4, [0.25, 0.25, 0.25, 0.125])],
    ids=["jumps", "steps"],
)
def test_a_clock_that_jumps_makes_no_thread_give_up(ledger, turns, monkeypatch, moments, waits):
    """A slice counts as a quarter of a second at most, and never as less than nothing."""
    waited: list[float] = []
    left = iter([0, *moments])
    turns._store.lock_timeout_s = 0.5
    monkeypatch.setattr(group_commit, "monotonic", lambda: next(left))
    monkeypatch.setattr(_Work, "wait", lambda _, timeout_s: waited.append(timeout_s))
    monkeypatch.setattr(type(turns._lock), "enter", lambda *_, **_how: False)
    with pytest.raises(LedgerUnavailable):
        turns._follow(_Work(note(ledger, "b"), durable=False, check=True))
    monkeypatch.undo()

    assert waited == waits


def test_an_interrupt_takes_whoever_waits_out_of_the_queue(ledger, turns, monkeypatch):
    """Its work will not be done by anybody."""

    def struck(*_: object) -> None:
        raise Struck

    turns._lock.enter()
    monkeypatch.setattr(_Work, "wait", struck)
    got: list[type] = []

    def ask() -> None:
        try:
            turns.take(note(ledger, "b"))
        except BaseException as error:  # noqa: BLE001 -- the interrupt
            got.append(type(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(20)
    turns._lock.release()
    assert got == [Struck]
    assert not turns._waiting
    assert turns.take(note(ledger, "c")) == "c"
    assert written(ledger) == ["c"]


def test_a_turn_is_waited_for_and_woken(ledger):
    """Woken twice it is woken; it waits as long as it is told to."""
    turn = _Work(note(ledger, "a"), durable=True, check=False)
    assert (turn.durable, turn.check, turn.result, turn.value) == (True, False, None, None)
    turn.line_up()
    began = time.monotonic()
    turn.wait(0.05)
    assert time.monotonic() - began >= 0.05
    turn.wake()
    turn.wake()
    assert is_woken(turn)
    assert not is_woken(turn)
    threading.Timer(0.05, turn.wake).start()
    turn.wait(60)


# The lock's own failures


def test_a_lock_that_cannot_be_had_is_told(ledger, turns, tmp_path):
    """The system cannot lock this file: the refusal says why."""
    ledger.close()
    turns._lock.close()
    turns._lock.path.unlink()
    turns._lock.path.mkdir()
    with pytest.raises(LedgerUnavailable, match="Is a directory") as refused:
        turns.take(note(ledger, "a"))
    assert isinstance(refused.value.__cause__, IsADirectoryError)
    assert not turns._lock.is_mine()
    turns._lock.path.rmdir()
    assert turns.take(note(ledger, "b")) == "b"


def test_what_another_program_holds_is_busy_only_for_who_may_not_wait():
    """SQLite's own word for it, and no other of its words."""
    locked, full = sqlite3.OperationalError(), sqlite3.OperationalError()
    locked.sqlite_errorcode, full.sqlite_errorcode = sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL
    assert group_commit._is_busy(locked)
    assert not group_commit._is_busy(full)
    assert not group_commit._is_busy(OSError())


def test_a_failure_that_is_not_busy_is_told_to_an_event_loop_too(ledger, turns):
    """Only what may go away by waiting is worth another try."""
    error = sqlite3.OperationalError("full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    with pytest.raises(keybrake.LedgerUnavailable, match="cannot be used: full") as refused:
        turns.take(failing(error), wait=False)
    assert refused.value.__cause__ is error
