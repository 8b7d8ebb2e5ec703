"""Does the SQLite ledger answer each question as it was asked, to the last field?"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import keybrake
from keybrake.errors import LedgerError, LedgerUnavailable, PolicyError
from keybrake.ledger import Note, RunRecord, doubts
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.model import clock
from keybrake.model.call import Call, Effect, Outcome, State
from keybrake.policy.policy import Limit, Policy, terms_of
from tests.ledger.test_contract import MONEY, READ, asking, opened, settled


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
def now(monkeypatch) -> list[int]:
    """Return the time, for the test to change."""
    moment = [30_000 * clock.DAY]
    monkeypatch.setattr(clock, "now", lambda: moment[0])
    return moment


def again(path: Path) -> SQLiteLedger:
    """Open a ledger as another process would, which remembers nothing."""
    return SQLiteLedger(path, lock_timeout_s=5, durability="process")


def told(what: Callable[[], object]) -> str:
    """Return why the ledger does not do what it is asked."""
    with pytest.raises(LedgerError) as refused:
        what()
    return str(refused.value)


# Runs


def test_what_a_run_is_told_to_be_is_what_it_is_told_to_do(ledger):
    """A message says what state the run is in, and what cannot be done with it."""
    pk = opened(ledger)
    ledger.close_run(pk)
    ended = "run run_1 is closed and cannot be"
    assert told(lambda: ledger.pause("run_1")) == f"{ended} paused"
    assert told(lambda: ledger.resume("run_1")) == f"{ended} resumed"
    ledger.revoke("run_1")
    assert told(lambda: ledger.pause("run_1")) == "run run_1 is revoked and cannot be paused"
    for verb in (ledger.revoke, ledger.pause, ledger.resume):
        assert told(lambda verb=verb: verb("run_9")) == (
            "there is no run 'run_9' in this ledger; keybrake runs lists them"
        )


def test_a_tool_is_no_run(ledger):
    """It is neither listed, nor found by its id, nor stopped by itself."""
    pk = opened(ledger)
    ledger.tool(pk, "pay", terms_of(Policy(cap=1)))
    assert list(ledger.runs("run_1:pay")) == []
    assert "there is no run" in told(lambda: ledger.revoke("run_1:pay"))
    assert [run.uid for run in ledger.runs()] == ["run_1"]


def test_the_state_of_a_run_is_told_by_ledger_time(now):
    """Revoked before closed before expired before paused; a clock set back revives nothing."""
    plain = RunRecord(
        1, "u", "l", None, "enforce", 0, None, None, None, None, None, 0, 0, 0, 0, newest=None
    )
    moment = now[0]
    for facts, state in (
        ({}, "open"),
        ({"paused_at": 1}, "paused"),
        ({"expires_at": moment + 1}, "open"),
        ({"expires_at": moment}, "expired"),
        ({"expires_at": moment + 5, "newest": moment + 5}, "expired"),
        ({"expires_at": moment + 5, "newest": moment + 4, "paused_at": 1}, "paused"),
        ({"expires_at": 1, "paused_at": 1}, "expired"),
        ({"expires_at": 1, "closed_at": 1}, "closed"),
        ({"closed_at": 1, "revoked_at": 1}, "revoked"),
    ):
        assert plain._replace(**facts).state() == state
    assert plain.remaining is None
    assert plain._replace(cap=9, spent=2, reserved=3).remaining == 4
    assert plain._replace(cap=9, spent=8, reserved=3).remaining == 0


def test_a_child_needs_its_parents_alive_and_nothing_else_of_them(ledger, now):
    """Not their money, nor their calls, nor their allowlist: each call asks for those."""
    poor = opened(ledger, cap=0, max_calls=0, allow=(), expires_in="1h")
    child = opened(ledger, "run_2", parent=poor, expires_in=None)
    assert ledger.chain(child) == (child, poor)
    now[0] += clock.HOUR
    with pytest.raises(keybrake.RunExpired):
        opened(ledger, "run_3", parent=poor)
    with pytest.raises(keybrake.RunExpired):
        opened(ledger, "run_3", parent=child)
    assert [run.uid for run in ledger.runs()] == ["run_1", "run_2"]


def test_a_child_in_report_mode_is_opened_in_a_run_that_reports(ledger):
    """An expired run that only reports stops nothing."""
    from keybrake.ledger import NewRun

    terms = terms_of(Policy(cap=1))
    outer = ledger.open_run(NewRun("run_1", "a", terms, 0, b"1" * 32, "report"))
    inner = ledger.open_run(NewRun("run_2", "b", terms, None, b"2" * 32, "report", outer))
    assert (ledger.run(inner).mode, ledger.run(inner).parent_uid) == ("report", "run_1")
    tool = ledger.tool(inner, "pay", terms)
    ledger.admit(asking(5, tool, inner, outer))
    assert ledger.run(inner).reserved == 5_000_000


def test_a_closed_run_is_forgotten(ledger):
    """A process that lives long opens many runs; it keeps nothing of those that are over."""
    pk, other = opened(ledger), opened(ledger, "run_2")
    for run in (pk, other):
        ledger.tool(run, "pay", terms_of(Policy(cap=1)))
        ledger.chain(run)
    ledger.close_run(pk)
    assert (list(ledger._chains), list(ledger._tools)) == ([other], [other])
    ledger.close_run(pk)
    assert ledger.chain(pk) == (pk,)


def test_a_chain_and_a_tool_are_read_once(ledger, monkeypatch):
    """Neither changes, so each is asked for once."""
    pk = opened(ledger)
    terms = terms_of(Policy(cap=1))
    tool, chain = ledger.tool(pk, "pay", terms), ledger.chain(pk)
    monkeypatch.setattr(ledger._store, "read", None)
    monkeypatch.setattr(ledger._group_commit, "take", None)
    assert ledger.tool(pk, "pay", terms) == tool
    assert ledger.chain(pk) == chain


def test_a_tool_of_another_process_is_the_same_tool(ledger):
    """It is found by its run and its name, with the limits it has there."""
    pk = opened(ledger)
    terms = terms_of(Policy(cap=1, max_calls=3))
    tool = ledger.tool(pk, "pay", terms)
    other = again(ledger.path)
    assert other.tool(pk, "pay", terms) == tool
    with pytest.raises(PolicyError) as refused:
        again(ledger.path).tool(pk, "pay", terms_of(Policy(cap=2)))
    other.close()
    assert str(refused.value) == (
        "two tools are named 'pay' in one run and have different limits; give one of them a name of "
        "its own: @tool(name=…)"
    )


def test_a_tool_has_a_row_of_its_own(ledger, select, now):
    """Under its run, in its mode, with its limits, for ever."""
    pk = opened(ledger)
    ledger.tool(pk, "pay", terms_of(Policy(cap=1, max_calls=3)))
    columns = "uid, kind, label, parent, key_hash, mode, cap, max_calls, opened_at, expires_at"
    (row,) = select(f"{columns} FROM scope WHERE kind = 'tool'")
    assert row == (
        "run_1:pay", "tool", "pay", pk, None, "enforce", 1_000_000, 3, now[0], None,
    )  # fmt: skip


# Calls


def test_a_position_is_told_to_the_last_field(ledger):
    """Its key, state, worth, currency and exact rate, and whether a write on it is open."""
    pk = opened(ledger)
    paid = Outcome(
        State.SETTLED, "pi_1", "held", 5_000_000, currency="eur", usd_per_unit=Fraction(10, 9)
    )
    ledger.settle(ledger.admit(asking(5, pk)), paid)
    known = ledger.position("pi_1")
    assert (known.key, known.state, known.value_micros) == ("pi_1", "held", 5_000_000)
    assert (known.currency, known.usd_per_unit, known.in_doubt) == ("eur", Fraction(10, 9), False)
    held = ledger.admit(asking(5, pk, position="pi_1"))
    assert ledger.position("pi_1").in_doubt
    second = ledger.admit(asking(5, pk, position="pi_1"))
    ledger.settle(held, settled(5, "pi_1"))
    assert ledger.position("pi_1").in_doubt
    ledger.settle(second, Outcome(State.SETTLED, "pi_1", "settled", 5_000_000))
    known = ledger.position("pi_1")
    assert (known.state, known.currency, known.usd_per_unit, known.in_doubt) == (
        "settled", None, None, False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "refused"),
    [
        ({}, False),
        ({"cap": 0}, False),
        ({"max_amount": 0}, False),
        ({"max_calls": 0}, True),
        ({"allow": ()}, True),
        ({"limits": {"stripe.refunds.*": Limit(max_calls=0, per="hour")}}, True),
        ({"limits": {"stripe.charges.*": Limit(max_calls=0, per="hour")}}, False),
    ],
)
def test_what_would_be_refused_whatever_it_costs_is_known_before(ledger, select, policy, refused):
    """It asks for no price and writes nothing."""
    outer = opened(ledger, **policy)
    inner = opened(ledger, "run_2", parent=outer)
    events = select("count(*) FROM event")
    assert ledger.refuses(asking(10**11, inner, outer)) is refused
    assert ledger.refuses(asking(1, inner)) is False
    assert select("count(*) FROM event") == events


def test_a_run_that_is_over_refuses_whatever_it_costs(ledger, now):
    """By ledger time, which a clock set back does not turn."""
    pk = opened(ledger, expires_in="1h")
    other = opened(ledger, "run_2", expires_in=None)
    assert not ledger.refuses(asking(1, pk))
    now[0] += clock.HOUR
    assert ledger.refuses(asking(1, pk))
    now[0] -= clock.DAY
    assert ledger.refuses(asking(1, pk))
    ledger._latest = 0
    assert not ledger.refuses(asking(1, pk))
    now[0] += 2 * clock.DAY
    ledger.admit(asking(1, other))
    now[0] -= 2 * clock.DAY
    ledger._latest = 0
    assert ledger.refuses(asking(1, pk))


def test_money_is_set_aside_in_every_bucket_or_nowhere(ledger, select, now):
    """Where the totals contradict the decision, nothing is sent, and nothing is left behind."""
    pk = opened(ledger, cap=9, daily_usd_cap=5)
    held = ledger.admit(asking(2, pk))
    assert held.buckets == ((pk, 0, now[0]),)
    assert select("scope, rule, at, reserved, calls FROM bucket") == [(pk, 0, now[0], 2_000_000, 1)]
    decide = keybrake.policy.decision.decide
    always = pytest.MonkeyPatch()
    always.setattr(
        keybrake.policy.decision,
        "decide",
        lambda chain, call, **_: decide([], call, increase=0, now=0),
    )
    try:
        for dollars in (4, 8):
            with pytest.raises(LedgerUnavailable) as refused:
                ledger.admit(asking(dollars, pk))
            words = (
                "cannot be used: the ledger's totals contradict the decision; nothing was sent. "
            )
            assert words in str(refused.value)
    finally:
        always.undo()
    assert select("reserved, calls FROM scope") == [(2_000_000, 1)]
    assert select("count(*) FROM call") == [(1,)]
    ledger.settle(held, settled(1))
    assert select("spent, reserved FROM bucket") == [(2_000_000, 0)]


def test_a_run_that_reports_writes_past_its_caps(ledger, select, now):
    """The decision is noted, and every bucket counts all the same."""
    from keybrake.ledger import NewRun

    terms = terms_of(Policy(cap=1, daily_usd_cap=1, max_calls=1))
    pk = ledger.open_run(NewRun("run_1", "a", terms, None, b"1" * 32, "report"))
    for _ in range(2):
        ledger.admit(asking(2, pk))
    assert select("reserved, calls FROM bucket") == [(4_000_000, 2)]
    assert select("would_refuse FROM call") == [("cap_exceeded",), ("call_limit_reached",)]


def test_a_rolling_window_is_more_than_its_newest_bucket(ledger, select, now):
    """What was spent within it stands in many rows."""
    limit = Limit(cap=5, per="90m")
    pk = opened(ledger, limits={"stripe.refunds.*": limit})
    ledger.admit(asking(3, pk))
    now[0] += 60 * clock.MINUTE
    ledger.admit(asking(2, pk))
    with pytest.raises(keybrake.CapExceeded):
        ledger.admit(asking(1, pk))
    now[0] += 31 * clock.MINUTE
    ledger.admit(asking(3, pk))
    assert len(select("at FROM bucket")) == 3


def test_a_rate_is_kept_exactly(ledger, select):
    """As a fraction; a dollar is a dollar, and a call without a price has no rate."""
    pk = opened(ledger)
    for facts in (
        {"currency": "eur", "usd_per_unit": Fraction(10, 9)},
        {"currency": "usd", "usd_per_unit": Fraction(1)},
        {},
    ):
        ledger.admit(asking(1, pk, **facts))
    assert select("DISTINCT buckets FROM call") == [(None,)]
    assert select("currency, usd_per_unit FROM call") == [
        ("eur", "10/9"),
        ("usd", "1"),
        (None, None),
    ]


def test_a_note_has_every_field_it_was_given(ledger, select, now):
    """And where it is of no run, it is of none."""
    pk = opened(ledger)
    call = Call("stripe", "stripe.lookup", "GET", "/v1/x", Effect.READ, account="acct_1")
    ledger.note(Note("n1", call, State.SETTLED, "lookup", run=pk, tool="pay", http_status=404))
    ledger.note(Note("n2", MONEY, State.UNGUARDED, "why"))
    columns = "uid, at, run, tool, scopes, account, state, reason, reserved, http_status, ended_at"
    assert select(f"{columns} FROM call") == [
        ("n1", now[0], pk, "pay", f"[{pk}]", "acct_1", "settled", "lookup", 0, 404, now[0]),
        ("n2", now[0], None, None, "[]", "", "unguarded", "why", 0, None, now[0]),
    ]
    assert ledger.run(pk).calls == 0


# What nobody knows


def test_a_call_in_doubt_is_told_to_the_last_field(ledger, now, select):
    """So that whoever resolves it can ask the vendor about this very call."""
    pk = opened(ledger)
    held = ledger.admit(asking(5, pk, amount=500, currency="usd", usd_per_unit=Fraction(1)))
    ledger.settle(held, Outcome(State.UNKNOWN, object_id="pi_1", http_status=500, note="lost"))
    (call,) = ledger.in_doubt()
    assert ledger.in_doubt(held.seq) == [call]
    assert ledger.in_doubt(99) == []
    assert (call.seq, call.at, call.state) == (held.seq, now[0], "unknown")
    assert (call.vendor, call.endpoint, call.method) == ("stripe", MONEY.endpoint, "POST")
    assert (call.reserved, call.amount, call.currency) == (5_000_000, 500, "usd")
    assert (call.object_id, call.http_status, call.reason) == ("pi_1", 500, "lost")


def test_a_reserved_call_is_in_doubt_when_it_is_old(ledger, now):
    """At fifteen minutes its process, which lives, could not write its outcome down."""
    held = ledger.admit(asking(5, opened(ledger)))
    assert doubts.STILL_UNDER_WAY == 15 * clock.MINUTE
    now[0] += 15 * clock.MINUTE - 1
    assert ledger.in_doubt() == []
    assert told(lambda: ledger.resolve(held.seq, Outcome(State.VOIDED), "by hand")) == (
        f"call {held.seq} may still be under way: its process lives, and it was admitted less than 15 "
        f"minutes ago; try again later"
    )
    now[0] += 1
    assert [call.seq for call in ledger.in_doubt()] == [held.seq]
    now[0] -= 1
    assert [call.seq for call in ledger.in_doubt()] == [held.seq]
    now[0] += 1
    ledger.resolve(held.seq, Outcome(State.VOIDED), "by hand")
    assert ledger.in_doubt() == []


def test_a_call_without_a_process_is_nobodys(ledger, now):
    """What an older version admitted has no process on record, so that it is in doubt at once."""
    ledger.admit(asking(5, opened(ledger)))
    db = sqlite3.connect(ledger.path)
    db.execute("UPDATE call SET process = NULL")
    db.commit()
    db.close()
    assert [call.process for call in ledger.in_doubt()] == [None]


def test_a_call_is_resolved_once_and_says_how(ledger, select):
    """The evidence is on record; what has ended, or is not there, cannot be resolved."""
    pk = opened(ledger)
    held = ledger.admit(asking(5, pk))
    ledger.settle(held, Outcome(State.UNKNOWN))
    ledger.resolve(held.seq, Outcome(State.VOIDED), "the vendor's log")
    assert select("state, evidence FROM call") == [("voided", "the vendor's log")]
    again = f"call {held.seq} has ended already"
    assert (
        told(lambda: ledger.resolve(held.seq, Outcome(State.VOIDED), "x"))
        == f"{again}: it is voided"
    )
    for state in (State.VOIDED, State.SETTLED, State.UNKNOWN):
        assert told(lambda state=state: ledger.settle(held, Outcome(state))) == again
    assert told(lambda: ledger.resolve(99, Outcome(State.VOIDED), "x")) == (
        "there is no call 99 in this ledger; keybrake unresolved lists those in doubt"
    )


@pytest.mark.parametrize("resolved", [False, True], ids=["settled", "resolved"])
def test_what_an_end_does_not_say_stays_as_it_was_admitted(ledger, select, resolved):
    """The position it is a write on, and what it may come to; whoever ends it, and in whatever way."""
    pk = opened(ledger)
    ledger.settle(ledger.admit(asking(5, pk)), settled(5, "pi_1"))
    held = ledger.admit(asking(9, pk, position="pi_1", contingent_micros=7))
    if resolved:
        ledger.close()  # as if its process had ended
        ledger.resolve(held.seq, Outcome(State.VOIDED), "by hand")
    else:
        ledger.settle(held, Outcome(State.VOIDED))
    assert select("state, position, contingent FROM call WHERE seq = 2") == [("voided", "pi_1", 7)]
    other = ledger.admit(asking(9, pk, contingent_micros=7))
    ledger.settle(other, replace(settled(9, "pi_2"), contingent_micros=8))
    assert select("position, contingent FROM call WHERE seq = 3") == [("pi_2", 8)]


def test_a_call_that_others_count_on_is_resolved_last(ledger):
    """The message names the one that has to be resolved first."""
    pk = opened(ledger)
    first = ledger.admit(asking(5, pk, idempotency_key="k"))
    ledger.settle(first, Outcome(State.UNKNOWN))
    second = ledger.admit(asking(5, pk, idempotency_key="k"))
    assert (second.reserved, second.leans_on) == (0, first.seq)
    ledger.settle(second, Outcome(State.UNKNOWN))
    assert told(lambda: ledger.resolve(first.seq, Outcome(State.VOIDED), "x")) == (
        f"call {second.seq}, under the same idempotency key, counts on call {first.seq}; resolve that "
        f"one first"
    )


def test_an_estimate_is_told_to_the_last_field(ledger, now):
    """So that its price can be asked for."""
    pk = opened(ledger)
    held = ledger.admit(asking(5, pk))
    ledger.settle(held, Outcome(State.SETTLED, "SM1", "estimated", 5_000_000, object_id="SM1"))
    ledger.settle(ledger.admit(asking(5, pk)), settled(5, "pi_1"))
    (waiting,) = ledger.estimated()
    assert tuple(waiting) == (
        "SM1", 5_000_000, held.seq, now[0], "run_1", "label of run_1", "stripe", MONEY.endpoint, MONEY.path, "",
        "", "", "SM1",
    )  # fmt: skip


def test_a_look_from_outside_is_a_note_that_shrinks(ledger, select):
    """It has a row and charges nobody; what it says of a position counts as any look does."""
    pk = opened(ledger)
    ledger.settle(ledger.admit(asking(5, pk)), settled(5, "pi_1"))
    ledger.observe(Note("n", READ, State.SETTLED, "reconcile"), settled(2, "pi_1"))
    ledger.observe(Note("n", READ, State.SETTLED, "reconcile"), settled(2, "pi_2"))
    assert ledger.run(pk).spent == 2_000_000
    assert ledger.position("pi_2") is None
    assert select("state, reason FROM call WHERE uid = 'n'") == [("settled", "reconcile")] * 2


# Opening


def test_a_ledger_says_where_it_is(ledger, tmp_path):
    """As a URL that opens it again."""
    assert ledger.url == f"sqlite:///{tmp_path / 'ledger.db'}"
    assert ledger.path == tmp_path / "ledger.db"


def test_a_ledger_that_is_closed_gives_its_process_up(ledger):
    """Its calls are nobody's from then on."""
    held = ledger.admit(asking(1, opened(ledger)))
    assert ledger.in_doubt() == []
    ledger.close()
    assert [call.seq for call in again(ledger.path).in_doubt()] == [held.seq]
