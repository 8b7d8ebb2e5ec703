"""Do the tasks of one event loop share a transaction, and is nothing lost when one is cancelled?"""

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import pytest

import keybrake
from keybrake.guard.task_batching import Ask, ask, task_batches
from keybrake.ledger.event_chain import Writing
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.ledger.stores.sqlite.write_lock import LedgerLock
from keybrake.model.call import Outcome, State
from tests.ledger.test_contract import asking, opened, settled

TASKS = 64


@pytest.fixture
def ledger(tmp_path) -> Iterator[SQLiteLedger]:
    """Open a new ledger."""
    opened_here = SQLiteLedger(tmp_path / "ledger.db", lock_timeout_s=20, durability="power")
    yield opened_here
    opened_here.close()


@pytest.fixture
def commits(ledger) -> list[int]:
    """Return a list that grows with each commit."""
    seen: list[int] = []
    commit = ledger._store.commit

    def counted(writing: Writing) -> None:
        commit(writing)
        seen.append(1)

    ledger._store.commit = counted
    return seen


def admission(ledger: SQLiteLedger, run: int) -> Ask:
    """Return the step that admits one dollar, as the guard takes it."""
    return Ask(
        lambda wait: ledger.admit(asking(1, run), wait=wait),
        undo_work=lambda held: ledger.settle(held, Outcome(State.VOIDED, note="cancelled")),
        ledger=ledger,
        durably=True,
    )


def settlement(ledger: SQLiteLedger, held: Any) -> Ask:
    """Return the step that settles it."""
    return Ask(lambda wait: ledger.settle(held, settled(1), wait=wait), ledger=ledger)


def test_tasks_share_a_transaction(ledger, commits):
    """Sixty-four tasks that charge at once cost two transactions: one to admit, one to settle."""
    run = opened(ledger)

    async def task() -> None:
        held = await task_batches().ask(admission(ledger, run))
        await task_batches().ask(settlement(ledger, held))

    async def main() -> None:
        await asyncio.gather(*(task() for _ in range(TASKS)))

    commits.clear()
    asyncio.run(main())
    assert len(commits) == 2
    assert (ledger.run(run).spent, ledger.run(run).reserved) == (TASKS * 10**6, 0)


def test_each_task_has_its_own_answer(ledger):
    """A cap that fits ten admits exactly ten of sixty-four; the others are refused, each by itself."""
    run = opened(ledger, cap=10)

    async def main() -> list[Any]:
        asks = (task_batches().ask(admission(ledger, run)) for _ in range(TASKS))
        return await asyncio.gather(*asks, return_exceptions=True)

    answers = asyncio.run(main())
    refusals = [it for it in answers if isinstance(it, keybrake.CapExceeded)]
    assert len({id(it) for it in refusals}) == TASKS - 10
    assert (ledger.run(run).calls, ledger.run(run).refused) == (10, TASKS - 10)


def test_one_that_fails_leaves_the_others_alone(ledger):
    """A second settlement of one call fails in its own task; all others go through."""
    run = opened(ledger)
    held = ledger.admit(asking(1, run))
    ledger.settle(held, settled(1))

    async def main() -> list[Any]:
        asks = [task_batches().ask(admission(ledger, run)) for _ in range(5)]
        asks.insert(2, task_batches().ask(settlement(ledger, held)))
        return await asyncio.gather(*asks, return_exceptions=True)

    answers = asyncio.run(main())
    assert "has ended already" in str(answers.pop(2))
    assert len({held.seq for held in answers}) == 5


@contextlib.contextmanager
def held_elsewhere(ledger: SQLiteLedger) -> Iterator[None]:
    """Hold the ledger's lock as another process would."""
    with LedgerLock(ledger.path.with_name(ledger.path.name + ".lock")).held(5):
        yield


