"""Who is calling: does the run follow into threads, pools and tasks, and nowhere else?"""

import asyncio
import contextvars
import multiprocessing
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import pytest
import stripe

import keybrake


def pay(dollars: int = 1) -> keybrake.Run | None:
    """Charge through the real SDK and return the run around here."""
    stripe.PaymentIntent.create(amount=dollars * 100, currency="usd")
    return keybrake.current_run()


def rows(columns: str = "run_id, state, reason") -> list[tuple[object, ...]]:
    """Return columns of the call log, oldest first."""
    path = keybrake.open_ledger().url.removeprefix("sqlite:///")
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(f"SELECT {columns} FROM call_log ORDER BY seq").fetchall()
    finally:
        connection.close()


# Where a run follows


def by_thread(work):
    """Run *work* in a thread."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def by_subclass(work):
    """Run *work* in a thread with a ``run`` of its own."""

    class Worker(threading.Thread):
        def run(self) -> None:
            work()

    worker = Worker()
    worker.start()
    worker.join()


def by_timer(work):
    """Run *work* in a timer's thread."""
    timer = threading.Timer(0, work)
    timer.start()
    timer.join()


def by_nested_threads(work):
    """Run *work* in a thread of a thread."""
    by_thread(lambda: by_thread(work))


def by_pool(work):
    """Run *work* in a worker of an executor."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def by_map(work):
    """Run *work* through ``map`` of an executor."""
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(lambda _: work(), [1]))


def by_thread_pool(work):
    """Run *work* in a pool of multiprocessing's."""
    with ThreadPool(1) as pool:
        pool.apply(work)


def by_executor(work):
    """Run *work* in an event loop's default executor."""

    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(None, work)

    asyncio.run(main())


def by_to_thread(work):
    """Run *work* in ``asyncio.to_thread``."""
    asyncio.run(asyncio.to_thread(work))


def by_task(work):
    """Run *work* in a task of a task group."""

    async def step() -> None:
        await asyncio.sleep(0)
        work()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(step())

    asyncio.run(main())


def by_gather(work):
    """Run *work* through ``asyncio.gather``."""

    async def step() -> None:
        await asyncio.sleep(0)
        work()

    async def main() -> None:
        await asyncio.gather(step())

    asyncio.run(main())


def by_callback(work):
    """Run *work* as a callback of an event loop."""

    async def main() -> None:
        done = asyncio.Event()
        asyncio.get_running_loop().call_soon(lambda: (work(), done.set()))
        await done.wait()

    asyncio.run(main())


def by_loop_in_thread(work):
    """Run *work* in an event loop of its own in a thread."""

    async def main() -> None:
        work()

    by_thread(lambda: asyncio.run(main()))


