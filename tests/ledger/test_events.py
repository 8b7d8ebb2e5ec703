"""Does the chain of events say all that happened, in order, and does an edit of it show?"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import keybrake
from keybrake.errors import LedgerUnavailable
from keybrake.ledger import NewRun, Note, event_chain
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.model import clock
from keybrake.model.call import Call, Effect, Meter, Outcome, State
from keybrake.policy.policy import Policy, terms_of
from tests.ledger.test_contract import MONEY, READ, asking, opened, settled

OF_A_CALL = (
    "uid, at, run, tool, scopes, vendor, endpoint, method, path, origin, account, owner, amount, currency, "
    "usd_per_unit, idempotency_key, meter, recurring, buckets, would_refuse, leans_on, process"
)
OF_A_SCOPE = (
    "uid, kind, label, parent, hex(key_hash), mode, terms, cap, max_calls, opened_at, expires_at"
)
OF_AN_END = "position, prior, object_id, http_status, contingent, ended_at, evidence"
BEGINS = ("admitted", "refused", "noted", "unguarded")


@pytest.fixture
def ledger(tmp_path) -> Iterator[SQLiteLedger]:
    """Open a new ledger."""
    opened_here = SQLiteLedger(tmp_path / "ledger.db", lock_timeout_s=5, durability="process")
    yield opened_here
    opened_here.close()


@pytest.fixture
def select(ledger) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
    """Return a function that asks the ledger as another program would."""
    connection = sqlite3.connect(f"file:{ledger.path}?mode=ro", uri=True)
    yield lambda what: connection.execute(f"SELECT {what}").fetchall()
    connection.close()


@pytest.fixture
def events(select) -> Callable[[], list[tuple[Any, ...]]]:
    """Return a function that reads what happened: kind, call, scope, reserved, spent and detail."""
    columns = "kind, call, scope, reserved, spent, detail"
    return lambda: select(f"{columns} FROM event ORDER BY seq")


def facts_of(db: sqlite3.Connection, kind: str, call: int | None, scope: int | None) -> list[Any]:
    """Return what an event fixes of the row it is about, as the documentation says it."""
    if kind == "opened":
        return list(db.execute(f"SELECT {OF_A_SCOPE} FROM scope WHERE id = ?", (scope,)).fetchone())
    if kind in BEGINS:
        return list(db.execute(f"SELECT {OF_A_CALL} FROM call WHERE seq = ?", (call,)).fetchone())
    if kind in ("settled", "voided"):
        return list(db.execute(f"SELECT {OF_AN_END} FROM call WHERE seq = ?", (call,)).fetchone())
    return []


def false_hashes(path: Path) -> list[int]:
    """Return the numbers of the events whose hash is not what the documentation says it is."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    (uid,) = db.execute("SELECT uid FROM ledger").fetchone()
    before, false = sha256(f"keybrake:{uid}".encode()).digest(), []
    rows = db.execute(
        "SELECT seq, at, kind, call, scope, reserved, spent, detail, hash FROM event ORDER BY seq"
    ).fetchall()
    for *said, found in rows:
        text = json.dumps([*said, *facts_of(db, *said[2:5])], separators=(",", ":"))
        before = sha256(before + sha256(text.encode()).digest()).digest()
        if before != found:
            false.append(said[0])
    db.close()
    return false


def a_life(ledger: SQLiteLedger) -> None:
    """Let everything happen once that a ledger writes down."""
    run = opened(ledger, cap=9, expires_in="1h")
    tool = ledger.tool(run, "pay", terms_of(Policy(cap=5)))
    daily = opened(ledger, "run_2", parent=tool, daily_usd_cap=50)
    chain = ledger.chain(daily)
    paid = ledger.admit(asking(2, *chain, currency="eur", amount=200, meter=Meter.CHARGE_IN))
    ledger.settle(paid, Outcome(State.SETTLED, "pi_1", "settled", 1_500_000, http_status=200))
    ledger.settle(ledger.admit(asking(1, run)), Outcome(State.VOIDED, http_status=402))
    with pytest.raises(keybrake.CapExceeded):
        ledger.admit(asking(9, *chain))
    lost = ledger.admit(asking(2, run, idempotency_key="k"))
    ledger.settle(lost, Outcome(State.UNKNOWN, object_id="pi_2", http_status=500, note="lost"))
    ledger.resolve(lost.seq, Outcome(State.SETTLED, "pi_2", "settled", 1_000_000), "by hand")
    look = ledger.admit(asking(0, run, call=READ))
    ledger.settle(look, Outcome(State.SETTLED, "pi_1", "settled", 500_000, observed=True))
    ledger.note(Note("n1", READ, State.SETTLED, "lookup", run=run, tool="pay", http_status=200))
    ledger.note(Note("n2", MONEY, State.UNGUARDED, "an errand"))
    ledger.note(Note("n3", MONEY, State.REFUSED, "no_active_run"))
    ledger.pause("run_1")
    ledger.pause("run_1")
    ledger.resume("run_1")
    ledger.resume("run_1")
    ledger.close_run(daily)
    ledger.close_run(daily)
    ledger.revoke("run_1")
    ledger.revoke("run_1")


