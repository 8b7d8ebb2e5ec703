"""Do the greenlets of gevent and eventlet go on while one of them waits for the ledger?"""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults._greenlets import GREENLETS, HUBS, ORDERS, TIMEOUT_S
from tests.faults.test_frozen_clock import held

# A busy machine is slow; what stands still for as long as the lock is held stands longer.
HELD_S = 4.0
MOST_STOOD_S = 0.9


@pytest.fixture(params=HUBS)
def start(request, tmp_path, ledger_url) -> Callable[[str, str], Any]:
    """Return a function that starts a program of greenlets."""

    def begin(order: str, act: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "ignore", "-m", "tests.faults._greenlets"]
        return subprocess.Popen(
            [*command, request.param, order, act],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "KEYBRAKE_LEDGER": ledger_url},
        )

    return begin


def result(child: subprocess.Popen[str], told: str = "") -> dict[str, Any]:
    """Return what came of a program."""
    try:
        out, err = child.communicate(told, timeout=60)
    except subprocess.TimeoutExpired:
        child.kill()
        raise
    assert child.returncode == 0, err[-3000:]
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


@pytest.mark.parametrize("order", ORDERS)
def test_the_others_go_on_and_the_refusal_comes_in_time(start, tmp_path, order):
    """Another process holds the lock for four seconds; three greenlets are refused after one."""
    child = start(order, "wait")
    assert child.stdout.readline() == "ready\n", child.stderr.read()
    with held(tmp_path / "ledger.db"):
        found = result(child, "\n")

    assert found["said"] == ["LedgerUnavailable"] * GREENLETS
    assert TIMEOUT_S * 0.9 <= found["took_s"] < HELD_S
    assert found["stood_s"] < MOST_STOOD_S


@pytest.mark.parametrize("order", ORDERS)
def test_a_program_that_does_not_know_the_lock_stops_no_greenlet(start, tmp_path, order):
    """Another SQLite client is in the middle of a transaction for four seconds: refused in time, too."""
    child = start(order, "wait")
    assert child.stdout.readline() == "ready\n", child.stderr.read()
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as client:
        client.execute("BEGIN IMMEDIATE")
        found = result(child, "\n")

    assert found["said"] == ["LedgerUnavailable"] * GREENLETS
    assert found["stood_s"] < MOST_STOOD_S


@pytest.mark.parametrize("order", ORDERS)
def test_a_lock_that_is_let_go_in_time_is_had(start, tmp_path, order):
    """Held for half the deadline by another process, it comes to each of three greenlets."""
    child = start(order, "wait")
    assert child.stdout.readline() == "ready\n", child.stderr.read()
    with held(tmp_path / "ledger.db"):
        child.stdin.write("\n")
        child.stdin.flush()
        time.sleep(TIMEOUT_S / 2)
    assert result(child)["said"] == ["ok"] * GREENLETS


@pytest.mark.parametrize("order", ORDERS)
def test_greenlets_and_threads_share_a_ledger(start, order):
    """Threads of the system, as in gevent's thread pool, open runs beside greenlets."""
    found = result(start(order, "share"))
    assert (found["said"], found["count"]) == (["ok"], 20 * (GREENLETS + 2))
    assert found["stood_s"] < MOST_STOOD_S


@pytest.mark.parametrize("order", ORDERS)
def test_a_greenlet_that_is_killed_while_it_waits_keeps_nothing(start, tmp_path, order):
    """Neither the one that leads nor the one behind it; the next one opens its run."""
    child = start(order, "end")
    assert child.stdout.readline() == "ready\n", child.stderr.read()
    with held(tmp_path / "ledger.db"):
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "ended\n"
    assert result(child, "\n")["said"] == ["ok"]


@pytest.mark.parametrize("order", ORDERS)
def test_greenlets_wait_for_one_that_fetches_a_credential(start, order):
    """The one that asks goes on while the others wait for what it gets."""
    assert result(start(order, "fetch")) == {"found": GREENLETS}


@pytest.mark.parametrize("order", ["first", "never"])
def test_a_greenlet_stands_in_a_run_that_was_handed_to_it(start, order):
    """One that was merely spawned stands in none, and its calls are refused."""
    assert result(start(order, "carry")) == {"found": [None, "around"]}


@pytest.mark.parametrize("order", ["first", "opened", "never"])
def test_a_callback_in_the_hub_is_refused_in_time(start, tmp_path, order):
    """The hub may not pause; what it runs itself waits as a thread does, and no longer."""
    child = start(order, "in the hub")
    assert child.stdout.readline() == "ready\n", child.stderr.read()
    with held(tmp_path / "ledger.db"):
        assert result(child, "\n")["said"] == ["LedgerUnavailable"]
