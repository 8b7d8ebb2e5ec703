"""What it brings that those who wait share a transaction: threads, and tasks of one event loop."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from keybrake.guard.steps import Steps, run_steps_async
from keybrake.guard.task_batching import Ask
from keybrake.ledger import Ledger, ending
from keybrake.model.call import Outcome, State
from tests._steps import Send
from tests.bench._ledger import Ours
from tests.bench._measure import interleaved, quantile, ratio
from tests.bench._report import Aim, Chart, Section, Series, table

_TEXT = """\
N threads, or N tasks of one event loop, record calls on one run. *Each its own*: the same ledger,
asked so that no two share a transaction (threads one after another behind a lock of the bench,
tasks without being gathered). *Shared*: as the guard asks. Both in turns, calls per second; p99 of
admit + settle in ms. Alone, a thread is compared with the same work between begin and commit by
hand, and a task with one that is not gathered."""

_MANY = (1, 8, 64)
_Result = tuple[float, list[float]]


def measure(folder: Path, *, short: bool) -> Section:
    """Measure threads and tasks at both durabilities."""
    calls, rounds = (64, 1) if short else (1024, 4)
    lines: list[tuple[str, ...]] = []
    gains: dict[tuple[str, str, int], float] = {}
    speeds: dict[tuple[str, str], list[float]] = {}
    for durability in ("power", "process"):
        for kind, crowd in (("threads", _in_threads), ("tasks", _in_tasks)):
            for many in _MANY:
                place = folder / f"{durability}-{kind}-{many}.db"
                each, shared = _compared(place, durability, crowd, many, calls, rounds)
                gain = gains[durability, kind, many] = shared[0] / each[0]
                cells = (f"{cell[0]:,.0f}" for cell in (each, shared))
                tails = (f"{quantile(cell[1], 0.99):,.1f}" for cell in (each, shared))
                lines.append((f"{many} {kind}, {durability}", *cells, f"{gain:.2f}", *tails))
                speeds.setdefault((durability, kind), []).append(shared[0])
    thread, task = _alone(folder, 100 if short else 1500)
    head = ("", "each its own", "shared", "gain", "p99 each", "p99 shared")
    return Section(
        "Group commit",
        (_TEXT, table(head, lines)),
        (
            Aim(
                "64 threads, power, to one transaction each", gains["power", "threads", 64], least=4
            ),
            Aim("64 tasks, power, to one transaction each", gains["power", "tasks", 64], least=10),
            Aim("one thread, process, to begin and commit by hand", thread, most=1.1),
            Aim("one task, process, to one that is not gathered", task, most=1.1),
        ),
        (_chart(speeds),),
    )


def _compared(
    path: Path, durability: str, crowd: Callable[..., _Result], many: int, calls: int, rounds: int
) -> tuple[_Result, _Result]:
    """Return calls per second, and the times in ms, of each its own and of shared."""
    speeds: tuple[list[float], list[float]] = ([], [])
    times: tuple[list[float], list[float]] = ([], [])
    ours = Ours(path, durability=durability)
    with closing(ours):
        for n in range(rounds * 2):
            shared = n % 2
            seconds, taken = crowd(ours, many, calls // many, shared=bool(shared))
            speeds[shared].append(len(taken) / seconds)
            times[shared].extend(taken)
        ours.check(len(times[0]) + len(times[1]))
    each, both = (
        (statistics.median(speed), taken) for speed, taken in zip(speeds, times, strict=True)
    )
    return each, both


def _in_threads(ours: Ours, many: int, calls: int, *, shared: bool) -> _Result:
    alone = threading.Lock()
    times: list[float] = []

    def work() -> None:
        ready.wait()
        for _ in range(calls):
            began = time.perf_counter()
            if shared:
                admitted = ours.ledger.admit(ours.admission())
                ours.ledger.settle(admitted, ours.outcome())
            else:
                with alone:
                    admitted = ours.ledger.admit(ours.admission())
                with alone:
                    ours.ledger.settle(admitted, ours.outcome())
            times.append((time.perf_counter() - began) * 1000)

    ready = threading.Barrier(many + 1)
    threads = [threading.Thread(target=work) for _ in range(many)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began, times


def _in_tasks(ours: Ours, many: int, calls: int, *, shared: bool) -> _Result:
    # Without a ledger in its steps, a way is not gathered with others.
    ledger = ours.ledger if shared else None
    times: list[float] = []

    async def work() -> None:
        for _ in range(calls):
            began = time.perf_counter()
            await run_steps_async(_way(ours, ledger))
            times.append((time.perf_counter() - began) * 1000)

    async def crowd() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(many)))
        return time.perf_counter() - began

    return asyncio.run(crowd()), times


def _way(ours: Ours, ledger: Ledger | None) -> Steps:
    """Go the way of a call, as the guard does, to a vendor that answers in the next turn."""
    asked = ours.admission()
    admitted = yield Ask(
        lambda wait: ours.ledger.admit(asked, wait=wait),
        undo_work=lambda held: ours.ledger.settle(held, Outcome(State.VOIDED)),
        ledger=ledger,
        durably=True,
    )
    yield Send(lambda: asyncio.sleep(0))
    ended = ours.outcome()
    yield Ask(lambda wait: ours.ledger.settle(admitted, ended, wait=wait), ledger=ledger)


def _alone(folder: Path, rounds: int) -> tuple[float, float]:
    """Return what it costs one thread, and one task, that others could have come along."""
    names = ("hand", "thread", "apart", "task")
    all_ours = [Ours(folder / f"alone-{name}.db", durability="process") for name in names]
    by_hand, thread, apart, task = all_ours
    with ExitStack() as opened, asyncio.Runner() as runner:

        def in_task(ours: Ours, ledger: Ledger | None) -> None:
            runner.run(run_steps_async(_way(ours, ledger)))
            ours.calls += 1

        for ours in all_ours:
            opened.enter_context(closing(ours))
        hand, alone, ungathered, gathered = interleaved(
            rounds,
            lambda: _by_hand(by_hand),
            thread.call,
            lambda: in_task(apart, None),
            lambda: in_task(task, task.ledger),
        )
        for ours in all_ours:
            ours.check()
    return ratio(alone, hand), ratio(gathered, ungathered)


def _by_hand(ours: Ours) -> None:
    """Record a call in two transactions that nobody could have joined."""
    ledger, store = ours.ledger, ours.ledger._store
    asked, ended = ours.admission(), ours.outcome()
    with store.lock.held(60):
        writing = store.begin(durable=True, wait=True, check=True)
        admitted: Any = ledger._admit(asked, writing)
        store.commit(writing)
    with store.lock.held(60):
        writing = store.begin(durable=False, wait=True, check=False)
        _end(writing, admitted, ended)
        store.commit(writing)
    ours.calls += 1


def _end(writing: Any, admitted: Any, ended: Outcome) -> None:
    ending.end(writing, admitted, ended)
    writing.fold()


def _chart(speeds: dict[tuple[str, str], list[float]]) -> Chart:
    series = [Series(f"{kind}, {durability}", v) for (durability, kind), v in speeds.items()]
    return Chart("Group commit: calls/s by how many", [str(n) for n in _MANY], series, log=True)