def test_everything_that_happens_is_an_event(ledger, events):
    """One for each, in order: what, about which call or scope, and by how much the totals moved."""
    a_life(ledger)

    assert events() == [
        ("made", None, None, 0, 0, None),
        ("opened", None, 1, 0, 0, None),
        ("opened", None, 2, 0, 0, None),
        ("opened", None, 3, 0, 0, None),
        ("admitted", 1, None, 2_000_000, 0, None),
        ("settled", 1, None, -2_000_000, 1_500_000, None),
        ("admitted", 2, None, 1_000_000, 0, None),
        ("voided", 2, None, -1_000_000, 0, None),
        ("refused", 3, None, 0, 0, "cap_exceeded"),
        ("admitted", 4, None, 2_000_000, 0, None),
        ("unknown", 4, None, 0, 0, '["lost", "pi_2", 500]'),
        ("settled", 4, None, -2_000_000, 1_000_000, None),
        ("admitted", 5, None, 0, 0, None),
        ("recounted", 1, None, 0, -1_000_000, None),
        ("settled", 5, None, 0, 0, None),
        ("noted", 6, None, 0, 0, "lookup"),
        ("unguarded", 7, None, 0, 0, "an errand"),
        ("refused", 8, None, 0, 0, "no_active_run"),
        ("paused", None, 1, 0, 0, None),
        ("resumed", None, 1, 0, 0, None),
        ("closed", None, 3, 0, 0, None),
        ("revoked", None, 1, 0, 0, None),
    ]


def test_each_event_is_chained_to_the_one_before(ledger):
    """Each hash follows from the ledger's id, the events before it, and the rows they fix."""
    a_life(ledger)

    assert false_hashes(ledger.path) == []


def test_what_is_rare_is_chained_as_well(ledger, select):
    """A call that would have been refused, on a position, that leans on another, and recurs."""
    terms = terms_of(Policy(cap=1, daily_usd_cap=1))
    run = ledger.open_run(NewRun("run_1", "a", terms, None, b"1" * 32, "report"))
    ledger.settle(ledger.admit(asking(5, run)), settled(5, "pi_1"))
    lost = ledger.admit(asking(9, run, position="pi_1", idempotency_key="k"))
    ledger.settle(lost, Outcome(State.UNKNOWN))
    facts = {"position": "pi_1", "idempotency_key": "k", "recurring": True, "meter": Meter.OUTFLOW}
    ledger.admit(asking(19, run, **facts))
    (row,) = select("would_refuse, position, leans_on, recurring FROM call WHERE seq = 3")

    assert row == ("cap_exceeded", "pi_1", 2, 1)
    assert false_hashes(ledger.path) == []


EDITS = [
    ("UPDATE event SET spent = 0 WHERE seq = 6", 6),
    ("UPDATE event SET detail = 'x' WHERE seq = 9", 9),
    ("UPDATE event SET at = at + 1 WHERE seq = 4", 4),
    ("UPDATE call SET amount = 1 WHERE seq = 1", 5),
    ("UPDATE call SET at = at + 1 WHERE seq = 2", 7),
    ("UPDATE call SET scopes = '[1]' WHERE seq = 1", 5),
    ("UPDATE call SET object_id = 'x' WHERE seq = 1", 6),
    ("UPDATE call SET evidence = 'x' WHERE seq = 4", 12),
    ("UPDATE scope SET cap = 99000000 WHERE id = 1", 2),
    ("UPDATE scope SET terms = '[]' WHERE id = 2", 3),
]


