"""Does the engine keep its promises under torture, and would the torture notice if it did not?"""

import contextlib
import fcntl
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import keybrake
from tests.races.torture import check, driver
from tests.races.torture.broken import ENGINES
from tests.races.torture.facts import Facts
from tests.races.torture.plan import Pressure, draw

# Minutes in all; run it by `pytest -m system tests/races`.
pytestmark = pytest.mark.system

_HOUSE = Path(__file__).parents[2]
# Which promise each broken engine breaks for certain; it may break others, too.
_CAUGHT = {
    "no-transaction": "over_cap",
    "record-after-call": "charge_without_row",
    "void-on-error": "charge_void",
    "void-on-5xx": "charge_void",
    "release-on-dead-pid": "charge_void",
    "deaf-to-revoke": "revoked_charged",
    "forget-refusals": "row_vanished",
    "forget-totals": "totals_differ",
}

_TO_THE_BONE = "--calls 16 --kills 8 --faults 0.3"
# What is killed or fails brings nothing nearer to its cap.
_TO_THE_CAP = "--calls 20 --kills 3 --faults 0.05"


def _torture(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the command: the driver forks, which is nothing for a process with threads."""
    command = [sys.executable, "-m", "tests.races.torture", "--processes", "8", "--limit", "80"]
    return subprocess.run(
        [*command, *options], cwd=_HOUSE, capture_output=True, text=True, timeout=110, check=False
    )


def test_the_sound_engine_survives():
    """Eight processes, twelve kills, 15 % faults, stops, forks, a revocation: nothing is wrong."""
    done = _torture("--seed", "4", "--calls", "30", "--kills", "12")

    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert re.search(r"^violations +0$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("engine", _CAUGHT)
def test_a_broken_engine_is_caught(engine):
    """The same torture names the promise that an engine broken on purpose does not keep."""
    pressure = _TO_THE_CAP if engine == "no-transaction" else _TO_THE_BONE
    done = _torture("--seed", "5", *pressure.split(), "--broken", engine)

    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(rf"^{_CAUGHT[engine]}: [1-9]", done.stdout, re.MULTILINE), done.stdout


def test_every_broken_engine_is_tried():
    """No broken engine is left out above."""
    assert set(_CAUGHT) == set(ENGINES)


def test_a_seed_is_a_plan():
    """The same seed draws the same plan, another seed another; no two calls share an amount."""
    plan = draw(7, Pressure())

    assert draw(7, Pressure()).digest == plan.digest
    assert draw(8, Pressure()).digest != plan.digest
    assert len({call.cents for call in plan.calls}) == len(plan.calls)
    assert sum(blow.what.startswith("kill") for blow in plan.blows) == 50


def _facts() -> Facts:
    """One charge of five dollars that was answered, and a call that was refused at the cap."""
    row = {"scopes": (1,), "buckets": [(1, 0, 0)], "endpoint": "stripe.payment_intents.create"}
    row |= {"at": 10, "object_id": "pi_1", "idempotency_key": None, "reason": None}
    charged = row | {"seq": 1, "uid": "a1", "state": "settled", "reserved": 0, "cost": 5_000_000}
    refused = row | {"seq": 2, "uid": "b2", "state": "refused", "reserved": 0, "cost": None}
    refused |= {"object_id": None, "buckets": [], "reason": "cap_exceeded"}
    total = {"spent": 5_000_000, "reserved": 0, "calls": 1}
    events = [
        {"kind": "opened", "call": None, "scope": 1, "reserved": 0, "spent": 0},
        {"kind": "admitted", "call": 1, "scope": None, "reserved": 5_000_000, "spent": 0},
        {"kind": "settled", "call": 1, "scope": None, "reserved": -5_000_000, "spent": 5_000_000},
        {"kind": "refused", "call": 2, "scope": None, "reserved": 0, "spent": 0},
    ]
    return Facts(
        caps={"main": 6_000_000},
        revoked_at={},
        journal=[
            {
                "moved": True,
                "amount": 500,
                "idempotency_key": "kb-a1",
                "params": _RUN,
                "fault": None,
            }
        ],
        records=[
            {"what": "begun", "cents": 500, "run": "main", "at": 1.0},
            {"what": "answered", "cents": 500, "object_id": "pi_1"},
            {"what": "begun", "cents": 600, "run": "main", "at": 2.0},
            {"what": "refused", "cents": 600, "reason": "cap_exceeded"},
        ],
        calls={500: [charged], 600: [refused]},
        scopes={1: {"label": "main", "cap": 6_000_000, **total, "refused": 1}},
        buckets=[{"scope": 1, "rule": 0, "at": 0, **total}],
        events=[{"seq": seq, "at": seq, **event} for seq, event in enumerate(events, 1)],
        totals=[{"endpoint": "stripe.payment_intents.create", **total, "refused": 1}],
    )


_RUN = {"metadata": {"run": "main"}}


def test_nothing_is_wrong_with_sound_facts():
    """Facts that agree bring no complaint."""
    assert check.violations(_facts()) == []


def test_an_attempt_after_the_revocation_is_not_the_one_that_moved_the_money():
    """A charge before a revocation stays one, though it is asked for again and refused."""
    facts = _facts()
    again = {"cents": 500, "run": "main", "by": "w1"}
    facts.records.extend(
        (
            again | {"what": "begun", "at": 4.0},
            again | {"what": "refused", "reason": "run_revoked", "at": 4.1},
        )
    )
    facts.journal[0]["idempotency_key"] = facts.calls[500][0]["idempotency_key"] = "own-1"
    facts.calls[500].append(facts.calls[600][0] | {"seq": 3, "reason": "run_revoked"})
    facts.events.append(facts.events[3] | {"seq": 5, "at": 5, "call": 3})
    facts.scopes[1]["refused"] = facts.totals[0]["refused"] = 2
    facts.revoked_at.update(main=3.0)

    assert check.violations(facts) == []


def _set(where: str, key: object, **facts: object):
    def doctor(all_facts: Facts) -> None:
        entry = getattr(all_facts, where)[key]
        (entry[0] if isinstance(entry, list) else entry).update(facts)

    return doctor


_DOCTORED = {
    "over the cap": (_set("scopes", 1, cap=4_000_000), "over_cap"),
    "over the day's cap": (
        lambda f: f.caps.update(main=1) or f.scopes[1].update(cap=None),
        "over_cap",
    ),
    "more moved than counted": (_set("scopes", 1, spent=0), "moved_beyond"),
    "no row": (lambda f: f.calls.pop(500), "charge_without_row"),
    "another call's row": (_set("calls", 500, uid="c3"), "charge_without_row"),
    "two rows": (lambda f: f.calls[500].append(f.calls[500][0] | {"seq": 3}), "charge_without_row"),
    "voided": (_set("calls", 500, state="voided", cost=0), "charge_void"),
    "too little": (_set("calls", 500, cost=4_990_000), "charge_void"),
    "too much": (_set("calls", 500, cost=5_010_000), "cost_invented"),
    "never moved": (lambda f: f.journal.clear(), "cost_invented"),
    "refusal lost": (lambda f: f.calls.pop(600), "row_vanished"),
    "other reason": (_set("calls", 600, reason="run_closed"), "row_vanished"),
    "other object": (_set("calls", 500, object_id="pi_2"), "row_vanished"),
    "row of nobody": (lambda f: f.records.clear(), "row_vanished"),
    "window": (_set("buckets", 0, spent=1), "totals_differ"),
    "endpoint": (lambda f: f.totals.clear(), "totals_differ"),
    "event lost": (lambda f: f.events.pop(0), "events_differ"),
    "event's sum": (_set("events", 2, spent=1), "events_differ"),
    "event's time": (_set("events", 2, at=0), "events_differ"),
    "ended twice": (lambda f: f.events.append(f.events[2] | {"seq": 5, "at": 5}), "ended_twice"),
    "revoked": (_set("events", 0, kind="revoked"), "revoked_charged"),
    "revoked by the clock": (lambda f: f.revoked_at.update(main=0.5), "revoked_charged"),
    "false alarm": (
        _set("records", 3, reason="ledger_unavailable", why="it was replaced"),
        "refused_without_cause",
    ),
    "crash": (_set("records", 1, what="crashed", by="w1", why="…"), "process_failed"),
}


@pytest.mark.parametrize("what", _DOCTORED)
def test_each_check_can_fail(what):
    """A single fact that is not as it should be is named by the check it is for."""
    doctor, name = _DOCTORED[what]
    facts = _facts()
    doctor(facts)

    assert name in {wrong.partition(":")[0] for wrong in check.violations(facts)}


def test_a_transaction_left_open_is_seen(ledger_url):
    """The driver's last look sees a lock that is held and a transaction that is open."""
    keybrake.open_ledger(ledger_url).close()
    path = Path(ledger_url.removeprefix("sqlite:///"))
    assert driver.why_locked(path) == ""
    with path.with_name("ledger.db.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert driver.why_locked(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        assert driver.why_locked(path) == "database is locked"
