"""Does a clock that is wrong, jumps or goes back revive nothing, reopen nothing and hang nobody?"""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import stripe

import keybrake
from tests.faults._faked import Agent, Clock, agent

pytestmark = pytest.mark.system


@pytest.fixture
def clock(tmp_path) -> Clock:
    """Make a clock that shows the real time until it is set."""
    return Clock(tmp_path / "clock")


@pytest.fixture
def start(clock, fake, ledger_url) -> Callable[..., Any]:
    """Return a function that starts an agent by that clock."""
    return lambda **where: agent(clock, fake.url, ledger_url, **where)


def moments(path: Path) -> list[str]:
    """Return when each call was made, by ledger time, in order."""
    with sqlite3.connect(path) as db:
        found = [row[0] for row in db.execute("SELECT at FROM call_log ORDER BY seq")]
    db.close()
    return found


def test_a_clock_put_back_revives_no_key(start, clock, fake, tmp_path):
    """A key that has once expired stays so for every process, whatever their clocks show."""
    with start() as first:
        key = first.ask("issue('short', cap=None, expires_in='1h')")
        assert first.ask("pay('short')") == "sent"
        clock.set("+3d")
        assert first.ask("pay('short')").startswith("RunExpired")
        clock.set("-3d")
        assert first.ask("pay('short')").startswith("RunExpired")
    with start() as second:
        assert second.ask(f"pay({key!r})").startswith("RunExpired")

    assert len(fake.journal.moved()) == 1
    times = moments(tmp_path / "ledger.db")
    assert times == sorted(times)


def test_a_clock_put_back_reopens_no_day(start, clock, fake, tmp_path):
    """What was spent in a day counts in it until ledger time has left that day, and not by the clock."""
    clock.set("+3d")
    with start() as early:
        key = early.ask("issue('daily', cap=None, daily_usd_cap=2, expires_in='30d')")
        assert [early.ask("pay('daily')") for _ in range(2)] == ["sent", "sent"]
        assert early.ask("pay('daily')").startswith("CapExceeded")
    for when in ("+0", "-3d", "+2d"):
        clock.set(when)
        with start() as late:
            assert late.ask(f"pay({key!r})").startswith("CapExceeded"), when
    clock.set("+4d")
    with start() as next_day:
        assert next_day.ask(f"pay({key!r})") == "sent"

    assert len(fake.journal.moved()) == 3
    times = moments(tmp_path / "ledger.db")
    assert times == sorted(times)


def test_a_clock_that_jumps_in_mid_run_never_goes_back_in_the_ledger(start, clock, tmp_path):
    """Steps of days, forwards and back, between the calls of one process leave moments in order."""
    with start() as one:
        one.ask("issue('jumpy', cap=None, expires_in='60d')")
        for when in ("+0", "-3d", "+1d", "-1d", "+2d", "+0"):
            clock.set(when)
            assert one.ask("pay('jumpy')") == "sent"

    times = moments(tmp_path / "ledger.db")
    assert len(times) == 6
    assert times == sorted(times)


def test_the_day_ends_at_midnight_utc(start, clock, fake):
    """A daily cap is new at midnight UTC, at once; up to twice the cap can move around it."""
    clock.show("2026-11-30 23:58:00")
    with start() as one:
        one.ask("issue('daily', cap=None, daily_usd_cap=2, expires_in='2d')")
        assert [one.ask("pay('daily')") for _ in range(2)] == ["sent", "sent"]
        assert one.ask("pay('daily')").startswith("CapExceeded")
        clock.show("2026-12-01 00:00:01")
        assert [one.ask("pay('daily')") for _ in range(2)] == ["sent", "sent"]
        assert one.ask("pay('daily')").startswith("CapExceeded")

    assert len(fake.journal.moved()) == 4


def test_a_local_midnight_is_no_new_day(start, clock, fake):
    """A machine in Berlin counts the same UTC day on both sides of its own midnight."""
    clock.show("2026-10-24 21:50:00")  # 23:50 in Berlin
    with start(zone="Europe/Berlin") as one:
        one.ask("issue('daily', cap=None, daily_usd_cap=1, expires_in='2d')")
        assert one.ask("pay('daily')") == "sent"
        clock.show("2026-10-24 22:10:00")  # 00:10 there, on the next day
        assert one.ask("pay('daily')").startswith("CapExceeded")
        clock.show("2026-10-25 00:00:01")
        assert one.ask("pay('daily')") == "sent"

    assert len(fake.journal.moved()) == 2


