"""Does whatever is changed in a ledger afterwards show, and nothing else?"""

import sqlite3
import threading

import pytest

from keybrake.ledger import event_chain
from keybrake.ledger.stores.sqlite import seal_file
from keybrake.model.call import Outcome, State
from tests.ledger._written import left_open, tampering, verified, written
from tests.ledger.test_contract import asking, opened, settled


@pytest.fixture
def path(tmp_path):
    """Write a ledger in which everything has happened, and let go of it."""
    path = tmp_path / "ledger.db"
    ledger = written(path)
    left_open(ledger)
    ledger.close()
    return path


def told(path):
    """Return what is wrong, one line each."""
    verdict = verified(path)
    assert verdict.found == len(verdict.findings)
    return [f"{f.what}: {f.where}: {f.expected}, {f.found}" for f in verdict.findings]


def test_a_ledger_of_everything_is_sound(path):
    """Every kind of event, state, window and position comes out as the events say."""
    verdict = verified(path)

    assert verdict.findings == []
    assert (verdict.runs, verdict.reserved, verdict.unknown) == (6, 1, 1)
    with sqlite3.connect(path) as db:
        kinds = {kind for (kind,) in db.execute("SELECT DISTINCT kind FROM event")}
        assert verdict.head.seq == db.execute("SELECT count(*) FROM event").fetchone()[0]
    db.close()
    assert kinds >= {
        *("made", "opened", "closed", "paused", "resumed", "admitted", "refused", "noted"),
        *("unguarded", "unknown", "settled", "voided", "recounted"),
    }


