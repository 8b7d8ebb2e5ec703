"""Does an error at any line of the way to the ledger leave everything in order for the next call?"""

import asyncio
import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import keybrake
from keybrake.guard import caller, task_batching
from keybrake.guard.steps import Steps, run_steps, run_steps_async
from keybrake.guard.task_batching import Ask
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.ledger.stores.sqlite.write_lock import LedgerLock
from keybrake.model.call import Outcome, State
from tests._steps import Send
from tests.faults._lines import Tracer, lines, traced
from tests.ledger._queued import Struck
from tests.ledger.test_contract import asking, opened, settled

CAP = 5
CALLERS = 3
# Nothing here waits this long, unless it would wait for ever.
PATIENCE_S = 20.0

FILES = (
    *("keybrake/guard/task_batching.py", "keybrake/guard/steps.py", "keybrake/model/waiting.py"),
    *(f"ledger/stores/sqlite/{name}.py" for name in ("group_commit", "write_lock", "lock_waiter")),
)
# For so long another process holds the lock that they wait for.
HELD_S = 0.02

ERRORS = {"memory": MemoryError, "interrupt": Struck}


class Stage(NamedTuple):
    """A ledger, a run in it, and what the vendor got."""

    ledger: SQLiteLedger
    run: int
    sent: list[int]

    def way(self, look: Callable[[], Any], send: Callable[[], Any]) -> Steps:
        """Go the way of one call of a dollar, which looks something up before."""
        ledger = self.ledger
        yield Send(look, 1.0)
        held = yield Ask(
            lambda wait: ledger.admit(asking(1, self.run), wait=wait),
            undo_work=lambda held: ledger.settle(held, Outcome(State.VOIDED, note="cancelled")),
            ledger=ledger,
            durably=True,
        )
        yield Send(send)
        yield Ask(lambda wait: ledger.settle(held, settled(1), wait=wait), ledger=ledger)

    def in_a_thread(self) -> Steps:
        """Go it where the vendor is waited for."""
        return self.way(lambda: None, lambda: self.sent.append(1))

    def in_a_task(self) -> Steps:
        """Go it where the vendor is awaited."""

        async def send() -> None:
            await asyncio.sleep(0)
            self.sent.append(1)

        return self.way(lambda: asyncio.sleep(0), send)


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Open a new ledger; no thread waits from before."""
    task_batching._waiting_room._pool = None
    ledger = SQLiteLedger(folder / "ledger.db", lock_timeout_s=1.0, durability="process")
    try:
        yield Stage(ledger, opened(ledger, cap=CAP), [])
    finally:
        ledger.close()
        for it in folder.iterdir():
            it.unlink()


@contextlib.contextmanager
def held_elsewhere(ledger: SQLiteLedger, seconds: float) -> Iterator[None]:
    """Hold the lock as another process would, until the block has gone on for *seconds*."""
    fd = os.open(f"{ledger.path}.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    timer = threading.Timer(seconds, fcntl.flock, (fd, fcntl.LOCK_UN))
    timer.start()
    try:
        yield
    finally:
        timer.join()
        os.close(fd)


# The acts


async def in_tasks(stage: Stage, count: int) -> list[Any]:
    """Have so many tasks call at once; return what each ended with."""
    tasks = [asyncio.ensure_future(run_steps_async(stage.in_a_task())) for _ in range(count)]
    _, stuck = await asyncio.wait(tasks, timeout=PATIENCE_S)
    assert not stuck, "a task waits for ever"
    return [task.exception() for task in tasks]


def in_threads(stage: Stage, count: int) -> list[Any]:
    """Have so many threads call at once; return what each ended with."""
    ended: list[Any] = []

    def call() -> None:
        error = None
        try:
            run_steps(stage.in_a_thread())
        except BaseException as raised:  # noqa: BLE001 -- the test decides what it means
            error = raised
        ended.append(error)

    threads = [threading.Thread(target=call, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + PATIENCE_S
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))
    assert not any(thread.is_alive() for thread in threads), "a thread waits for ever"
    return ended


def tasks(stage: Stage, tracer: Tracer, *, held_s: float | None, count: int = CALLERS) -> None:
    """Strike while tasks call; then some more call on the same loop."""

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        busy = contextlib.nullcontext() if held_s is None else held_elsewhere(stage.ledger, held_s)
        with busy, traced(tracer):
            await in_tasks(stage, count)
        check(await in_tasks(stage, CALLERS))

    asyncio.run(main())


def threads(stage: Stage, tracer: Tracer, *, held_s: float | None) -> None:
    """Strike while threads call; then some more do."""
    busy = contextlib.nullcontext() if held_s is None else held_elsewhere(stage.ledger, held_s)
    with busy, traced(tracer):
        in_threads(stage, CALLERS)
    check(in_threads(stage, CALLERS))


def check(ended: list[Any]) -> None:
    """See that calls ended as they should when nothing strikes: with an answer, or at the cap."""
    assert all(error is None or isinstance(error, keybrake.CapExceeded) for error in ended), ended


Act = Callable[..., None]
ACTS: dict[str, tuple[Act, dict[str, Any]]] = {
    "one task": (tasks, {"held_s": None, "count": 1}),
    "one task that waits": (tasks, {"held_s": HELD_S, "count": 1}),
    "tasks": (tasks, {"held_s": None}),
    "tasks that wait": (tasks, {"held_s": HELD_S}),
    "threads": (threads, {"held_s": None}),
    "threads that wait": (threads, {"held_s": HELD_S}),
}


def played(folder: Path, name: str, tracer: Tracer) -> list[str]:
    """Play an act with a strike in it; return what is wrong afterwards."""
    act, how = ACTS[name]
    with staged(folder) as stage:
        try:
            act(stage, tracer, **how)
        except AssertionError as error:
            return [str(error)]
        return list(left_wrong(stage))


def left_wrong(stage: Stage) -> Iterator[str]:
    """Yield what is not in order when all calls have ended."""
    lock = stage.ledger._store.lock
    if lock.is_mine() or lock.waiting:
        yield "the lock is not free, or somebody is in its queue"
    with LedgerLock(lock.path).held(PATIENCE_S):
        record = stage.ledger.run(stage.run)
    counted = (record.spent + record.reserved) // 10**6
    if not len(stage.sent) <= counted <= CAP:
        yield f"{len(stage.sent)} were sent, {counted} are counted, the cap is {CAP}"


# Many of those that wait are refused at the deadline: that takes minutes.
_NAMES = [pytest.param(name, marks=pytest.mark.system if "wait" in name else ()) for name in ACTS]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_error_at_any_line_stops_no_later_call(tmp_path, name, error, caplog):
    """Whichever line it strikes at, the calls after it end in time, and each that was sent counts."""
    caplog.set_level(logging.CRITICAL)
    calm = Tracer(FILES)
    assert played(tmp_path, name, calm) == []
    points = lines(calm, 1)
    assert points
    wrong: dict[str, list[str]] = {}
    for point in points:
        if found := played(tmp_path, name, Tracer(FILES, point, ERRORS[error])):
            wrong[str(point)] = found
    assert wrong == {}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("way", ["plain", "async"])
def test_an_error_while_a_run_is_entered_or_left_leaves_none_open(ledger_url, way, error):
    """A call outside of every run is not refused for the sake of one that nobody can leave any more."""

    def stay(tracer: Tracer) -> None:
        async def stay_async() -> None:
            async with keybrake.run("agent", cap=1):
                pass

        with traced(tracer):
            if way == "async":
                asyncio.run(stay_async())
            else:
                with keybrake.run("agent", cap=1):
                    pass

    stay(calm := Tracer(("keybrake/runs/run.py",)))
    # Python itself may be interrupted before it has come to the first thing that a function does.
    points = [
        it for it in lines(calm, 2) if it.text() not in ("try:", "with self._all_or_nothing():")
    ]
    for point in points:
        with contextlib.suppress(ERRORS[error]):
            stay(Tracer(("keybrake/runs/run.py",), point, ERRORS[error]))
        assert caller.open_runs.newest_ledger() is None, str(point)
        assert caller.active.get() is None, str(point)
