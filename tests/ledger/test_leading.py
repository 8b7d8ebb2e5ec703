"""Whose work is in which transaction, and what becomes of each piece when something strikes?"""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from keybrake.errors import LedgerError, LedgerUnavailable
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.stores.sqlite.connections import Store
from keybrake.ledger.stores.sqlite.group_commit import GroupCommit, _Result
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from tests.ledger._queued import Struck, failing, is_woken, lined_up, note, written


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


# Leading


def test_one_alone_is_by_itself(ledger, turns, begun):
    """It begins as it was asked for, and returns what its work returned."""
    assert turns.take(note(ledger, "a"), durable=True, wait=False, check=False) == "a"
    assert turns.take(note(ledger, "b")) == "b"
    assert begun == [
        {"durable": True, "wait": False, "check": False},
        {"durable": False, "wait": True, "check": True},
    ]
    assert written(ledger) == ["a", "b"]


def test_whoever_leads_takes_the_others_along(ledger, turns, begun):
    """In their order, after its own; each thread has its answer and is woken."""
    others = lined_up(turns, note(ledger, "b"), note(ledger, "c"))
    assert turns.take(note(ledger, "a")) == "a"

    assert written(ledger) == ["a", "b", "c"]
    assert [turn.value for turn in others] == ["b", "c"]
    assert all(turn.is_done() for turn in others)
    assert all(is_woken(turn) for turn in others)
    assert not turns._waiting
    assert len(begun) == 1


