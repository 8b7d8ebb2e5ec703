"""What every ledger promises: one row per call for ever, ended once, within every cap."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import keybrake
from keybrake.ledger import Admission, Ledger, NewRun, Note, RunRecord
from keybrake.model import clock
from keybrake.model.call import Call, Effect, Outcome, State
from keybrake.policy.policy import Policy, expiry_of, terms_of

MONEY = Call("stripe", "stripe.refunds.create", "POST", "/v1/refunds", Effect.MONEY)
READ = Call("stripe", "stripe.charges.retrieve", "GET", "/v1/charges/ch_1", Effect.READ)


@pytest.fixture(params=["sqlite"])
def ledger(request, tmp_path) -> Ledger:
    """Open a new ledger of every kind there is."""
    return keybrake.open_ledger(tmp_path / f"{request.param}.db")


@pytest.fixture
def select(ledger) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
    """Return a function that asks the ledger as another program would."""
    connection = sqlite3.connect(f"file:{ledger.url.removeprefix('sqlite:///')}?mode=ro", uri=True)
    yield lambda what: connection.execute(f"SELECT {what}").fetchall()
    connection.close()


@pytest.fixture
def rows(select) -> Callable[[str], list[tuple[Any, ...]]]:
    """Return a function that reads columns of the call log."""
    return lambda columns: select(f"{columns} FROM call_log ORDER BY seq")


def opened(ledger: Ledger, uid: str = "run_1", parent: int | None = None, **policy: Any) -> int:
    """Open a run and return its primary key."""
    said = Policy(**{"cap": None, **policy})
    digest = uid.encode().ljust(32, b"\0")
    new = NewRun(uid, f"label of {uid}", terms_of(said), expiry_of(said), digest, parent=parent)
    return ledger.open_run(new)


def asking(dollars: float, *scopes: int, call: Call = MONEY, **facts: Any) -> Admission:
    """Return a call for so many dollars that asks to be admitted."""
    asked = call._replace(value_micros=int(dollars * 1_000_000), **facts)
    return Admission("call", asked, scopes)


def settled(dollars: float, key: str | None = None) -> Outcome:
    """Return the outcome of a call that cost so much."""
    if key is None:
        return Outcome(State.SETTLED)
    return Outcome(State.SETTLED, key, "settled", int(dollars * 1_000_000), object_id=key)


def counted(run: RunRecord) -> tuple[float, float, int, int]:
    """Return spent and reserved dollars, calls and refused calls."""
    return run.spent / 1e6, run.reserved / 1e6, run.calls, run.refused


# Runs


def test_a_run_comes_back_as_it_was_opened(ledger):
    """Every field of a run is there, by primary key, by id and by key."""
    pk = opened(ledger, cap=5, expires_in="1h")
    run = ledger.run(pk)

    assert (run.pk, run.uid, run.label, run.parent_uid) == (pk, "run_1", "label of run_1", None)
    assert (run.mode, run.cap, run.state()) == ("enforce", 5_000_000, "open")
    assert run.expires_at - run.opened_at == clock.HOUR
    assert abs(run.opened_at - clock.now()) < 60 * clock.SECOND
    assert ledger.runs("run_1") == [run] == list(ledger.runs())
    assert ledger.join(b"run_1".ljust(32, b"\0")) == run


def test_what_is_not_there_is_not_made_up(ledger):
    """Unknown keys, ids and positions have no answer."""
    assert ledger.join(b"\0" * 32) is None
    assert list(ledger.runs("run_nobody")) == []
    assert ledger.position("stripe::pi_none") is None


def test_a_chain_goes_outwards(ledger):
    """A run stands under the tool it was opened in, and that under its run."""
    outer = opened(ledger)
    tool = ledger.tool(outer, "pay", terms_of(Policy(cap=1)))
    inner = opened(ledger, "run_2", parent=tool)

    assert ledger.chain(inner) == (inner, tool, outer)
    assert ledger.run(inner).parent_uid == "run_1"


def test_a_tool_is_one_scope_per_run(ledger):
    """The same name in one run is one scope; with other limits it is refused."""
    one, other = opened(ledger), opened(ledger, "run_2")
    terms = terms_of(Policy(cap=1))
    tool = ledger.tool(one, "pay", terms)

    assert ledger.tool(one, "pay", terms) == tool
    assert ledger.tool(other, "pay", terms) != tool
    with pytest.raises(keybrake.PolicyError, match="two tools are named 'pay'"):
        ledger.tool(one, "pay", terms_of(Policy(cap=2)))


def test_runs_are_listed_oldest_first(ledger):
    """Tools are no runs and are not among them."""
    for number in range(3):
        pk = opened(ledger, f"run_{number}")
        ledger.tool(pk, "pay", terms_of(Policy(cap=1)))

    assert [run.uid for run in ledger.runs()] == ["run_0", "run_1", "run_2"]


# Admit and settle


def test_a_reservation_counts_until_it_is_settled(ledger, rows):
    """What was set aside becomes what it cost."""
    pk = opened(ledger, cap=5)
    admitted = ledger.admit(asking(3, pk))
    assert counted(ledger.run(pk)) == (0, 3, 1, 0)
    assert rows("state, reserved_micros, cost_micros") == [("reserved", 3_000_000, None)]

    ledger.settle(admitted, settled(2, "pi_1"))
    assert counted(ledger.run(pk)) == (2, 0, 1, 0)
    assert rows("state, cost_micros, object_id") == [("settled", 2_000_000, "pi_1")]


def test_a_voided_call_costs_nothing_and_keeps_its_row(ledger, rows):
    """Proof that nothing happened gives the reservation back."""
    pk = opened(ledger, cap=5)
    ledger.settle(ledger.admit(asking(3, pk)), Outcome(State.VOIDED, http_status=402))

    assert counted(ledger.run(pk)) == (0, 0, 1, 0)
    assert rows("state, cost_micros, http_status") == [("voided", 0, 402)]


def test_an_unknown_call_counts_in_full(ledger, rows):
    """It keeps its reservation, and nothing else may use that money."""
    pk = opened(ledger, cap=5)
    admitted = ledger.admit(asking(3, pk))
    ledger.settle(admitted, Outcome(State.UNKNOWN, note="reset"))

    assert counted(ledger.run(pk)) == (0, 3, 1, 0)
    assert rows("state, cost_micros, reason") == [("unknown", None, "reset")]
    with pytest.raises(keybrake.CapExceeded):
        ledger.admit(asking(2.5, pk))
    ledger.settle(admitted, Outcome(State.VOIDED))
    assert counted(ledger.run(pk)) == (0, 0, 1, 1)


@pytest.mark.parametrize("first", [State.SETTLED, State.VOIDED])
@pytest.mark.parametrize("second", [State.SETTLED, State.VOIDED, State.UNKNOWN])
def test_a_call_ends_once(ledger, rows, first, second):
    """A second resolution is refused and changes nothing."""
    pk = opened(ledger, cap=5)
    admitted = ledger.admit(asking(3, pk))
    ledger.settle(admitted, Outcome(first, http_status=200))
    before = rows("*"), ledger.run(pk)

    with pytest.raises(keybrake.LedgerError):
        ledger.settle(admitted, Outcome(second, "pi_9", "settled", 1_000_000, http_status=500))

    assert (rows("*"), ledger.run(pk)) == before
    assert ledger.position("pi_9") is None


def test_unknown_twice_is_told_or_changes_nothing(ledger, rows):
    """Saying again that nobody knows moves no money and no state."""
    pk = opened(ledger, cap=5)
    admitted = ledger.admit(asking(3, pk))
    ledger.settle(admitted, Outcome(State.UNKNOWN, note="first"))
    before = rows("state, reason, reserved_micros"), ledger.run(pk)
    with contextlib.suppress(keybrake.LedgerError):
        ledger.settle(admitted, Outcome(State.UNKNOWN, note="second"))

    assert (rows("state, reason, reserved_micros"), ledger.run(pk)) == before


def test_a_refused_call_has_a_row_and_counts_nowhere(ledger, rows):
    """Its row says why; the run says how many there were."""
    pk = opened(ledger, cap=5)
    with pytest.raises(keybrake.CapExceeded) as refused:
        ledger.admit(asking(6, pk))

    assert refused.value.run_id == "run_1"
    assert counted(ledger.run(pk)) == (0, 0, 0, 1)
    assert rows("state, reason, reserved_micros, cost_micros") == [
        ("refused", "cap_exceeded", 0, None)
    ]


def test_the_last_micro_fits_and_one_more_does_not(ledger):
    """The cap is a hard edge, exact to the micro."""
    pk = opened(ledger, cap=5)
    ledger.admit(asking(4.999999, pk))
    ledger.admit(asking(0.000001, pk))
    with pytest.raises(keybrake.CapExceeded):
        ledger.admit(asking(0.000001, pk))
    ledger.admit(asking(0, pk))

    assert counted(ledger.run(pk)) == (0, 5, 3, 1)


def test_every_scope_of_a_chain_is_charged_or_none(ledger):
    """A refusal by the outermost leaves the innermost as it was."""
    outer = opened(ledger, cap=3)
    inner = opened(ledger, "run_2", parent=outer, cap=9)
    ledger.admit(asking(2, inner, outer))
    with pytest.raises(keybrake.CapExceeded):
        ledger.admit(asking(2, inner, outer))

    assert counted(ledger.run(inner)) == counted(ledger.run(outer)) == (0, 2, 1, 1)


def test_a_cost_beyond_the_cap_is_recorded_and_nothing_more_is_admitted(ledger):
    """What a vendor prices afterwards is written down as it is."""
    pk = opened(ledger, cap=5)
    ledger.settle(ledger.admit(asking(3, pk)), settled(8, "pi_1"))

    assert counted(ledger.run(pk)) == (8, 0, 1, 0)
    assert ledger.run(pk).remaining == 0
    with pytest.raises(keybrake.CapExceeded):
        ledger.admit(asking(0.000001, pk))


def test_one_event_is_counted_once(ledger):
    """Calls on one position reserve only what they may add, and cost only what they did."""
    pk = opened(ledger, cap=10)
    ledger.settle(ledger.admit(asking(5, pk)), settled(5, "pi_1"))
    capture = ledger.admit(asking(5, pk, position="pi_1"))
    assert capture.reserved == 0
    ledger.settle(capture, settled(5, "pi_1"))
    more = ledger.admit(asking(8, pk, position="pi_1"))
    assert more.reserved == 3_000_000
    ledger.settle(more, settled(8, "pi_1"))

    assert counted(ledger.run(pk)) == (8, 0, 3, 0)
    assert ledger.position("pi_1").value_micros == 8_000_000


def test_what_a_position_loses_goes_back_to_who_paid(ledger, rows):
    """A capture in another run gives back to the run that reserved, newest charge first."""
    one, other = opened(ledger, cap=10), opened(ledger, "run_2", cap=10)
    ledger.settle(ledger.admit(asking(5, one)), settled(5, "pi_1"))
    ledger.settle(ledger.admit(asking(8, other, position="pi_1")), settled(8, "pi_1"))
    ledger.settle(ledger.admit(asking(8, one, position="pi_1")), settled(4, "pi_1"))

    assert counted(ledger.run(one))[:2] == (4, 0)
    assert counted(ledger.run(other))[:2] == (0, 0)
    assert rows("cost_micros") == [(4_000_000,), (0,), (0,)]


def test_a_look_may_shrink_a_position_and_never_grows_it(ledger):
    """A guarded read settles what a position is worth, downwards only, and makes none."""
    pk = opened(ledger, cap=10)
    ledger.settle(ledger.admit(asking(5, pk)), settled(5, "pi_1"))
    for seen, worth in ((9_000_000, 5), (2_000_000, 2), (4_000_000, 2)):
        look = ledger.admit(asking(0, pk, call=READ))
        ledger.settle(look, Outcome(State.SETTLED, "pi_1", "settled", seen, observed=True))
        assert counted(ledger.run(pk))[0] == worth
    look = ledger.admit(asking(0, pk, call=READ))
    ledger.settle(look, Outcome(State.SETTLED, "pi_2", "settled", 1, observed=True))

    assert ledger.position("pi_2") is None


def test_a_note_has_a_row_and_charges_nothing(ledger, rows):
    """Look-ups, unguarded calls and refusals outside of every run are on record."""
    pk = opened(ledger, cap=5)
    ledger.note(Note("n1", READ, State.SETTLED, "lookup", run=pk, tool="pay", http_status=200))
    ledger.note(Note("n2", MONEY, State.UNGUARDED, "a reason"))

    assert counted(ledger.run(pk)) == (0, 0, 0, 0)
    assert rows("run_id, tool, state, reason, http_status") == [
        ("run_1", "pay", "settled", "lookup", 200),
        (None, None, "unguarded", "a reason", None),
    ]


# Stopping


@pytest.mark.parametrize(
    ("stop", "refusal"),
    [
        (lambda ledger, pk: ledger.revoke("run_1"), keybrake.RunRevoked),
        (lambda ledger, pk: ledger.pause("run_1"), keybrake.RunPaused),
        (lambda ledger, pk: ledger.close_run(pk), keybrake.RunClosed),
    ],
    ids=["revoke", "pause", "close"],
)
def test_a_stopped_run_admits_nothing_and_still_settles(ledger, stop, refusal):
    """What was admitted before finishes; the next call and the next child are refused."""
    pk = opened(ledger, cap=5)
    admitted = ledger.admit(asking(1, pk))
    stop(ledger, pk)
    for _ in range(2):
        with pytest.raises(refusal):
            ledger.admit(asking(1, pk))
    with pytest.raises(refusal):
        ledger.admit(asking(0, pk, call=READ))
    with pytest.raises(refusal):
        opened(ledger, "run_2", parent=pk)
    ledger.settle(admitted, settled(1, "pi_1"))

    assert counted(ledger.run(pk)) == (1, 0, 1, 3)
    assert [run.uid for run in ledger.runs()] == ["run_1"]


def test_resume_undoes_a_pause_and_nothing_else(ledger):
    """A paused run goes on; a revoked or closed one does not."""
    pk = opened(ledger)
    ledger.pause("run_1")
    ledger.resume("run_1")
    ledger.admit(asking(1, pk))
    ledger.revoke("run_1")
    ledger.revoke("run_1")
    with pytest.raises(keybrake.LedgerError, match="is revoked and cannot be resumed"):
        ledger.resume("run_1")
    for verb in (ledger.revoke, ledger.pause, ledger.resume):
        with pytest.raises(keybrake.LedgerError, match="there is no run 'run_9'"):
            verb("run_9")


def test_the_moment_of_the_first_word_stays(ledger):
    """Revoking again does not move the moment it was revoked at."""
    pk = opened(ledger)
    ledger.revoke("run_1")
    first = ledger.run(pk).revoked_at
    ledger.revoke("run_1")
    ledger.close_run(pk)

    assert ledger.run(pk).revoked_at == first
    assert ledger.run(pk).state() == "revoked"


# Time


def test_time_never_runs_backwards_for_calls(ledger, monkeypatch, rows):
    """A clock that is set back leaves rows in order, and expired runs expired."""
    start = now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    short, long = opened(ledger, expires_in="1h"), opened(ledger, "run_2", expires_in=None)
    now = start + 2 * clock.HOUR
    ledger.admit(asking(1, long))
    now = start - clock.DAY
    with pytest.raises(keybrake.RunExpired):
        ledger.admit(asking(1, short))
    ledger.admit(asking(1, long))

    moments = [at for (at,) in rows("at")]
    assert moments == sorted(moments)
    assert len(set(moments)) == 1


@pytest.mark.parametrize("recorded_by", ["open_run", "close_run", "revoke", "settle", "note"])
def test_no_recorded_moment_is_ever_in_the_future(ledger, monkeypatch, recorded_by):
    """Whatever wrote down the latest moment, a clock set back does not revive an expired run."""
    start = now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    short, long = opened(ledger, expires_in="1h"), opened(ledger, "run_2", expires_in=None)
    admitted = ledger.admit(asking(1, long))
    now = start + 2 * clock.HOUR
    {
        "open_run": lambda: opened(ledger, "run_3"),
        "close_run": lambda: ledger.close_run(long),
        "revoke": lambda: ledger.revoke("run_2"),
        "settle": lambda: ledger.settle(admitted, settled(1, "pi_1")),
        "note": lambda: ledger.note(Note("n", READ, State.UNGUARDED, "why")),
    }[recorded_by]()
    now = start
    with pytest.raises(keybrake.RunExpired):
        ledger.admit(asking(1, short))


# Together


def test_threads_never_pass_the_cap_together(ledger):
    """Whoever comes first is admitted; the sum is the cap, to the cent."""
    pk = opened(ledger, cap=20)
    outcomes: list[str] = []

    def spend() -> None:
        for _ in range(5):
            try:
                admitted = ledger.admit(asking(1, pk))
            except keybrake.CapExceeded:
                outcomes.append("refused")
            else:
                ledger.settle(admitted, settled(1))
                outcomes.append("admitted")

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (outcomes.count("admitted"), outcomes.count("refused")) == (20, 20)
    assert counted(ledger.run(pk)) == (20, 0, 20, 20)


def test_the_views_have_their_documented_columns(ledger, select):
    """Other programs read these; what they are called does not change."""
    pk = opened(ledger, cap=5)
    ledger.settle(ledger.admit(asking(2, pk)), settled(2, "pi_1"))
    ledger.admit(asking(1, pk))
    with pytest.raises(keybrake.CapExceeded):
        ledger.admit(asking(9, pk))

    def one(columns: str, view: str) -> tuple[Any, ...]:
        (row,) = select(f"{columns} FROM {view}")
        return row

    assert one("label, spent_usd, reserved_usd, cap_usd, calls, refused", "spend_by_run") == (
        "label of run_1", 2.0, 1.0, 5.0, 2, 1,
    )  # fmt: skip
    for view in ("spend_by_endpoint", "spend_by_day"):
        assert one("spent_usd, spent_micros, reserved_micros, calls, refused", view) == (
            2.0, 2_000_000, 1_000_000, 2, 1,
        )  # fmt: skip
    columns = (
        "seq, at, run_id, label, tool, vendor, endpoint, method, path, state, reason, reserved_micros, cost_micros, "
        "amount, currency, object_id, http_status, duration_ms, would_refuse"
    )
    assert len(select(f"{columns} FROM call_log")) == 3
