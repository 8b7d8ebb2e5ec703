"""Is what a call costs charged to whoever made it, and what an event shrank by given back to them?"""

import sqlite3
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest

from keybrake.ledger import Admission, Note
from keybrake.ledger.stores.sqlite.ledger import SQLiteLedger
from keybrake.model import clock
from keybrake.model.call import Call, Effect, Outcome, State
from keybrake.policy.policy import Policy, terms_of
from tests.ledger.test_contract import READ, asking, opened

REFUND = Call("stripe", "stripe.refunds.create", "POST", "/v1/refunds", Effect.MONEY)
UNKNOWN, VOIDED = Outcome(State.UNKNOWN), Outcome(State.VOIDED)


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


def worth(dollars: float, key: str = "pi_1", state: str = "settled", **facts: Any) -> Outcome:
    """Return the outcome that a position is worth so much."""
    return Outcome(State.SETTLED, key, state, round(dollars * 1_000_000), object_id=key, **facts)


def pay(ledger: SQLiteLedger, dollars: float, *scopes: int, **facts: Any) -> None:
    """Admit a call and settle it at what its position is worth then."""
    asked = {name: facts.pop(name) for name in ("position", "offsets") if name in facts}
    held = ledger.admit(asking(dollars, *scopes, **asked))
    ledger.settle(held, worth(facts.pop("comes_to", dollars), **facts))


def lost(ledger: SQLiteLedger, dollars: float, *scopes: int, key: str = "k", **facts: Any) -> Any:
    """Admit a call under a key of the caller's and lose its answer."""
    held = ledger.admit(asking(dollars, *scopes, idempotency_key=key, **facts))
    ledger.settle(held, UNKNOWN)
    return held


def money(ledger: SQLiteLedger, *runs: int) -> list[tuple[float, float]]:
    """Return what runs have spent and reserved, in dollars."""
    return [(it.spent / 1e6, it.reserved / 1e6) for it in map(ledger.run, runs)]


def costs(select: Callable[[str], list[tuple[Any, ...]]]) -> list[Any]:
    """Return what each call cost, in dollars."""
    found = select("cost FROM call ORDER BY seq")
    return [cost if cost is None else cost / 1e6 for (cost,) in found]


# One position


def test_a_call_without_a_position_costs_what_it_says(ledger, select):
    """Its answer's value where it has one, else all that was set aside."""
    run = opened(ledger)
    ledger.settle(ledger.admit(asking(5, run)), Outcome(State.SETTLED, value_micros=2_000_000))
    ledger.settle(ledger.admit(asking(5, run)), Outcome(State.SETTLED, "pi_1"))
    assert costs(select) == [2, 5]
    assert ledger.position("pi_1") is None


def test_a_new_position_is_written_down_whole(ledger, select):
    """State, worth, currency, exact rate, and the call that made it."""
    run = opened(ledger)
    pay(ledger, 1, run)
    held = ledger.admit(asking(5, run))
    ledger.settle(held, worth(5, "pi_2", "held", currency="eur", usd_per_unit=Fraction(10, 9)))
    assert select("* FROM position WHERE key = 'pi_2'") == [
        ("pi_2", "held", 5_000_000, "eur", "10/9", held.seq, held.seq, 0)
    ]


def test_each_move_names_the_one_before(ledger, select):
    """So that a give-back finds who paid; and the position is what the newest answer says."""
    run = opened(ledger)
    for dollars, state in ((2, "held"), (5, "settled"), (9, "settled")):
        pay(
            ledger,
            dollars,
            run,
            position="pi_1",
            state=state,
            currency="eur",
            usd_per_unit=Fraction(2),
        )
    assert select("seq, position, prior, cost FROM call") == [
        (1, "pi_1", None, 2_000_000), (2, "pi_1", 1, 3_000_000), (3, "pi_1", 2, 4_000_000),
    ]  # fmt: skip
    assert select("* FROM position") == [("pi_1", "settled", 9_000_000, "eur", "2", 3, 3, 0)]


