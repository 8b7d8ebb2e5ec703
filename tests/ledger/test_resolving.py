"""Does what nobody knew end once, by proof alone, and at the cost of whoever made the call?"""

import os
import signal
import subprocess
import sys
import time

import pytest

import keybrake
from keybrake.errors import CallRefused, CapExceeded, LedgerError
from keybrake.ledger import Admission, NewRun, Note, doubts
from keybrake.model import clock
from keybrake.model.call import Call, Effect, Meter, Outcome, State
from keybrake.policy import decision
from keybrake.policy.policy import Limit, Policy, terms_of

CHARGE = Call(
    "stripe", "stripe.charges.create", "POST", "/v1/charges", Effect.MONEY, meter=Meter.CHARGE_IN
)
REFUND = Call(
    "stripe", "stripe.refunds.create", "POST", "/v1/refunds", Effect.MONEY, meter=Meter.OUTFLOW
)
UNKNOWN = Outcome(State.UNKNOWN)
VOIDED = Outcome(State.VOIDED)


@pytest.fixture
def ledger(tmp_path):
    """Open a new ledger."""
    return keybrake.open_ledger(tmp_path / "ledger.db")


@pytest.fixture
def run_of(ledger):
    """Return a function that opens a run."""

    def open_run(uid="run_1", **policy):
        terms = terms_of(Policy(**{"cap": None, **policy}))
        return ledger.open_run(NewRun(uid, uid, terms, None, uid.encode().ljust(32, b"\0")))

    return open_run


def admit(ledger, run, dollars, call=CHARGE, **facts):
    """Admit a call for so many dollars."""
    asked = call._replace(value_micros=dollars * 1_000_000, **facts)
    return ledger.admit(Admission(os.urandom(6).hex(), asked, (run,)))


def worth(dollars, key, state="settled", **facts):
    """Return the outcome that a position is worth so much."""
    return Outcome(State.SETTLED, key, state, dollars * 1_000_000, object_id=key, **facts)


def counted(ledger, run):
    """Return what a run has spent and reserved, in dollars."""
    record = ledger.run(run)
    return record.spent / 1e6, record.reserved / 1e6


# The same idempotency key


def test_a_retry_under_the_same_key_reserves_nothing_more(ledger, run_of):
    """After a timeout, the same key again is the same charge: it counts once, and ends both calls."""
    run = run_of(cap=10)
    first = admit(ledger, run, 10, idempotency_key="k")
    ledger.settle(first, UNKNOWN)
    again = admit(ledger, run, 10, idempotency_key="k")
    assert (again.reserved, again.leans_on) == (0, first.seq)
    ledger.settle(again, worth(10, "ch_1", replayed=True, conclusive=True))

    assert counted(ledger, run) == (10, 0)
    assert ledger.in_doubt() == []


def test_what_a_decline_under_the_same_key_proves(ledger, run_of):
    """A conclusive no ends the unknown call as well, and gives its reservation back."""
    run = run_of()
    ledger.settle(admit(ledger, run, 10, idempotency_key="k"), UNKNOWN)
    ledger.settle(
        admit(ledger, run, 10, idempotency_key="k"), Outcome(State.VOIDED, conclusive=True)
    )

    assert counted(ledger, run) == (0, 0)


def test_an_answer_that_proves_nothing_leaves_the_first_call_unknown(ledger, run_of):
    """A retry that never left says nothing about the call before it."""
    run = run_of()
    first = admit(ledger, run, 10, idempotency_key="k")
    ledger.settle(first, UNKNOWN)
    ledger.settle(admit(ledger, run, 10, idempotency_key="k"), VOIDED)

    assert counted(ledger, run) == (0, 10)
    assert [call.seq for call in ledger.in_doubt()] == [first.seq]


@pytest.mark.parametrize(
    "other",
    [{"idempotency_key": "l"}, {"owner": "b"}, {"account": "acct_2"}, {"path": "/v1/refunds"}],
)
def test_another_key_owner_account_or_path_is_another_call(ledger, run_of, other):
    """Only the very same request of the very same owner leans on an earlier one."""
    run = run_of()
    ledger.settle(admit(ledger, run, 10, idempotency_key="k", owner="a"), UNKNOWN)
    again = admit(ledger, run, 10, **{"idempotency_key": "k", "owner": "a", **other})

    assert (again.reserved, again.leans_on) == (10_000_000, None)