TAMPERED = {
    "cost": ("UPDATE call SET cost = 1 WHERE seq = 1", "cost: call 1: 5000000, 1"),
    "amount": ("UPDATE call SET amount = 1 WHERE seq = 2", "chain: event 7 (admitted, call 2)"),
    "endpoint": (
        "UPDATE call SET endpoint = 'stripe.charges.create' WHERE seq = 1",
        "(admitted, call 1)",
    ),
    "when": ("UPDATE call SET at = at - 1 WHERE seq = 3", "(admitted, call 3)"),
    "object": ("UPDATE call SET object_id = 'x' WHERE seq = 1", "(settled, call 1)"),
    "state": (
        "UPDATE call SET state = 'voided', cost = 0 WHERE seq = 1",
        "state: call 1: settled, voided",
    ),
    "reservation": ("UPDATE call SET reserved = 1 WHERE seq = 1", "reserved: call 1: 5000000, 1"),
    "refusal": (
        "UPDATE call SET reason = 'x' WHERE state = 'refused' AND run IS NOT NULL",
        "reason: event",
    ),
    "outcome": ("UPDATE call SET http_status = 200 WHERE state = 'unknown'", "outcome: call"),
    "end_undone": (
        "UPDATE call SET state = 'reserved', cost = NULL WHERE seq = 1",
        "state: call 1: settled, reserved",
    ),
    "call_deleted": ("DELETE FROM call WHERE seq = 1", "row: call 1: one, none"),
    "call_added": (
        (
            "INSERT INTO call SELECT 999, uid, at, run, tool, scopes, buckets, vendor, endpoint, method, "
            "path, origin, account, owner, request, process, state, reason, reserved, cost, amount, "
            "currency, usd_per_unit, idempotency_key, leans_on, meter, contingent, recurring, position, "
            "prior, object_id, http_status, ended_at, would_refuse, evidence FROM call WHERE seq = 1"
        ),
        "row: call 999: none, one",
    ),
    "event_deleted": ("DELETE FROM event WHERE seq = 10", "chain: event 10: an event, none before"),
    "last_event_deleted": (
        "DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)",
        "seal: newest event: at least",
    ),
    "first_event_deleted": ("DELETE FROM event WHERE seq = 1", "chain: event 1: an event, none"),
    "event_changed": (
        "UPDATE event SET spent = 1 WHERE seq = 6",
        "chain: event 6 (settled, call 1)",
    ),
    "hash_changed": ("UPDATE event SET hash = zeroblob(32) WHERE seq = 12", "chain: event 12"),
    "scope_spent": ("UPDATE scope SET spent = 0 WHERE id = 1", "spent: run run_1: "),
    "scope_calls": ("UPDATE scope SET calls = 0 WHERE id = 1", "calls: run run_1: "),
    "tool_spent": ("UPDATE scope SET spent = 1 WHERE kind = 'tool'", "spent: tool run_1:payer: "),
    "cap": ("UPDATE scope SET cap = 10000000000 WHERE id = 1", "(opened, scope 1 run_1)"),
    "label": ("UPDATE scope SET label = 'x' WHERE id = 1", "(opened, scope 1 run_1)"),
    "revoked": ("UPDATE scope SET revoked_at = 1 WHERE id = 1", "revoked_at: run run_1: None, 1"),
    "reopened": (
        "UPDATE scope SET closed_at = NULL WHERE id = 2",
        "closed_at: run run_1_child: ",
    ),
    "scope_deleted": ("DELETE FROM scope WHERE id = 3", "row: scope 3: one, none"),
    "scope_added": (
        (
            "INSERT INTO scope (uid, kind, label, mode, terms, opened_at) "
            "VALUES ('run_x', 'run', 'x', 'enforce', '{}', 1)"
        ),
        "row: run run_x: none, one",
    ),
    "window": ("UPDATE bucket SET spent = 0 WHERE scope = 1", "spent: window "),
    "window_deleted": ("DELETE FROM bucket WHERE scope = 1 AND rule = 0", "row: window "),
    "total": ("UPDATE total SET spent = spent + 1", "totals: day "),
    "folded": ("UPDATE ledger SET folded = folded - 1", "totals: day "),
    "writes_under_way": ("UPDATE position SET open_writes = 5", "open_writes: position "),
    "position_of_another": (
        "UPDATE position SET last_call = 2 WHERE key = 'plain_1'",
        "position of last_call: position plain_1: plain_1, child_1",
    ),
    "another_ledger": ("UPDATE ledger SET uid = '0' WHERE id = 1", "chain: event 1 (made)"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_change_shows(path, name):
    """Whatever is changed behind keybrake's back is named, with what it has to be."""
    statement, words = TAMPERED[name]
    with tampering(path) as db:
        if name in ("total", "folded"):
            _fold(db)
        assert db.execute(statement).rowcount > 0

    assert any(words in line for line in told(path)), told(path)


def _fold(db):
    """Have the totals taken in, as the engine does after a few hundred events."""
    from keybrake.ledger import statements as sql

    db.execute(sql.FOLD)
    db.execute(sql.FOLDED, db.execute("SELECT max(seq) FROM event").fetchone())


@pytest.mark.parametrize("guard", ["event_stays", "event_is_final", "call_stays", "call_ends_once"])
def test_a_guard_that_was_taken_away_shows(path, guard):
    """Without its triggers a ledger is not what it was, even if no row has changed."""
    with sqlite3.connect(path) as db:
        db.execute(f"DROP TRIGGER {guard}")
    db.close()

    assert [line.startswith(f"schema: trigger {guard}: CREATE") for line in told(path)] == [True]


def test_a_view_that_lies_shows(path):
    """A view that was put in the place of ours is named; one of somebody's own is not."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE VIEW mine AS SELECT 1")
        db.execute("DROP VIEW spend_by_run")
        db.execute("CREATE VIEW spend_by_run AS SELECT 'x' AS label, 0.0 AS spent_usd")
    db.close()

    assert [line.split(": ")[1] for line in told(path)] == ["view spend_by_run"]


def test_events_in_another_order_show(path):
    """Two events that change their places do not fit the chain any more."""
    with tampering(path) as db:
        db.execute("UPDATE event SET seq = -1 WHERE seq = 12")
        db.execute("UPDATE event SET seq = 12 WHERE seq = 13")
        db.execute("UPDATE event SET seq = 13 WHERE seq = -1")

    assert any(line.startswith("chain: event 12") for line in told(path))


def test_a_second_end_shows_even_in_a_chain_that_fits(path):
    """Whoever can write the hash, too, cannot have a call end twice."""
    with tampering(path) as db:
        seq, at, head = db.execute(
            "SELECT seq, at, hash FROM event ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        facts = db.execute(
            f"SELECT {', '.join(event_chain.END_FACTS)} FROM call WHERE seq = 1"
        ).fetchone()
        event_chain.append(db, head, (seq + 1, at, "settled", 1, None, 0, -5_000_000, None), facts)
        db.execute("UPDATE call SET cost = 0 WHERE seq = 1")

    assert f"order: event {seq + 1} (settled, call 1): a call that has not ended, settled" in told(
        path
    )


def test_time_that_runs_backwards_shows(path):
    """An event before the one before it is named, though its hash fits."""
    with tampering(path) as db:
        seq, at, head = db.execute(
            "SELECT seq, at, hash FROM event ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        event_chain.append(db, head, (seq + 1, at - 1, "paused", None, 1, 0, 0, None), ())
        db.execute("UPDATE scope SET paused_at = ? WHERE id = 1", (at - 1,))

    assert told(path) == [f"time: event {seq + 1} (paused, scope 1): not before {at}, {at - 1}"]


@pytest.mark.parametrize("text", ["x", "[[", '{"a": 1}', '"1"'])
def test_what_cannot_be_read_is_told_not_raised(path, text):
    """Scopes that are no list are a finding, and all the rest is still looked at."""
    with tampering(path) as db:
        db.execute("UPDATE call SET scopes = ? WHERE seq = 1", (text,))
        db.execute("UPDATE scope SET spent = 0 WHERE uid = 'run_3'")

    assert any("readable values" in line for line in told(path))
    assert any("spent: run run_3" in line for line in told(path))


def test_what_sqlite_finds_is_told_first(path):
    """A page that SQLite's own check does not accept is the one finding."""
    with sqlite3.connect(path) as db:
        size = db.execute("PRAGMA page_size").fetchone()[0]
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'scope'").fetchone()[0]
    db.close()
    data = bytearray(path.read_bytes())
    data[(root - 1) * size + 7] += 1  # the bytes that are free between the rows of this page
    path.write_bytes(data)

    assert [line.split(":")[:2] for line in told(path)] == [["damage", " table scope"]]


@pytest.mark.parametrize("lose", ["deleted", "torn", "another", "ahead"])
def test_a_seal_that_does_not_fit_shows(path, lose):
    """A ledger is not sound without the seal that knows how far it has come."""
    seal = seal_file.path_of(path)
    if lose == "deleted":
        seal.unlink()
    elif lose == "torn":
        seal.write_bytes(b"kb")
    else:
        uid = "0" * 32 if lose == "another" else _uid(path)
        seal_file.write(path, uid, 10**6 if lose == "ahead" else 1)

    assert [line.split(":")[0] for line in told(path)] == ["seal"]


def _uid(path):
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT uid FROM ledger").fetchone()[0]
    db.close()
    return found


def test_a_ledger_that_agents_write_to_meanwhile_is_sound(tmp_path):
    """Calls that begin and end while it is read are no findings, and hold nobody up."""
    path = tmp_path / "ledger.db"
    ledger = written(path)
    run, stop, calls = opened(ledger, "busy"), threading.Event(), []

    def work():
        while not stop.is_set():
            admitted = ledger.admit(asking(1, run))
            ending = Outcome(State.UNKNOWN) if len(calls) % 7 == 0 else settled(1, f"k{len(calls)}")
            ledger.settle(admitted, ending)
            calls.append(admitted)

    agent = threading.Thread(target=work)
    agent.start()
    try:
        heads = []
        while len(heads) < 12 or len(calls) < 200:
            verdict = verified(path)
            assert verdict.findings == []
            heads.append(verdict.head.seq)
    finally:
        stop.set()
        agent.join()
    assert heads == sorted(heads)
    assert heads[0] < heads[-1]
    ledger.close()
