"""Does the price of a call still hold when it goes out: objects that price calls, and their changes."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

import keybrake
from keybrake.ledger import Admission, Ledger, Stale, doubts, statements
from keybrake.ledger.audit.verify import verify
from keybrake.model.call import Call, Effect, Outcome, State
from tests.ledger.test_contract import opened

PRICED = Call(
    "stripe",
    "stripe.refunds.create",
    "POST",
    "/v1/refunds",
    Effect.MONEY,
    value_micros=1_000_000,
    priced_by=("stripe::pi_1",),
)
RAISING = Call(
    "stripe",
    "stripe.payment_intents.update",
    "POST",
    "/v1/payment_intents/pi_1",
    Effect.FREE,
    may_raise=("stripe::pi_1",),
)
DONE, LOST, VOID = Outcome(State.SETTLED), Outcome(State.UNKNOWN), Outcome(State.VOIDED)


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    """Open a new ledger."""
    opened_here = keybrake.open_ledger(tmp_path / "ledger.db")
    yield opened_here
    opened_here.close()


@pytest.fixture
def run(ledger) -> int:
    """Open a run without a cap."""
    return opened(ledger)


@pytest.fixture
def select(ledger) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
    """Return a function that asks the ledger as another program would."""
    connection = sqlite3.connect(f"file:{ledger.path}?mode=ro", uri=True)
    yield lambda what: connection.execute(f"SELECT {what}").fetchall()
    connection.close()


def ask(call: Call, *scopes: int, as_of: int | None = None, repeat: bool = False) -> Admission:
    """Return a call that asks to be admitted."""
    return Admission("call", call, scopes, as_of=as_of, may_repeat=repeat)


def told(ledger: Ledger, admission: Admission) -> keybrake.UnknownCost:
    """Return the refusal of an admission."""
    with pytest.raises(keybrake.UnknownCost) as refused:
        ledger.admit(admission)
    return refused.value


def findings(ledger: Ledger) -> list[Any]:
    """Return what verifying the ledger finds wrong."""
    with contextlib.closing(sqlite3.connect(ledger.path)) as connection:
        return list(verify(connection, ledger.path).findings)


# One beside the other


@pytest.mark.parametrize("lost", [False, True])
def test_a_priced_call_is_refused_while_its_object_may_grow(ledger, run, lost):
    """The refusal names the other call, its endpoint, the object and the way out."""
    held = ledger.admit(ask(RAISING, run))
    if lost:
        ledger.settle(held, LOST)

    no = told(ledger, ask(PRICED, run))

    how = "whose outcome is unknown" if lost else "which is under way"
    assert no.reason == "price_may_change"
    assert str(no) == (
        f"label of run_1: stripe.refunds.create refused: call 1 (stripe.payment_intents.update), "
        f"{how}, can make 'pi_1' dearer, and the price of this call was read there. Nothing was "
        f"sent. Do not retry it at once. Make the call again once call 1 has ended. If it stays "
        f"without an outcome, a person can find one: keybrake unresolved, keybrake reconcile."
    )


@pytest.mark.parametrize("lost", [False, True])
def test_an_object_does_not_grow_under_the_call_it_priced(ledger, run, lost):
    """The call that would make it dearer is refused, in whichever order the two come."""
    held = ledger.admit(ask(PRICED, run))
    if lost:
        ledger.settle(held, LOST)

    no = told(ledger, ask(RAISING, run))

    how = "whose outcome is unknown" if lost else "which is under way"
    assert no.reason == "object_in_use"
    assert (
        f"it can make 'pi_1' dearer, and the price of call 1 (stripe.refunds.create), {how}, was "
        f"read there." in str(no)
    )


@pytest.mark.parametrize("ends", ["settled", "voided", "resolved"])
@pytest.mark.parametrize(("first", "second"), [(RAISING, PRICED), (PRICED, RAISING)])
def test_a_call_that_has_ended_is_in_no_ones_way(ledger, run, monkeypatch, ends, first, second):
    """However it ended: by its answer, on proof of nothing, or by a person's word."""
    held = ledger.admit(ask(first, run))
    if ends == "resolved":
        ledger.settle(held, LOST)
        ledger.resolve(held.seq, VOID, "a person looked")
    else:
        ledger.settle(held, DONE if ends == "settled" else VOID)

    ledger.admit(ask(second, run, as_of=ledger.newest_event()))