def test_a_call_in_flight_is_no_cover_for_another(ledger, run_of):
    """While the first is under way it may yet be voided, so the second reserves in full."""
    run = run_of()
    admit(ledger, run, 10, idempotency_key="k")

    assert admit(ledger, run, 10, idempotency_key="k").reserved == 10_000_000


def test_a_larger_amount_under_the_same_key_reserves_the_rest(ledger, run_of):
    """The vendor would refuse it; if it does not, no more than the rest is new."""
    run = run_of()
    ledger.settle(admit(ledger, run, 10, idempotency_key="k"), UNKNOWN)

    assert admit(ledger, run, 15, idempotency_key="k").reserved == 5_000_000


def test_another_run_does_not_lean_on_what_this_one_set_aside(ledger, run_of):
    """A cap of one run does not bind by what another has reserved: the retry there counts in full."""
    run, other = run_of("run_1"), run_of("run_2", cap=5)
    ledger.settle(admit(ledger, run, 10, idempotency_key="k"), UNKNOWN)
    with pytest.raises(CapExceeded):
        admit(ledger, other, 10, idempotency_key="k")


def test_a_larger_retry_outside_leaves_the_inner_cap_whole(ledger, run_of):
    """What a retry adds is charged where it was set aside, not to the child whose call it repeats."""
    parent = run_of("run_1", cap=100)
    terms = terms_of(Policy(cap=10))
    child = ledger.open_run(NewRun("run_2", "run_2", terms, None, b"2" * 32, parent=parent))
    asked = CHARGE._replace(value_micros=10_000_000, idempotency_key="k")
    ledger.settle(ledger.admit(Admission("u", asked, (child, parent))), UNKNOWN)
    again = ledger.admit(Admission("v", asked._replace(value_micros=80_000_000), (parent,)))
    assert again.reserved == 70_000_000
    ledger.settle(again, worth(80, "ch_1", conclusive=True))

    assert counted(ledger, child) == (10, 0)
    assert counted(ledger, parent) == (80, 0)
    ledger.observe(Note("n", CHARGE, State.SETTLED, "look"), worth(0, "ch_1", "released"))
    assert counted(ledger, child) == (0, 0)
    assert counted(ledger, parent) == (0, 0)


def test_a_replay_after_a_persons_word_adds_nothing(ledger, run_of):
    """What a person said an unknown call did cost is not counted again when its answer comes."""
    run = run_of(cap=10)
    first = admit(ledger, run, 10, idempotency_key="k")
    ledger.settle(first, UNKNOWN)
    ledger.resolve(first.seq, Outcome(State.SETTLED, value_micros=10_000_000), "by hand")
    again = admit(ledger, run, 10, idempotency_key="k")
    ledger.settle(again, worth(10, "ch_1", replayed=True, conclusive=True))

    assert counted(ledger, run) == (10, 0)


def test_a_persons_word_on_the_retry_ends_both_once(ledger, run_of):
    """Two unknown calls under one key are one event, whichever of them a person speaks of."""
    run = run_of(cap=10)
    ledger.settle(admit(ledger, run, 10, idempotency_key="k"), UNKNOWN)
    second = admit(ledger, run, 10, idempotency_key="k")
    ledger.settle(second, UNKNOWN)
    ledger.resolve(second.seq, Outcome(State.SETTLED, value_micros=10_000_000), "by hand")

    assert counted(ledger, run) == (10, 0)
    assert ledger.in_doubt() == []


def test_two_that_cost_what_they_reserved_are_one(ledger, run_of):
    """An answer that names no amount leaves both calls at what they had set aside together."""
    run = run_of(cap=10)
    ledger.settle(admit(ledger, run, 6, idempotency_key="k"), UNKNOWN)
    again = admit(ledger, run, 8, idempotency_key="k")
    ledger.settle(again, Outcome(State.SETTLED, conclusive=True))

    assert counted(ledger, run) == (8, 0)