def test_the_hour_that_comes_twice_is_two_hours(start, clock, fake):
    """When summer time ends, 02:30 comes twice in Berlin: those are two hours, one after the other."""
    limits = "{'stripe.payment_intents.create': keybrake.Limit(cap=1, per='hour')}"
    clock.show("2026-10-25 00:30:00")
    with start(zone="Europe/Berlin") as one:
        one.ask(f"issue('hourly', cap=None, limits={limits}, expires_in='2d')")
        assert one.ask("pay('hourly')") == "sent"
        assert one.ask("pay('hourly')").startswith("CapExceeded")
        clock.show("2026-10-25 01:30:00")
        assert one.ask("pay('hourly')") == "sent"
        assert one.ask("pay('hourly')").startswith("CapExceeded")

    assert len(fake.journal.moved()) == 2


# The lock

DEADLINE_S = 4.0


@pytest.fixture
def stopped_holder(tmp_path, ledger_url) -> Iterator[Callable[[], None]]:
    """Return a function that freezes a process with the ledger's lock in its hand."""
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    command = [sys.executable, "-c", code, str(tmp_path / "ledger.db.lock")]
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as stack:

        def freeze() -> None:
            process = stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe))
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
            os.kill(process.pid, signal.SIGSTOP)

        yield freeze


def times_to_give_up(one: Agent, clock: Clock, steps: Sequence[str]) -> Iterator[float]:
    """Yield how long a call waited for the lock, as a clock outside shows it, three times over."""
    for _ in range(3):
        began = time.monotonic()
        one.tell("pay('waiting')")
        for step in steps:
            time.sleep(0.7)
            clock.set(step)
        said = one.answer()
        yield time.monotonic() - began
        assert said.startswith("LedgerUnavailable")
        assert f"not free within {DEADLINE_S:g} s" in said, said


@pytest.mark.parametrize(
    "steps", [[], ["+3d", "+0"], ["-3d", "+0"]], ids=["steady", "forth", "back"]
)
def test_the_deadline_for_the_lock_holds(start, clock, stopped_holder, fake, steps):
    """A frozen holder is given up within a tenth of the deadline, even if the clock jumps meanwhile."""
    with start() as one:
        one.ask(f"keybrake.configure(lock_timeout={DEADLINE_S})")
        one.ask("issue('waiting', cap=None)")
        assert one.ask("pay('waiting')") == "sent"
        stopped_holder()
        waited = list(times_to_give_up(one, clock, steps))

    print(f"waited {waited} of {DEADLINE_S:g} s")
    # A busy machine may be late, so the quickest of three has to be in time, and none too early.
    assert min(waited) >= 0.9 * DEADLINE_S
    assert min(waited) <= 1.1 * DEADLINE_S
    assert len(fake.journal.moved()) == 1


def test_the_deadline_is_each_threads_own(ledger_url, stopped_holder, fake):
    """Of threads that line up behind one another, each is refused at its own deadline."""
    # By the real clock: under libfaketime 0.9.10 a lock that is waited for with a timeout has none.
    keybrake.configure(lock_timeout=DEADLINE_S)

    def pay(_: int) -> float:
        began = time.monotonic()
        with keybrake.run(key=key), pytest.raises(keybrake.LedgerUnavailable):
            stripe.PaymentIntent.create(amount=100, currency="usd")
        return time.monotonic() - began

    key = keybrake.issue_vault_key("waiting", cap=None)
    stopped_holder()
    with ThreadPoolExecutor(6) as pool:
        waited = sorted(pool.map(pay, range(6)))

    print(f"waited {waited} of {DEADLINE_S:g} s")
    assert waited[0] >= 0.9 * DEADLINE_S
    assert waited[len(waited) // 2] <= 1.1 * DEADLINE_S
    assert not fake.journal.entries