def test_other_objects_and_calls_of_the_same_kind_go_on(ledger, run):
    """Two calls priced by one object, or two that raise it, or calls on different objects."""
    other = RAISING._replace(may_raise=("stripe::pi_2",))
    ledger.admit(ask(PRICED, run))
    ledger.admit(ask(PRICED, run))
    ledger.admit(ask(other, run))
    ledger.admit(ask(other, run))


def test_a_call_does_not_stand_in_its_own_way(ledger, run):
    """One that is priced by an object and raises it is admitted; a second such call is not."""
    both = PRICED._replace(may_raise=PRICED.priced_by)
    ledger.admit(ask(both, run))

    assert told(ledger, ask(both, run)).reason == "price_may_change"


def test_an_attempt_under_the_same_key_is_the_same_call(ledger, run):
    """The vendor carries out one of the two at most; a call with another path is another call."""
    both = PRICED._replace(may_raise=PRICED.priced_by, idempotency_key="k", path="/v1/a")
    ledger.settle(ledger.admit(ask(both, run)), LOST)
    ledger.admit(ask(both, run))

    for facts in ({"path": "/v1/b"}, {"owner": "o"}, {"idempotency_key": None}):
        assert told(ledger, ask(both._replace(**facts), run)).reason == "price_may_change"


def test_what_ends_by_a_newer_attempt_lets_its_object_go(ledger, run, select):
    """An unknown call that is proven by the answer to its repetition has ended, too."""
    raising = RAISING._replace(
        effect=Effect.MONEY, value_micros=1_000_000, idempotency_key="k", meter=None
    )
    ledger.settle(ledger.admit(ask(raising, run)), LOST)
    again = ledger.admit(ask(raising, run))
    ledger.settle(again, Outcome(State.SETTLED, conclusive=True))

    assert select("count(*) FROM stake WHERE ended IS NULL") == [(0,)]
    ledger.admit(ask(PRICED, run, as_of=ledger.newest_event()))


def test_it_holds_between_runs_and_between_openings_of_the_file(ledger, run):
    """The object is the vendor's, whichever run or process the two calls belong to."""
    other = keybrake.open_ledger(ledger.path)
    ledger.admit(ask(RAISING, run))
    elsewhere = opened(other, "run_2")

    assert told(other, ask(PRICED, elsewhere)).run_id == "run_2"


def test_in_report_mode_both_go_out_and_the_row_says_so(ledger, select):
    """The second call's row carries what would have been refused."""
    said = ledger.open_run(_reporting())
    ledger.admit(ask(RAISING, said))
    ledger.admit(ask(PRICED, said))

    assert select("would_refuse FROM call ORDER BY seq") == [(None,), ("price_may_change",)]


def test_a_refused_call_holds_nothing(ledger, run, select):
    """Its row says why; it has no stake in the object."""
    ledger.admit(ask(RAISING, run))
    told(ledger, ask(PRICED, run))

    assert select("reason FROM call WHERE state = 'refused'") == [("price_may_change",)]
    assert select("call FROM stake") == [(1,)]