@pytest.mark.parametrize(
    ("mine", "theirs"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_a_shared_transaction_is_as_strict_as_its_strictest(ledger, turns, begun, mine, theirs):
    """Durable if one of them is, and looked at if one of them is."""
    (other,) = lined_up(turns, note(ledger, "b"))
    other.durable, other.check = theirs, theirs
    turns.take(note(ledger, "a"), durable=mine, check=mine)

    assert begun == [{"durable": mine or theirs, "wait": True, "check": mine or theirs}]


def test_an_event_loop_takes_nobody_along(ledger, turns, begun):
    """It may not wait for the disk in their stead; the first of them is woken to lead."""
    others = lined_up(turns, note(ledger, "b"))
    assert turns.take(note(ledger, "a"), wait=False) == "a"

    assert written(ledger) == ["a"]
    assert list(turns._waiting) == others
    assert is_woken(others[0])


def test_no_more_than_128_go_together(ledger, turns, begun):
    """The rest goes with the next one, who is woken."""
    others = lined_up(turns, *[note(ledger, "b")] * 130)
    turns.take(note(ledger, "a"))

    assert len(written(ledger)) == 128
    assert list(turns._waiting) == others[127:]
    assert is_woken(others[127])
    assert not is_woken(others[128])


def test_one_that_fails_is_told_and_the_others_are_done(ledger, turns, begun):
    """Each in a transaction of its own then, as durable and strict as it was asked for."""
    broken = LedgerError("mine")
    others = lined_up(turns, failing(broken), note(ledger, "c"))
    others[1].durable, others[1].check = True, False
    assert turns.take(note(ledger, "a")) == "a"

    assert written(ledger) == ["a", "c"]
    assert [turn.result.error for turn in others] == [broken, None]
    assert all(turn.result.over for turn in others)
    assert all(is_woken(turn) for turn in others)
    assert begun[1:] == [
        {"durable": False, "wait": True, "check": True},
        {"durable": False, "wait": True, "check": True},
        {"durable": True, "wait": True, "check": False},
    ]


def test_the_leaders_own_failure_is_raised_in_its_thread(ledger, turns):
    """The others' work is done all the same."""
    (other,) = lined_up(turns, note(ledger, "b"))
    with pytest.raises(LedgerError, match="mine"):
        turns.take(failing(LedgerError("mine")))
    assert written(ledger) == ["b"]
    assert is_woken(other)
    (other,) = lined_up(turns, note(ledger, "c"))
    with pytest.raises(LedgerUnavailable, match="cannot be used: full") as refused:
        turns.take(failing(OSError("full")))
    assert isinstance(refused.value.__cause__, OSError)
    assert written(ledger) == ["b", "c"]


@pytest.fixture
def uncommitted(monkeypatch) -> list[BaseException]:
    """Return a list of what commits fail with from now on, one after another."""
    errors: list[BaseException] = []
    commit = Store.commit

    def failed(store: Store, writing: Writing) -> None:
        if errors:
            raise errors.pop(0)
        commit(store, writing)

    monkeypatch.setattr(Store, "commit", failed)
    return errors


def test_a_commit_that_fails_is_told_to_all_of_them(ledger, turns, uncommitted):
    """Nothing was written, and each thread has the same refusal."""
    others = lined_up(turns, note(ledger, "b"), note(ledger, "c"))
    uncommitted.append(sqlite3.OperationalError("full"))
    with pytest.raises(LedgerUnavailable, match="cannot be used: full"):
        turns.take(note(ledger, "a"))

    assert written(ledger) == []
    assert all(turn.result.over for turn in others)
    for turn in others:
        with pytest.raises(LedgerUnavailable, match="cannot be used: full"):
            turns._outcome(turn)
    assert turns.take(note(ledger, "d")) == "d"
    assert written(ledger) == ["d"]


def test_a_commit_that_fails_for_one_alone_is_told(ledger, turns, uncommitted):
    """Nothing was written; what is not the file's fault is raised as it is."""
    for error, kind in ((OSError("full"), LedgerUnavailable), (ValueError("odd"), ValueError)):
        uncommitted.append(error)
        with pytest.raises(kind):
            turns.take(note(ledger, "a"))
        assert not turns._lock.is_mine()
    assert written(ledger) == []
    assert turns.take(note(ledger, "b")) == "b"


def test_an_interrupt_before_the_commit_leaves_the_others_waiting(ledger, turns, uncommitted):
    """Their work is not done, so they line up again where they were, and one of them leads."""
    others = lined_up(turns, note(ledger, "b"), note(ledger, "c"))
    uncommitted.append(Struck())
    with pytest.raises(Struck):
        turns.take(note(ledger, "a"))

    assert written(ledger) == []
    assert list(turns._waiting) == others
    assert not any(turn.result.over for turn in others)
    assert is_woken(others[0])
    assert not turns._lock.is_mine()
    assert not is_woken(others[1])


def test_an_interrupt_after_the_commit_leaves_nobody_waiting(ledger, turns, monkeypatch):
    """Their work is done, and each of them is told."""
    others = lined_up(turns, note(ledger, "b"), note(ledger, "c"))
    commit = Store.commit

    def struck(store: Store, writing: Writing) -> None:
        commit(store, writing)
        raise Struck

    monkeypatch.setattr(Store, "commit", struck)
    with pytest.raises(Struck):
        turns.take(note(ledger, "a"))
    monkeypatch.undo()

    assert written(ledger) == ["a", "b", "c"]
    assert all(turn.result.over for turn in others)
    assert all(is_woken(turn) for turn in others)
    assert not turns._waiting


def test_an_interrupt_in_the_work_of_one_leaves_the_others_waiting(ledger, turns):
    """It strikes the thread that leads, not the one whose work it was."""
    others = lined_up(turns, failing(Struck()), note(ledger, "c"))
    with pytest.raises(Struck):
        turns.take(note(ledger, "a"))

    assert written(ledger) == []
    assert list(turns._waiting) == others
    assert is_woken(others[0])


def test_an_interrupt_while_they_are_told_is_raised_when_all_know(ledger, turns):
    """Ctrl-C in the middle of waking leaves nobody asleep."""
    others = lined_up(turns, note(ledger, "b"), note(ledger, "c"))
    strikes = [Struck]

    class Fragile:
        """Stands in the queue for the last one, and is struck when it is to be woken."""

        def __getattr__(self, name: str) -> Any:
            if name == "wake" and strikes:
                raise strikes.pop()
            return getattr(others[1], name)

    turns._waiting.clear()
    for turn in others:
        turn.result = _Result()
        turn.result.over = True
    with pytest.raises(Struck):
        turns._wake_or_requeue([others[0], Fragile()])
    assert all(is_woken(turn) for turn in others)


def test_a_nested_call_is_refused_and_changes_nothing(ledger, turns):
    """A finalizer in the middle of the work asks the ledger: it is turned away, the work goes on."""
    seen: list[BaseException] = []

    def work(writing: Writing) -> str:
        with pytest.raises(LedgerUnavailable) as refused:
            turns.take(note(ledger, "inner"))
        seen.append(refused.value)
        return note(ledger, "outer")(writing)

    assert turns.take(work) == "outer"
    assert written(ledger) == ["outer"]
    assert "in the middle of using it" in str(seen[0])
    assert isinstance(seen[0].__cause__, BlockingIOError)