def test_the_loop_goes_on_while_the_lock_is_held(ledger, commits):
    """Tasks that find the lock taken wait in a thread, together; the loop ticks meanwhile."""
    run = opened(ledger)

    async def main() -> int:
        ticks = 0
        with held_elsewhere(ledger):
            asks = [
                asyncio.ensure_future(task_batches().ask(admission(ledger, run))) for _ in range(8)
            ]
            for _ in range(20):
                await asyncio.sleep(0.005)
                ticks += 1
            assert not any(ask.done() for ask in asks)
        await asyncio.gather(*asks)
        return ticks

    commits.clear()
    assert asyncio.run(main()) == 20
    assert len(commits) == 1
    assert ledger.run(run).calls == 8


@pytest.mark.parametrize("turns", range(4))
def test_a_cancelled_admission_is_not_kept(ledger, turns):
    """Whenever a task is cancelled, what was admitted for it is taken back, or never was."""
    run = opened(ledger)

    async def main() -> bool:
        asks = [asyncio.ensure_future(task_batches().ask(admission(ledger, run))) for _ in range(4)]
        for _ in range(turns):
            await asyncio.sleep(0)
        kept = not asks[1].cancel()
        await asyncio.gather(*asks, return_exceptions=True)
        return kept

    kept = asyncio.run(main())
    for _ in range(200):
        if ledger.run(run).reserved == (4 if kept else 3) * 10**6:
            break
        asyncio.run(asyncio.sleep(0.01))
    assert ledger.run(run).reserved == (4 if kept else 3) * 10**6


@pytest.mark.parametrize("turns", range(3))
def test_a_cancelled_settlement_is_written_all_the_same(ledger, turns):
    """A task that is cancelled while it settles leaves a call that is settled."""
    run = opened(ledger)
    held = ledger.admit(asking(1, run))

    async def main() -> None:
        other = asyncio.ensure_future(task_batches().ask(admission(ledger, run)))
        ask = asyncio.ensure_future(task_batches().ask(settlement(ledger, held)))
        for _ in range(turns):
            await asyncio.sleep(0)
        ask.cancel()
        await asyncio.gather(other, ask, return_exceptions=True)

    asyncio.run(main())
    assert ledger.run(run).spent == (10**6 if turns else 0)


def test_a_coroutine_that_is_closed_settles_first(ledger):
    """A coroutine that is thrown away in the middle of settling writes it down on its way out."""
    run = opened(ledger)
    held = ledger.admit(asking(1, run))

    async def main() -> None:
        asked = task_batches().ask(settlement(ledger, held))
        asked.send(None)
        asked.close()
        assert ledger.run(run).spent == 10**6
        await asyncio.sleep(0)

    asyncio.run(main())
    assert ledger.run(run).spent == 10**6


def test_a_ledger_that_is_lost_refuses_every_task(ledger):
    """When the file is gone, each task is told so by an error of its own."""
    run = opened(ledger)
    ledger.path.unlink()

    async def main() -> list[Any]:
        asks = (task_batches().ask(admission(ledger, run)) for _ in range(3))
        return await asyncio.gather(*asks, return_exceptions=True)

    answers = asyncio.run(main())
    assert {type(it) for it in answers} == {keybrake.LedgerUnavailable}
    assert len({id(it) for it in answers}) == 3
    assert all("was deleted" in str(it) for it in answers)


@pytest.mark.parametrize("turns", [1, 2])
def test_a_refusal_that_nobody_waits_for_is_no_noise(tmp_path, turns):
    """A task that is cancelled while it waits for the lock leaves no error behind that nobody fetched."""
    impatient = SQLiteLedger(tmp_path / "ledger.db", lock_timeout_s=0.1, durability="process")
    run = opened(impatient)
    said: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        asked = asyncio.ensure_future(ask(admission(impatient, run)))
        for _ in range(turns):
            await asyncio.sleep(0)
        assert asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        del asked
        await asyncio.sleep(0.4)  # by then the thread that waited in its stead was refused
        gc.collect()

    with LedgerLock(tmp_path / "ledger.db.lock").held(1):
        asyncio.run(main())
    assert said == []