def test_what_it_shrinks_by_goes_back_newest_first(ledger, select):
    """Never more than a call was charged; the oldest keeps what is left."""
    one, two, three = (opened(ledger, f"run_{number}") for number in (1, 2, 3))
    for run, dollars in ((one, 2), (two, 5), (three, 9)):
        pay(ledger, dollars, run, position="pi_1")
    pay(ledger, 9, one, position="pi_1", comes_to=3)
    assert costs(select) == [2, 1, 0, 0]
    assert money(ledger, one, two, three) == [(2, 0), (1, 0), (0, 0)]
    assert select("kind, call, spent FROM event WHERE kind = 'recounted' ORDER BY seq") == [
        ("recounted", 3, -4_000_000), ("recounted", 2, -2_000_000),
    ]  # fmt: skip
    assert select("value, last_call, open_writes FROM position") == [(3_000_000, 3, 0)]
    assert select("prior, position FROM call WHERE seq = 4") == [(None, "pi_1")]


def test_what_goes_back_goes_back_to_every_scope_and_bucket(ledger, select):
    """To the run, the tool, the run around it, and the window it was counted in."""
    outer = opened(ledger, daily_usd_cap=50)
    tool = ledger.tool(outer, "pay", terms_of(Policy(cap=20, daily_usd_cap=30)))
    pay(ledger, 5, tool, outer)
    pay(ledger, 5, opened(ledger, "run_2"), position="pi_1", comes_to=2)
    assert select("spent FROM scope WHERE id < 3") == [(2_000_000,), (2_000_000,)]
    assert select("scope, spent, reserved FROM bucket ORDER BY scope") == [
        (outer, 2_000_000, 0), (tool, 2_000_000, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("observed", [False, True], ids=["write", "look"])
def test_a_micro_is_money(ledger, observed):
    """The smallest change there is counts, in an answer and in a late price."""
    run = opened(ledger)
    pay(ledger, 1, run, state="estimated")
    asked = asking(0, run, call=READ) if observed else asking(2, run, position="pi_1")
    ledger.settle(ledger.admit(asked), worth(1.000001, observed=observed))
    assert ledger.run(run).spent == 1_000_001
    assert ledger.position("pi_1").value_micros == 1_000_001


def test_an_answer_that_says_the_same_moves_nothing(ledger, select):
    """Neither the chain of who paid nor the totals."""
    run, other = opened(ledger), opened(ledger, "run_2")
    pay(ledger, 5, run)
    pay(ledger, 5, other, position="pi_1", state="released")
    assert costs(select) == [5, 0]
    assert select("state, last_call, last_write FROM position") == [("released", 1, 2)]
    assert not select("1 FROM event WHERE kind = 'recounted'")


# What is news


@pytest.mark.parametrize(
    ("facts", "left"),
    [({}, 2), ({"replayed": True}, 5)],
    ids=["new", "replayed"],
)
def test_less_is_believed_of_a_new_answer_only(ledger, facts, left):
    """One that repeats what was answered before says nothing about how things are now."""
    run = opened(ledger)
    pay(ledger, 5, run)
    pay(ledger, 5, run, position="pi_1", comes_to=2, **facts)
    assert money(ledger, run) == [(left, 0)]


def test_more_is_believed_of_any_answer(ledger):
    """Even of a replayed one, and of an older write: it is counted once at most."""
    run = opened(ledger)
    pay(ledger, 5, run)
    older = ledger.admit(asking(9, run, position="pi_1"))
    ledger.admit(asking(9, run, position="pi_1"))
    ledger.settle(older, worth(7, replayed=True))
    assert money(ledger, run) == [(7, 4)]


def test_less_is_not_believed_while_another_write_is_under_way(ledger):
    """Nor of a write that is not the newest, nor of one on another position."""
    run = opened(ledger)
    pay(ledger, 5, run)
    older = ledger.admit(asking(5, run, position="pi_1"))
    newer = ledger.admit(asking(5, run, position="pi_1"))
    ledger.settle(newer, worth(1))
    assert money(ledger, run) == [(5, 0)]
    ledger.settle(older, worth(2))
    assert money(ledger, run) == [(5, 0)]
    stranger = ledger.admit(asking(0, run))
    ledger.settle(stranger, worth(3))
    assert money(ledger, run) == [(5, 0)]
    pay(ledger, 5, run, position="pi_1", comes_to=4)
    assert money(ledger, run) == [(4, 0)]


def test_a_look_is_believed_if_it_began_after_the_last_write(ledger):
    """And while none is under way."""
    run = opened(ledger)
    look = ledger.admit(asking(0, run, call=READ))
    pay(ledger, 5, run)
    ledger.settle(look, worth(1, observed=True))
    assert money(ledger, run) == [(5, 0)]
    write = ledger.admit(asking(5, run, position="pi_1"))
    look = ledger.admit(asking(0, run, call=READ))
    ledger.settle(look, worth(2, observed=True))
    assert money(ledger, run) == [(5, 0)]
    ledger.settle(write, VOIDED)
    look = ledger.admit(asking(0, run, call=READ))
    ledger.settle(look, worth(3, observed=True))
    assert money(ledger, run) == [(3, 0)]


def test_a_read_is_no_write(ledger, select):
    """Nor is a write on what is not counted yet one that has to be waited for."""
    run = opened(ledger)
    first = ledger.admit(asking(5, run, position="pi_1"))
    assert first.tracked is None
    ledger.settle(first, worth(5))
    ledger.admit(asking(0, run, call=READ, position="pi_1"))
    assert select("last_write, open_writes FROM position") == [(1, 0)]
    write = ledger.admit(asking(5, run, position="pi_1"))
    assert write.tracked == "pi_1"
    assert select("last_write, open_writes FROM position") == [(write.seq, 1)]


def test_a_price_that_came_late_is_owed_by_whoever_made_the_call(ledger, select):
    """In all scopes and windows it is counted in, and flagged where it is more than was set aside."""
    run, reader = opened(ledger, daily_usd_cap=50), opened(ledger, "run_2")
    pay(ledger, 5, run, state="estimated")
    look = ledger.admit(asking(0, reader, call=READ))
    ledger.settle(look, worth(8, observed=True))
    assert money(ledger, run, reader) == [(8, 0), (0, 0)]
    assert select("spent, reserved FROM bucket") == [(8_000_000, 0)]
    assert select("cost, reason, prior FROM call ORDER BY seq") == [
        (8_000_000, "overrun", None), (0, None, None),
    ]  # fmt: skip
    assert select("state, value, last_call FROM position") == [("settled", 8_000_000, 1)]
    assert select("kind, call, spent FROM event WHERE kind = 'recounted'") == [
        ("recounted", 1, 3_000_000)
    ]
    ledger.observe(Note("n", READ, State.SETTLED, "x"), worth(9))
    assert money(ledger, run, reader) == [(8, 0), (0, 0)]


# What is reserved


def test_only_what_a_position_may_grow_by_is_set_aside(ledger):
    """Nothing where it is worth as much already; nothing for what costs nothing."""
    run = opened(ledger)
    pay(ledger, 5, run)
    for dollars, reserved in ((8, 3), (5, 0), (2, 0), (0, 0)):
        held = ledger.admit(asking(dollars, run, position="pi_1"))
        assert held.reserved == reserved * 10**6
        ledger.settle(held, VOIDED)
    none = Admission("u", REFUND._replace(value_micros=None), (run,))
    assert ledger.admit(none).reserved == 0
    assert ledger.admit(asking(5, run, position="pi_none")).reserved == 5_000_000


def test_a_refund_sets_aside_what_its_run_has_not_spent_on_it(ledger):
    """A position it never moved, or one that nobody counts, takes nothing off."""
    run, other = opened(ledger), opened(ledger, "run_2")
    pay(ledger, 5, run)
    pay(ledger, 8, other, position="pi_1")
    for by, dollars, reserved in ((run, 7, 2), (other, 7, 4), (run, 5, 0), (run, 3, 0)):
        assert ledger.admit(asking(dollars, by, offsets="pi_1")).reserved == reserved * 10**6
    assert ledger.admit(asking(7, run, offsets="pi_none")).reserved == 7_000_000
    assert ledger.admit(asking(7, offsets="pi_1")).reserved == 7_000_000


def test_a_net_refund_finds_who_paid_past_a_write_that_came_to_nothing(ledger, select):
    """It takes back from the newest call that moved the position, not from the newest write."""
    run = opened(ledger)
    pay(ledger, 5, run)
    ledger.settle(ledger.admit(asking(9, run, position="pi_1")), VOIDED)
    refund = ledger.admit(asking(4, run, offsets="pi_1"))
    ledger.settle(refund, worth(4, "re_1", offsets="pi_1"))
    assert costs(select) == [1, 0, 0]


def test_a_net_refund_takes_back_from_its_own_run_alone(ledger, select):
    """Newest charge first, past those of other runs; what is more than it spent is new."""
    run, other = opened(ledger), opened(ledger, "run_2")
    pay(ledger, 2, run)
    pay(ledger, 5, other, position="pi_1")
    pay(ledger, 6, run, position="pi_1")
    pay(ledger, 7, run, offsets="pi_1", key="re_1")
    assert costs(select) == [2, 3, 1, 7]
    held = ledger.admit(asking(4, run, offsets="pi_1"))
    ledger.settle(held, worth(4, "re_2", offsets="pi_1"))
    assert costs(select) == [0, 3, 0, 7, 1]
    assert money(ledger, run, other) == [(8, 0), (3, 0)]


def test_a_net_refund_of_what_nobody_counted_is_new(ledger, select):
    """There is nothing to take it back from, nor is there in a look from outside."""
    run = opened(ledger)
    ledger.settle(ledger.admit(asking(4, run)), worth(4, "re_1", offsets="pi_none"))
    pay(ledger, 5, run)
    ledger.settle(ledger.admit(asking(4, run)), worth(4, "re_2", "in_flight", offsets="pi_1"))
    assert costs(select) == [4, 5, 0]
    ledger.settle(ledger.admit(asking(3)), worth(3, "re_3", offsets="pi_1"))
    assert costs(select) == [4, 5, 0, 3]


# The same key


def test_what_is_settled_without_an_object_covers_a_retry(ledger, select):
    """A retry on a position that is counted has that already, and leans on nothing."""
    run = opened(ledger)
    first = ledger.admit(asking(5, run, idempotency_key="k"))
    ledger.settle(first, Outcome(State.SETTLED))
    retry = ledger.admit(asking(7, run, idempotency_key="k"))
    assert (retry.reserved, retry.leans_on) == (2_000_000, first.seq)
    on_a_position = ledger.admit(asking(7, run, idempotency_key="k", position="pi_1"))
    assert (on_a_position.reserved, on_a_position.leans_on) == (7_000_000, None)


def test_a_call_that_adds_nothing_leans_on_nothing(ledger):
    """There is nothing that another one would have to count in its stead."""
    run = opened(ledger)
    pay(ledger, 5, run)
    lost(ledger, 9, run, position="pi_1")
    retry = ledger.admit(asking(5, run, idempotency_key="k", position="pi_1"))
    assert (retry.reserved, retry.leans_on) == (0, None)


def test_a_settled_twin_is_passed_over_for_an_unknown_one(ledger):
    """On a position the settled one is counted there; the unknown one behind it still covers."""
    run = opened(ledger)
    settled = ledger.admit(asking(9, run, idempotency_key="k", position="pi_2"))
    ledger.settle(settled, Outcome(State.SETTLED))
    unknown = lost(ledger, 3, run, position="pi_1")
    retry = ledger.admit(asking(4, run, idempotency_key="k", position="pi_3"))
    assert (retry.reserved, retry.leans_on) == (1_000_000, unknown.seq)


def test_a_call_leans_only_on_what_all_of_its_scopes_count(ledger):
    """A cap does not bind by what another run has set aside."""
    outer = opened(ledger)
    inner = opened(ledger, "run_2", parent=outer)
    alone = lost(ledger, 3, outer)
    both = ledger.admit(asking(3, inner, outer, idempotency_key="k"))
    assert (both.reserved, both.leans_on) == (3_000_000, None)
    ledger.settle(both, UNKNOWN)
    again = ledger.admit(asking(3, outer, idempotency_key="k"))
    assert (again.reserved, again.leans_on) in ((0, alone.seq), (0, both.seq))


@pytest.mark.parametrize(("hours", "leans"), [(23, False), (22.9, True)])
def test_a_key_lives_for_23_hours(ledger, monkeypatch, hours, leans):
    """Vendors keep it for a day; our clock may be slow."""
    run, start = opened(ledger, expires_in=None), 30_000 * clock.DAY
    monkeypatch.setattr(clock, "now", lambda: start)
    lost(ledger, 3, run)
    monkeypatch.setattr(clock, "now", lambda: start + int(hours * clock.HOUR))
    assert (ledger.admit(asking(3, run, idempotency_key="k")).leans_on == 1) is leans


def test_what_is_proven_of_the_newer_is_proven_of_the_older(ledger, select):
    """The older one takes what it had set aside and no more; the evidence names the newer one."""
    run = opened(ledger)
    first = lost(ledger, 3, run)
    retry = ledger.admit(asking(5, run, idempotency_key="k"))
    ledger.settle(retry, worth(4, http_status=200, note="as said"))
    assert costs(select) == [3, 1]
    columns = (
        "state, position, prior, object_id, http_status, reason, evidence FROM call ORDER BY seq"
    )
    by = f"call {retry.seq}, under the same idempotency key"
    assert select(columns) == [
        ("settled", "pi_1", None, "pi_1", 200, None, by),
        ("settled", "pi_1", first.seq, "pi_1", 200, "as said", None),
    ]
    assert money(ledger, run) == [(4, 0)]


def test_the_older_keeps_the_place_of_what_went_before(ledger, select):
    """Where the position was moved already, the chain goes on from the older one."""
    run = opened(ledger)
    pay(ledger, 2, run)
    first = lost(ledger, 5, run, position="pi_1")
    retry = ledger.admit(asking(5, run, idempotency_key="k", position="pi_1"))
    ledger.settle(retry, worth(5))
    assert select("seq, prior, cost, reserved FROM call ORDER BY seq") == [
        (1, None, 2_000_000, 2_000_000),
        (first.seq, 1, 3_000_000, 3_000_000),
        (retry.seq, first.seq, 0, 0),
    ]
    assert select("open_writes FROM position") == [(0,)]


def test_an_older_one_cheaper_than_its_answer_leaves_the_rest(ledger, select):
    """And a cheap answer costs the older one only what it is."""
    run = opened(ledger)
    lost(ledger, 3, run)
    retry = ledger.admit(asking(3, run, idempotency_key="k"))
    ledger.settle(retry, worth(1))
    assert costs(select) == [1, 0]
    assert money(ledger, run) == [(1, 0)]


def test_each_costs_what_it_set_aside_where_the_answer_names_no_value(ledger, select):
    """A settled call without a value costs its reservation, and so does the older one."""
    run = opened(ledger)
    lost(ledger, 3, run)
    retry = ledger.admit(asking(5, run, idempotency_key="k"))
    ledger.settle(retry, Outcome(State.SETTLED))
    assert costs(select) == [3, 2]


@pytest.mark.parametrize(("conclusive", "state"), [(True, "voided"), (False, "unknown")])
def test_a_decline_proves_something_of_the_older_only_if_it_says_so(
    ledger, select, conclusive, state
):
    """One that was never sent says nothing about one that was."""
    run = opened(ledger)
    lost(ledger, 3, run)
    retry = ledger.admit(asking(5, run, idempotency_key="k"))
    ledger.settle(retry, Outcome(State.VOIDED, conclusive=conclusive, note="declined"))
    assert select("state, reason FROM call ORDER BY seq") == [(state, None), ("voided", "declined")]
    assert costs(select) == [0 if conclusive else None, 0]
    assert money(ledger, run) == [(0, 0 if conclusive else 3)]


def test_a_retry_of_what_a_person_settled_costs_the_rest(ledger, select):
    """A person's word names no object, so the event is counted there: not twice, and from there on."""
    run = opened(ledger)
    first = lost(ledger, 3, run)
    retry = ledger.admit(asking(5, run, idempotency_key="k"))
    ledger.settle(first, Outcome(State.SETTLED))
    ledger.settle(retry, worth(4))
    assert costs(select) == [3, 1]
    assert select("prior FROM call WHERE seq = 2") == [(first.seq,)]
    second = ledger.admit(asking(5, run, idempotency_key="k2"))
    ledger.settle(second, UNKNOWN)
    retry = ledger.admit(asking(5, run, idempotency_key="k2"))
    ledger.settle(second, Outcome(State.SETTLED))
    ledger.settle(retry, worth(1, "pi_2"))
    assert costs(select)[2:] == [5, 0]


def test_a_retry_of_what_was_counted_meanwhile_costs_what_it_moves(ledger, select):
    """The older one has ended on an object, or at nothing: nothing of it is taken off."""
    run = opened(ledger)
    first = lost(ledger, 3, run)
    retry = ledger.admit(asking(5, run, idempotency_key="k"))
    ledger.settle(first, worth(3, "pi_9"))
    ledger.settle(retry, worth(4))
    assert costs(select) == [3, 4]
    gone = lost(ledger, 3, run, key="k2")
    retry = ledger.admit(asking(5, run, idempotency_key="k2"))
    ledger.settle(gone, VOIDED)
    ledger.settle(retry, worth(4, "pi_3"))
    assert costs(select)[2:] == [0, 4]
    assert select("prior FROM call WHERE seq = 4") == [(None,)]


def test_the_write_of_an_older_one_keeps_no_newer_answer_from_being_believed(ledger, select):
    """It is over once the newer one proves it, and is ended once."""
    run = opened(ledger)
    pay(ledger, 5, run)
    first = lost(ledger, 9, run, position="pi_1")
    retry = ledger.admit(asking(9, run, position="pi_1", idempotency_key="k"))
    assert (retry.leans_on, retry.reserved) == (first.seq, 0)
    ledger.settle(retry, worth(2))
    assert money(ledger, run) == [(2, 0)]
    assert select("open_writes FROM position") == [(0,)]


# How it ends


def test_an_end_is_written_down_whole(ledger, select):
    """What was known before stays where the outcome says nothing of it; the request goes."""
    run = opened(ledger)
    asked = asking(5, run, contingent_micros=9)
    held = ledger.admit(Admission(asked.uid, asked.call, asked.scopes, request="{}"))
    ledger.settle(held, Outcome(State.UNKNOWN, object_id="pi_1", http_status=500, note="lost"))
    assert select("request, reason, object_id, http_status FROM call") == [
        ("{}", "lost", "pi_1", 500)
    ]
    ledger.resolve(held.seq, Outcome(State.SETTLED), "by hand")
    columns = "state, reason, object_id, http_status, contingent, request, evidence, cost FROM call"
    assert select(columns) == [("settled", "lost", "pi_1", 500, 9, None, "by hand", 5_000_000)]


def test_an_outcome_says_what_else_it_may_come_to(ledger, select):
    """And a cost beyond what was set aside is flagged, unless the outcome has words of its own."""
    run = opened(ledger)
    for facts in ({"contingent_micros": 4}, {"note": "odd"}):
        held = ledger.admit(asking(1, run, contingent_micros=9))
        ledger.settle(held, worth(2, f"pi_{held.seq}", **facts))
    exact = ledger.admit(asking(1, run))
    ledger.settle(exact, worth(1, "pi_9"))
    assert select("contingent, reason FROM call ORDER BY seq") == [
        (4, "overrun"), (9, "odd"), (None, None),
    ]  # fmt: skip


def test_a_call_that_is_resolved_is_taken_off_where_it_was_counted(ledger, select):
    """In each scope, each window and each position, by whichever process."""
    run = opened(ledger, daily_usd_cap=50)
    pay(ledger, 5, run)
    held = lost(ledger, 9, run, position="pi_1")
    assert select("reserved, spent FROM bucket") == [(4_000_000, 5_000_000)]
    other = SQLiteLedger(ledger.path, lock_timeout_s=5, durability="process")
    other.resolve(held.seq, worth(6), "by hand")
    other.close()
    assert select("reserved, spent FROM bucket") == [(0, 6_000_000)]
    assert select("open_writes, value FROM position") == [(0, 6_000_000)]
    assert money(ledger, run) == [(6, 0)]