def test_threads_never_have_both_kinds_open(ledger, run):
    """Whatever the interleaving: while a priced call is open, no raising one is, and conversely."""
    inside = {"priced": 0, "raising": 0}
    lock, wrong, admitted = threading.Lock(), [], []

    def go(name: str, other: str, call: Call) -> None:
        for _ in range(40):
            with contextlib.suppress(keybrake.UnknownCost):
                held = ledger.admit(ask(call, run, as_of=ledger.newest_event()))
                with lock:
                    inside[name] += 1
                    admitted.append(name)
                    wrong.extend([name] if inside[other] else [])
                with lock:
                    inside[name] -= 1
                ledger.settle(held, DONE)

    threads = [
        threading.Thread(target=go, args=names)
        for names in 2 * [("priced", "raising", PRICED), ("raising", "priced", RAISING)]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
    assert len(admitted) > 0


# A look-up that is out of date


@pytest.mark.parametrize("end", [DONE, VOID])
def test_a_look_up_older_than_a_change_is_to_be_repeated(ledger, run, select, end):
    """Nothing is written for it; one that began after the change is believed."""
    held = ledger.admit(ask(RAISING, run))
    before = ledger.newest_event()
    ledger.settle(held, end)

    with pytest.raises(Stale):
        ledger.admit(ask(PRICED, run, as_of=before, repeat=True))
    assert select("count(*) FROM call") == [(1,)]
    ledger.admit(ask(PRICED, run, as_of=ledger.newest_event(), repeat=True))


def test_a_look_up_that_may_not_be_repeated_is_refused(ledger, run):
    """The refusal says that the object kept changing, and by which call."""
    held = ledger.admit(ask(RAISING, run))
    before = ledger.newest_event()
    ledger.settle(held, DONE)

    no = told(ledger, ask(PRICED, run, as_of=before))

    assert no.reason == "price_may_change"
    assert (
        "'pi_1' kept changing while its price was looked up, last by call 1 "
        "(stripe.payment_intents.update). Nothing was sent. Do not retry it at once. Make the "
        "call again once no other call changes it."
    ) in str(no)


def test_an_open_change_is_refused_rather_than_looked_up_again(ledger, run):
    """Until it has ended, another look-up is of no use."""
    held = ledger.admit(ask(RAISING, run))
    before = ledger.newest_event()
    ledger.settle(held, DONE)
    ledger.admit(ask(RAISING, run))

    no = told(ledger, ask(PRICED, run, as_of=before, repeat=True))
    assert "call 2 (stripe.payment_intents.update), which is under way" in str(no)


def test_a_clock_that_stands_still_makes_no_look_up_stale(ledger, run, monkeypatch):
    """The order of events tells what came first, not their time."""
    frozen = keybrake.model.clock.now()
    monkeypatch.setattr("keybrake.model.clock.now", lambda: frozen)
    ledger.settle(ledger.admit(ask(RAISING, run)), DONE)

    ledger.admit(ask(PRICED, run, as_of=ledger.newest_event(), repeat=True))


# What is kept


def test_one_row_is_kept_for_an_object(ledger, run, select):
    """However often it changes; and none for the calls that it priced."""
    for _ in range(5):
        ledger.settle(ledger.admit(ask(RAISING, run)), DONE)
        as_of = ledger.newest_event()
        ledger.settle(ledger.admit(ask(PRICED, run, as_of=as_of)), DONE)

    assert select("object, role, call FROM stake") == [("stripe::pi_1", "raises", 9)]


def test_an_object_may_be_named_twice(ledger, run, select):
    """A call that names an object twice has one stake in it."""
    ledger.admit(ask(PRICED._replace(priced_by=2 * PRICED.priced_by), run))

    assert select("object, role, call FROM stake") == [("stripe::pi_1", "prices", 1)]


def test_an_older_change_is_known_until_a_newer_one_has_ended(ledger, run, select):
    """A look-up that both of them made stale is stale by the newer one alone."""
    ledger.settle(ledger.admit(ask(RAISING, run)), DONE)
    newer = ledger.admit(ask(RAISING, run))

    assert select("call FROM stake ORDER BY call") == [(1,), (2,)]
    ledger.settle(newer, DONE)
    assert select("call FROM stake") == [(2,)]


@pytest.mark.parametrize("name", ["SELECT_STAKES", "END_PRICES", "FORGET_RAISES", "END_RAISES"])
def test_no_statement_walks_through_all_stakes(ledger, name):
    """What a call costs does not grow with the number of objects that were ever raised."""
    statement = getattr(statements, name)
    with contextlib.closing(sqlite3.connect(ledger.path)) as connection:
        nothing = (None,) * statement.count("?")
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", nothing).fetchall()

    assert plan
    assert not any(str(step[3]).startswith("SCAN") for step in plan)


def test_other_calls_write_nothing_more(ledger, run, select):
    """A call that neither is priced by an object nor raises one has no stake."""
    ledger.settle(ledger.admit(ask(PRICED._replace(priced_by=()), run)), DONE)

    assert select("count(*) FROM stake") == [(0,)]


def test_an_open_stake_leads_to_its_call(ledger, run, monkeypatch):
    """A free call that nobody ends is listed, or its object could never be used again."""
    held = ledger.admit(ask(RAISING, run))
    later = keybrake.model.clock.now() + doubts.STILL_UNDER_WAY
    monkeypatch.setattr("keybrake.model.clock.now", lambda: later)

    assert [doubt.seq for doubt in ledger.in_doubt()] == [held.seq]


@pytest.mark.parametrize(
    ("edit", "wrong"),
    [
        ("UPDATE stake SET ended = 3", "open"),
        ("UPDATE stake SET ended = NULL", "ended"),
    ],
)
def test_verify_sees_a_stake_that_contradicts_its_call(ledger, run, edit, wrong):
    """An open call whose stake has ended, or an ended one whose stake is open, is told."""
    held = ledger.admit(ask(RAISING, run))
    if wrong == "ended":
        ledger.settle(held, DONE)
    assert not findings(ledger)
    with contextlib.closing(sqlite3.connect(ledger.path)) as connection, connection:
        connection.execute(edit)

    (finding,) = findings(ledger)
    assert (finding.what, finding.where) == ("stake", "stripe::pi_1 of call 1")
    assert finding.expected == wrong


def _reporting() -> Any:
    from keybrake.ledger import NewRun
    from keybrake.policy.policy import Policy, terms_of

    terms = terms_of(Policy(cap=0))
    return NewRun("run_r", "reporting", terms, None, b"r".ljust(32, b"\0"), mode="report")


# A position that becomes a part of another one

ITEM = Call(
    "stripe",
    "stripe.invoiceitems.create",
    "POST",
    "/v1/invoiceitems",
    Effect.MONEY,
    value_micros=4_000_000,
    position="stripe::ii_1",
)
COUNTED = replace(DONE, value_micros=4_000_000, position="stripe::ii_1", position_state="settled")
COLLECTING = Call(
    "stripe",
    "stripe.subscriptions.create",
    "POST",
    "/v1/subscriptions",
    Effect.MONEY,
    value_micros=7_000_000,
    absorbs=("stripe::ii_1",),
)


def test_one_call_at_a_time_takes_the_cost_of_an_item_off_its_own(ledger, run):
    """Only one of two has the item collected; the other one would reserve too little."""
    ledger.settle(ledger.admit(ask(ITEM, run)), COUNTED)
    first = ledger.admit(ask(COLLECTING, run))

    no = told(ledger, ask(COLLECTING, run))

    assert (first.reserved, no.reason) == (3_000_000, "price_may_change")


def test_an_item_that_was_collected_since_the_look_up_is_not_taken_off_again(ledger, run):
    """A call whose look-up still showed the item reserves its whole value."""
    ledger.settle(ledger.admit(ask(ITEM, run)), COUNTED)
    as_of = ledger.newest_event()
    absorbed = replace(
        COUNTED, value_micros=7_000_000, position="stripe::in_1", absorbs=COLLECTING.absorbs
    )
    ledger.settle(ledger.admit(ask(COLLECTING, run)), absorbed)

    late = ledger.admit(ask(COLLECTING, run, as_of=as_of, repeat=True))

    assert late.reserved == 7_000_000