@pytest.mark.parametrize(("edit", "first"), EDITS, ids=[edit for edit, _ in EDITS])
def test_an_edit_shows(ledger, edit, first):
    """Whoever changes what has happened breaks the chain at that event."""
    a_life(ledger)
    ledger.close()
    db = sqlite3.connect(ledger.path)
    db.execute("DROP TRIGGER event_is_final")
    assert db.execute(edit).rowcount == 1
    db.commit()
    db.close()

    assert false_hashes(ledger.path)[0] == first


def test_an_event_neither_changes_nor_goes(ledger):
    """The database itself refuses it, to anybody."""
    for statement in ("UPDATE event SET at = 0", "DELETE FROM event"):
        db = sqlite3.connect(ledger.path)
        with pytest.raises(
            sqlite3.IntegrityError, match=r"an event (never changes|is never deleted)"
        ):
            db.execute(statement)
        db.close()


def test_a_row_says_what_was_asked(ledger, select, monkeypatch):
    """Every column of a call that is known when it begins is what the admission said."""
    monkeypatch.setattr(clock, "now", lambda: 30_000 * clock.DAY)
    run = opened(ledger, daily_usd_cap=50)
    tool = ledger.tool(run, "pay", terms_of(Policy(cap=5)))
    call = Call("stripe", "stripe.refunds.create", "POST", "/v1/refunds", Effect.MONEY)
    call = call._replace(
        amount=150, currency="eur", value_micros=2_000_000, account="acct_1", owner="f00d",
        idempotency_key="mine", meter=Meter.OUTFLOW, contingent_micros=7, recurring=True,
    )  # fmt: skip
    asked = asking(2, run, tool)
    ledger.admit(type(asked)("u1", call, (run, tool), "pay", origin="https://x", request='{"a":1}'))

    columns = [name for (name,) in select("name FROM pragma_table_info('call')")]
    (row,) = select("* FROM call")
    token = row[columns.index("process")]
    assert len(token) == 12
    assert (ledger.path.parent / f"ledger.db.owner-{token}").exists()
    assert dict(zip(columns, row, strict=True)) == {
        **dict.fromkeys(columns),
        "seq": 1, "uid": "u1", "at": 30_000 * clock.DAY, "run": run, "tool": "pay", "scopes": f"[{run}, {tool}]",
        "buckets": f"[[{run}, 0, {30_000 * clock.DAY}]]", "vendor": "stripe", "endpoint": "stripe.refunds.create",
        "method": "POST", "path": "/v1/refunds", "origin": "https://x", "account": "acct_1", "owner": "f00d",
        "request": '{"a":1}', "process": token, "state": "reserved", "reserved": 2_000_000, "amount": 150,
        "currency": "eur", "idempotency_key": "mine", "meter": "outflow", "contingent": 7, "recurring": 1,
    }  # fmt: skip


# Time and order


def test_an_event_is_never_before_the_one_before(ledger, select, monkeypatch):
    """A clock that is set back stands still instead."""
    start = 30_000 * clock.DAY
    for now in (5_000, 4_000, 6_000):
        monkeypatch.setattr(clock, "now", lambda now=now: start + now)
        ledger.note(Note("n", READ, State.SETTLED, "x"))

    moments = [at - start for (at,) in select("at FROM event WHERE kind = 'noted'")]
    assert moments == [5_000, 5_000, 6_000]
    assert [at - start for (at,) in select("ended_at FROM call")] == moments


def test_two_connections_continue_one_chain(ledger, tmp_path):
    """What another process has written in between is before what this one writes next."""
    other = SQLiteLedger(tmp_path / "ledger.db", lock_timeout_s=5, durability="process")
    run = opened(ledger)
    for _ in range(3):
        other.settle(other.admit(asking(1, run)), settled(1))
        ledger.settle(ledger.admit(asking(1, run)), settled(1))
    other.close()

    assert false_hashes(ledger.path) == []
    assert ledger.run(run).spent == 6_000_000


def test_a_past_that_was_rewritten_is_refused(ledger):
    """A process that finds another event where it has seen its own writes nothing more."""
    run = opened(ledger)
    ledger.admit(asking(1, run))
    db = sqlite3.connect(ledger.path, isolation_level=None)
    db.execute("DROP TRIGGER event_is_final")
    db.execute("UPDATE event SET hash = zeroblob(32) WHERE seq = (SELECT max(seq) FROM event)")
    with pytest.raises(LedgerUnavailable, match="what this process wrote to it is not in it any"):
        ledger.admit(asking(1, run))
    db.execute("INSERT INTO event SELECT seq + 1, at, kind, call, scope, reserved, spent, detail, hash "
               "FROM event ORDER BY seq DESC LIMIT 1")  # fmt: skip
    with pytest.raises(LedgerUnavailable, match="what this process wrote to it is not in it any"):
        ledger.admit(asking(1, run))
    db.close()
    assert ledger.run(run).calls == 1