def test_an_old_key_is_a_new_call(ledger, run_of, monkeypatch):
    """After a day the vendor may have forgotten the key: the call counts in full."""
    run = run_of()
    ledger.settle(admit(ledger, run, 10, idempotency_key="k"), worth(10, "ch_1"))
    later = clock.now() + 23 * clock.HOUR + clock.SECOND
    monkeypatch.setattr(clock, "now", lambda: later)

    assert admit(ledger, run, 10, idempotency_key="k").reserved == 10_000_000


def test_the_cap_holds_for_many_retries_of_one_key(ledger, run_of):
    """However often one unknown call is retried, it takes its cap once."""
    run = run_of(cap=10)
    for _ in range(5):
        ledger.settle(admit(ledger, run, 10, idempotency_key="k"), UNKNOWN)
    with pytest.raises(CapExceeded):
        admit(ledger, run, 1, idempotency_key="l")

    assert counted(ledger, run) == (0, 10)


# Resolving


def test_a_person_settles_a_call_once(ledger, run_of):
    """A word on an unknown call replaces its reservation; a second word is refused."""
    run = run_of(cap=10)
    call = admit(ledger, run, 10)
    ledger.settle(call, UNKNOWN)
    ledger.resolve(call.seq, Outcome(State.SETTLED, value_micros=4_000_000), "by hand")

    assert counted(ledger, run) == (4, 0)
    with pytest.raises(LedgerError, match="ended already"):
        ledger.resolve(call.seq, VOIDED, "by hand")
    assert counted(ledger, run) == (4, 0)


def test_a_call_that_others_count_on_is_resolved_last(ledger, run_of):
    """As long as a call leans on it, an unknown call keeps its reservation."""
    run = run_of()
    first = admit(ledger, run, 10, idempotency_key="k")
    ledger.settle(first, UNKNOWN)
    second = admit(ledger, run, 10, idempotency_key="k")
    ledger.settle(second, UNKNOWN)
    with pytest.raises(LedgerError, match=f"call {second.seq}.*resolve that one first"):
        ledger.resolve(first.seq, VOIDED, "by hand")
    ledger.resolve(second.seq, VOIDED, "by hand")
    ledger.resolve(first.seq, VOIDED, "by hand")

    assert counted(ledger, run) == (0, 0)


def test_a_call_that_is_not_there_cannot_be_resolved(ledger):
    """The error names the call and where to look."""
    with pytest.raises(LedgerError, match=r"no call 7 .*keybrake unresolved"):
        ledger.resolve(7, VOIDED, "by hand")


def test_a_call_under_way_is_not_in_doubt(ledger, run_of, monkeypatch):
    """A reserved call of a living process is neither listed nor resolved, until it is very old."""
    run = run_of()
    call = admit(ledger, run, 10)
    assert ledger.in_doubt() == []
    with pytest.raises(LedgerError, match="still be under way"):
        ledger.resolve(call.seq, VOIDED, "by hand")
    later = clock.now() + doubts.STILL_UNDER_WAY
    monkeypatch.setattr(clock, "now", lambda: later)

    assert [one.seq for one in ledger.in_doubt()] == [call.seq]
    ledger.resolve(call.seq, VOIDED, "by hand")


_ADMIT_AND_WAIT = """
import sys, time
import keybrake
from keybrake.model.call import Call, Effect
from keybrake.policy.policy import Policy, terms_of
from keybrake.ledger import Admission, NewRun
ledger = keybrake.open_ledger(sys.argv[1])
run = ledger.open_run(NewRun("run_9", "dies", terms_of(Policy(cap=None)), None, b"9" * 32))
call = Call("stripe", "stripe.charges.create", "POST", "/v1/charges", Effect.MONEY, value_micros=5)
ledger.admit(Admission("u", call, (run,)))
print("admitted", flush=True)
time.sleep(60)
"""