WAYS = [
    by_thread, by_subclass, by_timer, by_nested_threads, by_pool, by_map, by_thread_pool, by_executor, by_to_thread,
    by_task, by_gather, by_callback, by_loop_in_thread,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_run_follows(ledger_url, fake, way):
    """Whoever is started inside a run calls inside that run."""
    with keybrake.run("agent", cap=9) as run:
        seen = []
        way(lambda: seen.append(pay()))

    assert seen == [run]
    assert run.spent == 1


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_innermost_run_follows(ledger_url, fake, way):
    """What is carried is the run and all that stands around it."""

    @keybrake.tool
    def step() -> None:
        way(pay)

    with keybrake.run("outer", cap=9) as outer, keybrake.run("inner", cap=9) as inner:
        step()

    assert (outer.spent, inner.spent) == (1, 1)
    assert rows("run_id, tool") == [(inner.id, "step")]


def test_a_worker_does_not_keep_the_run_that_started_it(ledger_url, fake):
    """A pool's thread, born in one run, charges the run its next task is submitted in."""
    with ThreadPoolExecutor(1) as pool:
        with keybrake.run("first", cap=9) as first:
            pool.submit(pay).result()
        with keybrake.run("second", cap=9) as second:
            assert pool.submit(pay).result() is second
        with keybrake.run("third", cap=9):
            outside = contextvars.Context().run(pool.submit, pay)
            with pytest.raises(keybrake.NoActiveRun):
                outside.result()
        assert pool.submit(keybrake.current_run).result() is None

    assert (first.spent, second.spent) == (1, 1)


def test_a_worker_born_outside_takes_the_run_of_its_task(ledger_url, fake):
    """A pool made and used before the run opened is carried into."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        with keybrake.run("agent", cap=9) as run:
            assert pool.submit(pay).result() is run


def test_a_callback_of_a_later_task_is_in_no_earlier_run(ledger_url, fake):
    """What a worker does between tasks does not stand in the run that started the worker."""
    seen = []
    with ThreadPoolExecutor(1) as pool:
        with keybrake.run("first", cap=9):
            pool.submit(int).result()
        gate = threading.Event()
        future = pool.submit(gate.wait)
        future.add_done_callback(lambda _: seen.append(keybrake.current_run()))
        gate.set()

    assert seen == [None]


def test_a_thread_that_was_carried_is_a_plain_thread_after(ledger_url):
    """Carrying leaves nothing on the thread object."""
    with keybrake.run("agent", cap=1):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

    assert "run" not in vars(thread)


def test_tasks_side_by_side_do_not_see_each_others_run(ledger_url, fake):
    """Two runs open at once in one thread, each with its own calls."""

    async def agent(dollars: int) -> keybrake.Run:
        async with keybrake.run("agent", cap=9) as run:
            for _ in range(3):
                assert pay(dollars) is run
                await asyncio.sleep(0)
        return run

    async def main() -> list[keybrake.Run]:
        return await asyncio.gather(agent(1), agent(2))

    one, other = asyncio.run(main())
    assert (one.spent, other.spent) == (3, 6)


# Where it does not


def test_a_process_without_a_run_is_left_alone(ledger_url, fake, tmp_path):
    """Before the first run and after the last one, calls go out unguarded and unrecorded."""
    keybrake.install()
    pay()
    with keybrake.run("agent", cap=1):
        pass
    pay()

    assert len(fake.journal.entries) == 2
    assert rows() == []


def test_a_call_outside_of_the_open_run_is_refused_and_on_record(ledger_url, fake):
    """While a run is open, a stranger's call is refused with the ways out, and has a row."""
    with keybrake.run("agent", cap=1):
        with pytest.raises(keybrake.NoActiveRun) as refused:
            contextvars.Context().run(pay)
        assert isinstance(refused.value, stripe.PermissionError)
        for way_out in ("with keybrake.run", "keybrake.bind", "Do not retry"):
            assert way_out in str(refused.value)
        # For whoever writes the code; a model that reads the text is not taught the way round.
        assert "keybrake.unguarded" not in str(refused.value)
        assert "keybrake.unguarded" in refused.value.hint

    assert not fake.journal.entries
    assert rows() == [(None, "refused", "no_active_run")]


def test_a_thread_started_before_the_run_is_outside_of_it(ledger_url, fake):
    """It is refused rather than charged to a run it does not belong to."""
    opened, caught = threading.Event(), []

    def work() -> None:
        opened.wait()
        try:
            pay()
        except keybrake.NoActiveRun as refusal:
            caught.append(refusal)

    thread = threading.Thread(target=work)
    thread.start()
    with keybrake.run("agent", cap=9):
        opened.set()
        thread.join()

    assert len(caught) == 1
    assert not fake.journal.entries


def test_a_task_made_before_the_run_is_outside_of_it(ledger_url, fake):
    """So is a task that was there before."""

    async def main() -> None:
        opened = asyncio.Event()

        async def work() -> None:
            await opened.wait()
            with pytest.raises(keybrake.NoActiveRun):
                pay()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        async with keybrake.run("agent", cap=9):
            opened.set()
            await task

    asyncio.run(main())
    assert not fake.journal.entries


def test_a_leftover_task_of_a_closed_run_is_refused(ledger_url, fake):
    """A task or thread that outlives its block gets RunClosed, on the run's record."""

    async def main() -> keybrake.Run:
        left = asyncio.Event()

        async def work() -> None:
            await left.wait()
            with pytest.raises(keybrake.RunClosed):
                pay()

        async with keybrake.run("agent", cap=9) as run:
            task = asyncio.create_task(work())
            await asyncio.sleep(0)
        left.set()
        await task
        return run

    run = asyncio.run(main())
    assert rows() == [(run.id, "refused", "run_closed")]


def test_a_leftover_thread_of_a_closed_run_is_refused(ledger_url, fake):
    """The same in a thread."""
    left, caught = threading.Event(), []

    def work() -> None:
        left.wait()
        try:
            pay()
        except keybrake.RunClosed as refusal:
            caught.append(refusal)

    with keybrake.run("agent", cap=9):
        thread = threading.Thread(target=work)
        thread.start()
    left.set()
    thread.join()

    assert len(caught) == 1
    assert not fake.journal.entries


def test_a_forked_child_of_an_open_run_is_not_left_alone(ledger_url, fake):
    """A fork inside a run that steps out of it is refused like any stranger in the process."""

    def child(pipe) -> None:
        try:
            contextvars.Context().run(pay)
        except keybrake.NoActiveRun:
            pipe.send("refused")

    here, there = multiprocessing.get_context("fork").Pipe()
    with keybrake.run("agent", cap=9):
        process = multiprocessing.get_context("fork").Process(target=child, args=(there,))
        process.start()
        process.join()

    assert here.poll(5)
    assert here.recv() == "refused"


# Binding


def test_a_bound_function_calls_in_its_run_from_anywhere(ledger_url, fake):
    """``bind`` and ``Run.bind`` carry the run where nothing else does."""
    with keybrake.run("agent", cap=9) as run:
        for bound in (keybrake.bind(pay), run.bind(pay)):
            assert contextvars.Context().run(bound) is run

    assert run.spent == 2


def test_a_bound_async_function_and_generator_stay_what_they_are(ledger_url, fake):
    """Binding keeps the kind of a function."""

    async def slow() -> keybrake.Run | None:
        await asyncio.sleep(0)
        return pay()

    def items():
        yield pay()

    with keybrake.run("agent", cap=9) as run:
        bound, bound_items = run.bind(slow), keybrake.bind(items)
        assert contextvars.Context().run(lambda: asyncio.run(bound())) is run
        assert contextvars.Context().run(lambda: list(bound_items())) == [run]


def test_binding_needs_a_run(ledger_url):
    """Outside of every run there is nothing to bind to."""
    with pytest.raises(keybrake.NoActiveRun, match="outside of every run"):
        keybrake.bind(pay)
    with pytest.raises(keybrake.LedgerError, match="has not been entered"):
        keybrake.run("agent", cap=1).bind(pay)


def test_bind_brings_the_tool_along(ledger_url, fake):
    """A function bound inside a tool is charged to the tool wherever it runs."""

    @keybrake.tool(max_calls=1)
    def step():
        return keybrake.bind(pay)

    with keybrake.run("agent", cap=9):
        bound = step()
        contextvars.Context().run(bound)
        with pytest.raises(keybrake.CallLimitReached, match="tool 'step'"):
            contextvars.Context().run(bound)


def test_the_current_run_is_the_innermost(ledger_url):
    """``current_run()`` is the user's own object, and None outside."""
    assert keybrake.current_run() is None
    with keybrake.run("outer", cap=1) as outer:
        with keybrake.run("inner", cap=1) as inner:
            assert keybrake.current_run() is inner
        with keybrake.unguarded("a reason"):
            assert keybrake.current_run() is outer
        assert keybrake.current_run() is outer
    assert keybrake.current_run() is None


# Unguarding


def test_an_unguarded_call_goes_out_and_is_on_record(ledger_url, fake):
    """Its row names the run it happened in and the reason; it counts nowhere."""
    with keybrake.run("agent", cap=1) as run, keybrake.unguarded("refund desk, ticket 7"):
        pay(500)

    assert rows() == [(run.id, "unguarded", "refund desk, ticket 7")]
    assert (run.spent, run.calls, run.refused) == (0, 0, 0)
    assert fake.journal.total() == 50_000


def test_an_unguarded_call_without_a_run_is_on_record_too(ledger_url, fake):
    """In a process with no run, or in a strange thread, the reason is written down."""
    with keybrake.unguarded("nightly job"):
        pay()
    with keybrake.run("agent", cap=1):

        def elsewhere() -> None:
            with keybrake.unguarded("health check"):
                pay()

        contextvars.Context().run(elsewhere)

    assert rows() == [(None, "unguarded", "nightly job"), (None, "unguarded", "health check")]


def test_unguarded_blocks_nest_and_end(ledger_url, fake):
    """The innermost reason counts; after the blocks the guard is back."""
    with keybrake.run("agent", cap=1):
        with keybrake.unguarded("outer"):
            with keybrake.unguarded("inner"):
                pay()
            pay()
        with pytest.raises(keybrake.CapExceeded):
            pay(5)

    assert [reason for *_, reason in rows()] == ["inner", "outer", "cap_exceeded"]


def test_a_run_inside_an_unguarded_block_guards(ledger_url, fake):
    """The innermost word wins: a run opened there binds, and has no parent."""
    with keybrake.run("outer", cap=9) as outer, keybrake.unguarded("a reason"):
        with keybrake.run("inner", cap=1) as inner, pytest.raises(keybrake.CapExceeded):
            pay(5)
        pay(5)

    assert (inner.refused, outer.calls, outer.refused) == (1, 0, 0)


def test_one_unguarded_object_in_two_threads_leaves_no_thread_unguarded(ledger_url, fake):
    """An object of many threads that threads enter and leave in any order opens no hole."""
    common = keybrake.unguarded("common")
    first_in, second_in = threading.Event(), threading.Event()
    around = {}

    def first() -> None:
        with common:
            first_in.set()
            second_in.wait(5)
        around["first"] = unguarded_here()

    def second() -> None:
        first_in.wait(5)
        with common:
            second_in.set()
            one.join()
        around["second"] = unguarded_here()

    one, other = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    other.start()
    other.join()

    assert around == {"first": False, "second": False}


def unguarded_here() -> bool:
    """Return whether a call made here would go out as unguarded."""
    try:
        with keybrake.run("probe", cap=0):
            pass
        pay()
    except keybrake.KeybrakeError:
        return False
    return ("unguarded", "common") in rows("state, reason")


@pytest.mark.parametrize("reason", ["", "  ", None, 5, "a" * 201, b"why", "\ud800"], ids=ascii)
def test_a_reason_is_a_reason(reason):
    """Unguarding needs a text for whoever reads the call log."""
    with pytest.raises(keybrake.PolicyError, match="reason="):
        keybrake.unguarded(reason)


def test_an_unguarded_call_needs_the_ledger(ledger_url, fake, tmp_path):
    """What cannot be written down does not go out."""
    with keybrake.run("agent", cap=1), keybrake.unguarded("a reason"):
        (tmp_path / "ledger.db").rename(tmp_path / "moved.db")
        with pytest.raises(keybrake.LedgerUnavailable):
            pay()
        (tmp_path / "moved.db").rename(tmp_path / "ledger.db")

    assert not fake.journal.entries


# Another process


def test_a_program_that_is_started_in_a_run_stands_under_it(ledger_url, fake):
    """A Python that code starts inside a run gets the run's key with its environment."""
    code = (
        "import stripe, keybrake\nkeybrake.install()\n"
        f"stripe.api_base = {fake.url!r}; stripe.api_key = 'sk_test_child'\n"
        "stripe.PaymentIntent.create(amount=100, currency='usd')\n"
    )
    with keybrake.run("agent", cap=0):
        told = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)

    assert (told.returncode, fake.journal.entries) == (1, ())
    assert b"CapExceeded" in told.stderr


def test_a_vault_key_in_the_sdks_slot_binds_first(ledger_url, fake):
    """A key in the slot is who is calling, and the run around it binds as well."""
    key = keybrake.issue_vault_key("in the slot", cap=9)
    with keybrake.run("around", cap=9) as run:
        with pytest.raises(keybrake.CallRefused) as refused:
            stripe.PaymentIntent.create(amount=100, currency="usd", api_key=str(key))
        assert str(key) not in str(refused.value)

    assert refused.value.run_id == key.run_id
    assert run.refused == 1
    assert not fake.journal.entries