def test_what_was_rolled_back_leaves_no_gap(ledger, events):
    """An error in the middle of a transaction takes its events with it, and the chain goes on."""
    run = opened(ledger)
    held = ledger.admit(asking(1, run))
    ledger.settle(held, settled(1))
    with pytest.raises(keybrake.errors.LedgerError):
        ledger.settle(held, settled(1))
    ledger.admit(asking(1, run))

    assert [kind for kind, *_ in events()] == ["made", "opened", "admitted", "settled", "admitted"]
    assert false_hashes(ledger.path) == []


def test_what_others_wrote_is_known_though_ones_own_work_failed(ledger, tmp_path):
    """A transaction that was rolled back has read what is newest, and the next one reads it again."""
    other = SQLiteLedger(tmp_path / "ledger.db", lock_timeout_s=5, durability="process")
    run = opened(ledger)
    held = ledger.admit(asking(1, run))
    ledger.settle(held, settled(1))
    for _ in range(2):
        other.settle(other.admit(asking(1, run)), settled(1))
        with pytest.raises(keybrake.errors.LedgerError):
            ledger.settle(held, settled(1))
    ledger.settle(ledger.admit(asking(1, run)), settled(1))
    other.close()

    assert false_hashes(ledger.path) == []
    assert ledger.run(run).spent == 4_000_000


# Totals


def totals(select: Callable[[str], list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """Return what the view says of each endpoint."""
    return select("endpoint, spent_micros, reserved_micros, calls, refused FROM spend_by_endpoint")


def test_totals_are_the_same_before_and_after_they_are_folded(ledger, select):
    """Every 256 events or so the newest are taken into the totals, each of them once."""
    run = opened(ledger, cap=1)
    for number in range(300):
        ledger.settle(ledger.admit(asking(0.002, run)), settled(0.002, f"pi_{number}"))
        (row,) = totals(select)
        assert row == ("stripe.refunds.create", 2_000 * (number + 1), 0, number + 1, 0)
    with pytest.raises(keybrake.CapExceeded):
        ledger.admit(asking(9, run))

    assert totals(select) == [("stripe.refunds.create", 600_000, 0, 300, 1)]
    assert select("folded FROM ledger") == [(512,)]
    assert select("sum(calls), sum(spent), sum(reserved) FROM total") == [(255, 510_000, 0)]


def test_refusals_alone_are_folded_too(ledger, select):
    """A run that is refused all day keeps the view as quick as one that spends."""
    run = opened(ledger, cap=0)
    for refused in range(1, 256):
        with pytest.raises(keybrake.CapExceeded):
            ledger.admit(asking(1, run))
        assert select("folded FROM ledger") == [(256 if refused >= 254 else 0,)]

    assert totals(select) == [("stripe.refunds.create", 0, 0, 0, 255)]


def test_two_processes_fold_each_event_once(ledger, select, tmp_path):
    """A process that has not seen the other fold adds nothing twice."""
    other = SQLiteLedger(tmp_path / "ledger.db", lock_timeout_s=5, durability="process")
    run = opened(ledger)
    for _ in range(140):
        ledger.settle(ledger.admit(asking(1, run)), settled(1))
        other.settle(other.admit(asking(1, run)), settled(1))
    other.close()

    assert totals(select) == [("stripe.refunds.create", 280_000_000, 0, 280, 0)]


# The parts by themselves


def test_a_digest_and_a_link_are_what_the_documentation_says():
    """SHA-256 over compact JSON; over the hash before and the digest; over the ledger's id."""
    columns = (1, 2, "made", None, None, 0, 0, "é")
    text = '[1,2,"made",null,null,0,0,"\\u00e9","fact"]'

    assert event_chain.digest(columns, ("fact",)) == sha256(text.encode()).digest()
    assert event_chain.link(b"a", b"b") == sha256(b"ab").digest()
    assert event_chain.root("f00d") == sha256(b"keybrake:f00d").digest()