def test_the_death_of_its_process_puts_a_call_in_doubt(ledger, tmp_path):
    """A call whose process was killed counts, and is listed at once; while it lived it was not."""
    child = subprocess.Popen(
        [sys.executable, "-c", _ADMIT_AND_WAIT, f"sqlite:///{tmp_path / 'ledger.db'}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "admitted\n"
    assert ledger.in_doubt() == []
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()

    assert [(one.label, one.state, one.reserved) for one in ledger.in_doubt()] == [
        ("dies", "reserved", 5)
    ]
    ledger.resolve(ledger.in_doubt()[0].seq, VOIDED, "by hand")
    assert ledger.in_doubt() == []


def test_a_call_that_reserved_nothing_is_listed_when_its_process_dies(ledger, tmp_path):
    """Until it is resolved its position cannot shrink, so it must be found."""
    code = _ADMIT_AND_WAIT.replace(
        "print(",
        """
from keybrake.model.call import Outcome, State
made = ledger.admit(Admission("v", call, (run,)))
ledger.settle(made, Outcome(State.SETTLED, "pi_1", "settled", 5))
ledger.admit(Admission("w", call._replace(position="pi_1"), (run,)))
print(""",
    )
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    child = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "admitted\n"
    child.kill()
    child.wait()
    child.stdout.close()

    assert [(one.uid, one.reserved) for one in ledger.in_doubt()] == [("u", 5), ("w", 0)]
    ledger.resolve(ledger.in_doubt()[0].seq, VOIDED, "by hand")
    # Now that its run has nothing reserved any more, too.
    assert [one.uid for one in ledger.in_doubt()] == ["w"]


def test_a_forked_child_does_not_keep_its_parents_calls_alive(tmp_path):
    """When a process dies its calls are in doubt, even if a child of it lives on."""
    code = (
        _ADMIT_AND_WAIT.replace("time.sleep(60)", "")
        + "import os\nif os.fork() == 0:\n    time.sleep(60)\nos._exit(0)\n"
    )
    path = tmp_path / "ledger.db"
    ran = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, f"sqlite:///{path}"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert ran.stdout.readline() == "admitted\n"
        ran.wait(10)
        end = time.monotonic() + 5
        while not (found := keybrake.open_ledger(path).in_doubt()) and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        os.killpg(ran.pid, signal.SIGKILL)
        ran.stdout.close()

    assert [one.label for one in found] == ["dies"]


# Estimates


def test_a_late_price_settles_an_estimate(ledger, run_of):
    """A price below the estimate gives the rest back; one above is owed by whoever made the call."""
    run, reader = run_of("run_1", cap=10), run_of("run_2", cap=10)
    for key, price in (("SM1", 4), ("SM2", 7)):
        ledger.settle(admit(ledger, run, 5), worth(5, key, "estimated"))
        look = ledger.admit(
            Admission("r", CHARGE._replace(effect=Effect.READ, value_micros=0), (reader,))
        )
        ledger.settle(look, worth(price, key, observed=True))

    assert counted(ledger, run) == (11, 0)
    assert counted(ledger, reader) == (0, 0)
    assert ledger.estimated() == []


def test_a_price_past_the_cap_is_recorded_and_flagged(ledger, run_of):
    """What the vendor charges after all is counted beyond the cap; nothing more is admitted."""
    run = run_of(cap=5)
    ledger.settle(admit(ledger, run, 5), worth(5, "SM1", "estimated"))
    note = Note("n", CHARGE._replace(effect=Effect.READ), State.SETTLED, "reconcile")
    ledger.observe(note, worth(8, "SM1"))
    with pytest.raises(CapExceeded):
        admit(ledger, run, 1)

    assert counted(ledger, run) == (8, 0)
    assert ledger.in_doubt(1)[0].reason == "overrun"


def test_a_settled_position_does_not_grow_by_a_look(ledger, run_of):
    """What somebody else did to an object later is not this run's."""
    run = run_of()
    ledger.settle(admit(ledger, run, 5), worth(5, "pi_1"))
    note = Note("n", CHARGE._replace(effect=Effect.READ), State.SETTLED, "reconcile")
    ledger.observe(note, worth(8, "pi_1"))

    assert counted(ledger, run) == (5, 0)


# Refunds that count net


def charged_then_refunded(ledger, run, refund, state="settled", by=None):
    """Charge ten dollars in *run* and refund so many of them in *by*."""
    ledger.settle(admit(ledger, run, 10), worth(10, "ch_1"))
    call = admit(ledger, run if by is None else by, refund, REFUND, offsets="ch_1")
    ledger.settle(call, worth(refund, "re_1", state, offsets="ch_1"))
    return call


@pytest.mark.parametrize(("refund", "left"), [(10, 0), (4, 6), (0, 10)])
def test_a_net_refund_takes_back_what_its_run_spent(ledger, run_of, refund, left):
    """A refund of the run's own charge reserves nothing and lowers what the charge cost."""
    run = run_of(cap=10)
    call = charged_then_refunded(ledger, run, refund)

    assert call.reserved == 0
    assert counted(ledger, run) == (left, 0)


def test_a_net_refund_of_anothers_charge_counts(ledger, run_of):
    """What this run never spent it cannot take back."""
    payer, refunder = run_of("run_1"), run_of("run_2")
    call = charged_then_refunded(ledger, payer, 4, by=refunder)

    assert call.reserved == 4_000_000
    assert (counted(ledger, payer), counted(ledger, refunder)) == ((10, 0), (4, 0))


def test_a_net_refund_under_way_takes_nothing_back_yet(ledger, run_of):
    """A refund that may still fail leaves what its charge cost."""
    run = run_of()
    charged_then_refunded(ledger, run, 4, "in_flight")

    assert counted(ledger, run) == (10, 0)


# Meters


def test_a_meter_caps_one_kind_of_money(ledger, run_of):
    """A cap on what goes out leaves what comes in alone."""
    run = run_of(limits={"meter:outflow": Limit(cap=60)})
    admit(ledger, run, 500)
    admit(ledger, run, 50, REFUND)
    with pytest.raises(CapExceeded) as caught:
        admit(ledger, run, 11, REFUND)
    admit(ledger, run, 10, REFUND)

    assert "meter:outflow" in caught.value.scope
    assert "$60.00" in str(caught.value)


def test_a_meter_has_a_window_of_its_own(ledger, run_of, monkeypatch):
    """A limit on a meter may be per hour, too."""
    run = run_of(limits={"meter:outflow": Limit(cap=5, per="hour")})
    admit(ledger, run, 5, REFUND)
    with pytest.raises(CallRefused):
        admit(ledger, run, 1, REFUND)
    later = clock.now() + clock.HOUR
    monkeypatch.setattr(clock, "now", lambda: later)

    assert admit(ledger, run, 5, REFUND).reserved == 5_000_000


def test_an_unknown_meter_is_refused_where_it_is_written():
    """A limit on a meter that does not exist would never bind."""
    with pytest.raises(keybrake.PolicyError, match=r"meter:out.*known are meter:charge_in"):
        Policy(cap=1, limits={"meter:out": Limit(cap=1)})


# Standing authority


@pytest.mark.parametrize(
    ("allow", "goes"),
    [
        (None, False),
        (["stripe.issuing.cards.create"], True),
        (["stripe.issuing.*.create"], False),
        (["POST stripe:/v1/issuing/cards"], True),
        ([], False),
    ],
)
def test_standing_authority_is_allowed_by_its_exact_name_alone(ledger, run_of, allow, goes):
    """What cannot be priced needs more than a pattern that happens to fit."""
    run = run_of(allow=allow)
    call = Call(
        "stripe", "stripe.issuing.cards.create", "POST", "/v1/issuing/cards", Effect.AUTHORITY
    )
    if goes:
        assert ledger.admit(Admission("a", call, (run,))).reserved == 0
        return
    with pytest.raises(keybrake.EndpointNotAllowed) as caught:
        ledger.admit(Admission("a", call, (run,)))
    assert caught.value.reason in ("standing_authority", "endpoint_not_allowed")


def test_a_child_cannot_allow_itself_standing_authority():
    """Its name counts only where the outermost scope has it, too."""
    call = Call(
        "stripe", "stripe.issuing.cards.create", "POST", "/v1/issuing/cards", Effect.AUTHORITY
    )
    named = terms_of(Policy(cap=None, allow=["stripe.issuing.cards.create"]))
    free = terms_of(Policy(cap=None))

    def scope(pk, terms, parent):
        return decision.Standing(
            pk,
            f"run_{pk}",
            "run",
            "r",
            "enforce",
            terms,
            0,
            None,
            None,
            None,
            None,
            0,
            0,
            0,
            parent,
            (),
        )

    def refused(inner, outer):
        chain = [scope(2, inner, 1), scope(1, outer, None)]
        return decision.decide(chain, call, increase=0, now=0).refusal is not None

    assert refused(named, free)
    assert refused(free, free)
    assert not refused(free, named)
    assert not refused(named, named)
