"""Does the event loop go on while another process holds the ledger's lock?"""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import time

import pytest
import stripe

import keybrake

# The SDK hands httpx its body in a way httpx would rather not see any more.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ASK = {"amount": 100, "currency": "usd"}

_HOLD = """
import fcntl, sys
with open(sys.argv[1], "r+") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold(ledger_url):
    """Return a block during which another process holds the ledger's lock."""
    path = ledger_url.removeprefix("sqlite:///") + ".lock"

    @contextlib.contextmanager
    def held():
        command = [sys.executable, "-c", _HOLD, path]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "held\n"
            try:
                yield
            finally:
                process.stdin.close()

    return held


async def _longest_gap(seconds):
    """Return the longest time, in seconds, that the loop kept us waiting."""
    longest, end = 0.0, time.monotonic() + seconds
    while (before := time.monotonic()) < end:
        await asyncio.sleep(0.005)
        longest = max(longest, time.monotonic() - before)
    return longest


def test_the_loop_goes_on(in_async, fake, ledger_url, hold):
    """A call that waits for the lock holds up nobody else in its loop, and then goes out."""

    async def main():
        with hold():
            call = asyncio.ensure_future(stripe.PaymentIntent.create_async(**ASK))
            longest = await _longest_gap(0.6)
            assert not call.done()
            assert fake.journal.entries == ()
        await call
        return longest

    with keybrake.run("agent", cap=10) as run:
        longest = in_async(main)

    # A loop that waits for the lock itself would stand still for all of the 0.6 s.
    assert longest < 0.3
    assert str(run.spent) == "1.00"


def test_cancelled_while_waiting_reserves_nothing(in_async, fake, ledger_url, rows, hold):
    """A task cancelled before its admission keeps nothing, once the lock is free again."""

    async def main():
        with hold(), pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stripe.PaymentIntent.create_async(**ASK), 0.2)
        await stripe.PaymentIntent.create_async(**ASK)

    with keybrake.run("agent", cap=10) as run:
        in_async(main)
        deadline = time.monotonic() + 5
        while any(row["state"] == "reserved" for row in rows()) and time.monotonic() < deadline:
            time.sleep(0.02)

        assert [entry.amount for entry in fake.journal.entries] == [100]
        assert sorted(row["state"] for row in rows()) == ["settled", "voided"]
        assert (str(run.spent), str(run.reserved)) == ("1.00", "0.00")


def test_closed_while_waiting_reserves_nothing(in_async, fake, ledger_url, rows, hold):
    """A coroutine closed before its admission keeps nothing either."""

    async def main():
        with hold():
            call = stripe.PaymentIntent.create_async(**ASK)
            call.send(None)
            call.close()
        await stripe.PaymentIntent.create_async(**ASK)

    with keybrake.run("agent", cap=10) as run:
        in_async(main)
        deadline = time.monotonic() + 3
        while any(row["state"] == "reserved" for row in rows()) and time.monotonic() < deadline:
            time.sleep(0.02)

        assert [entry.amount for entry in fake.journal.entries] == [100]
        assert sorted(row["state"] for row in rows()) == ["settled", "voided"]
        assert str(run.reserved) == "0.00"


def test_the_answer_is_kept_while_the_lock_is_busy(in_async, fake, ledger_url, hold):
    """An answer that comes while the lock is held is settled afterwards, and returned."""

    async def main():
        fake.latency = 0.4
        call = asyncio.ensure_future(stripe.PaymentIntent.create_async(**ASK))
        while not fake.journal.entries:  # noqa: ASYNC110 -- another thread writes it
            await asyncio.sleep(0.01)
        with hold():
            longest = await _longest_gap(0.7)
        return await call, longest

    with keybrake.run("agent", cap=10) as run:
        made, longest = in_async(main)

    assert made.amount == 100
    assert longest < 0.3
    assert str(run.spent) == "1.00"


def test_the_loop_goes_on_while_a_run_is_opened_in_a_tool(ledger_url, hold):
    """Opening a child run in a tool waits for the ledger in a thread, the tool's own row included."""

    @keybrake.tool(max_calls=5)
    async def tool():
        async with keybrake.run("child", cap=5):
            pass

    async def main():
        async with keybrake.run("parent", cap=50):
            with hold():
                task = asyncio.create_task(tool())
                gap = await _longest_gap(0.6)
            await task
        return gap

    assert asyncio.run(main()) < 0.4


def test_the_loop_goes_on_while_another_program_writes(in_async, fake, ledger_url):
    """A transaction of some other SQLite program is waited for in a thread, too."""

    async def main():
        async with keybrake.run("agent", cap=50):
            other = sqlite3.connect(ledger_url.removeprefix("sqlite:///"), isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            task = asyncio.create_task(stripe.PaymentIntent.create_async(**ASK))
            gap = await _longest_gap(0.6)
            other.execute("ROLLBACK")
            other.close()
            await task
        return gap

    assert in_async(main) < 0.4
