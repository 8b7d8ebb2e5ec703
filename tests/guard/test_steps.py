"""Does a call wait only where it may, and find out first what it has to know, and no more?"""

import fcntl
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

import keybrake
from keybrake.guard import caller as callers
from keybrake.guard import lookups
from keybrake.guard.call import guarded
from keybrake.guard.caller import Caller
from keybrake.guard.steps import run_steps
from keybrake.guard.task_batching import LedgerStep
from keybrake.ledger import Admission, Busy, Ledger
from keybrake.model.call import Call, Effect, Lookup, Outcome, Position, Reply, State
from tests._doors import ASKED, INTENT, PAID, HandDoor, refund, request, take


@pytest.fixture
def caller(ledger_url):
    """Return who calls from within a run."""
    keybrake.configure(lock_timeout=3)
    with keybrake.run("agent", cap=50):
        yield callers.resolve(None)


# What the steps say of themselves


class Polite:
    """Walks a way while somebody else keeps holding the ledger's lock for a moment."""

    def __init__(self, ledger: Ledger) -> None:
        self.lock = ledger.path.with_name(ledger.path.name + ".lock")
        self.waited: list[LedgerStep] = []

    def walk(self, way: Any) -> Any:
        step = next(way)
        try:
            while True:
                try:
                    result = self.take(step) if isinstance(step, LedgerStep) else step.send()
                except keybrake.CallRefused as error:
                    step = way.throw(error)
                else:
                    step = way.send(result)
        except StopIteration as end:
            return end.value

    def take(self, step: LedgerStep) -> Any:
        """Take a step that is told not to wait; if it had to, tell it that it may."""
        other = os.open(self.lock, os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX)
        try:
            return step.take(wait=False)
        except Busy:
            self.waited.append(step)
            threading.Timer(0.05, fcntl.flock, (other, fcntl.LOCK_UN)).start()
            return step.take(wait=True)
        finally:
            os.close(other)


@pytest.fixture
def polite(caller: Caller) -> Polite:
    """Return a walker that lets the ledger's lock be held at every step."""
    return Polite(caller.ledger)


def test_a_call_waits_for_the_books_only_if_it_may(caller: Caller, polite):
    """Two writes of one ledger, the first one durable: to admit it, and to settle it."""
    door = HandDoor(request())
    answer = polite.walk(guarded(door))
    admit, settle = polite.waited

    assert answer is PAID
    assert (admit.shared_ledger, admit.durable) == (caller.ledger, True)
    assert (settle.shared_ledger, settle.durable, settle.can_undo) == (caller.ledger, False, False)


def test_a_read_needs_no_durable_admission(polite):
    """It reserves nothing that a power cut could lose."""
    door = HandDoor(request("/v1/charges/ch_1", "GET", params={}))
    polite.walk(guarded(door))

    assert [step.durable for step in polite.waited] == [False, False]


def test_a_look_up_and_a_new_tool_wait_as_politely(caller: Caller, polite, rows):
    """The one is written down when it is over, the other when it is first called."""
    look = lookups._looked_up(HandDoor(request()), ASKED, Lookup(path="/v1/0"), caller)
    polite.walk(look)

    @keybrake.tool
    def pay() -> None:
        polite.walk(guarded(HandDoor(request())))

    pay()
    assert [step.shared_ledger for step in polite.waited] == [
        caller.ledger,
        None,
        *[caller.ledger] * 2,
    ]
    assert [row["tool"] for row in rows()] == [None, "pay"]


def test_what_is_not_guarded_waits_as_politely(polite, rows):
    """An unguarded call, and a call outside of every run, are written down by themselves."""
    with keybrake.unguarded("an errand"):
        polite.walk(guarded(HandDoor(request())))
    token = callers.active.set(None)
    try:
        with pytest.raises(keybrake.NoActiveRun):
            polite.walk(guarded(HandDoor(request())))
    finally:
        callers.active.reset(token)

    assert [step.shared_ledger for step in polite.waited] == [None, None]
    assert [row["state"] for row in rows()] == ["unguarded", "refused"]


def test_an_admission_that_nobody_waits_for_is_taken_back(caller: Caller, rows):
    """A task that was cancelled while it waited for the ledger has sent nothing."""
    way = guarded(HandDoor(request()))
    step = way.send(next(way).take(wait=True))
    step.undo(step.take(wait=True))

    (row,) = rows()
    assert (row["state"], row["reason"], row["cost"]) == ("voided", "cancelled", 0)
    way.close()


# Looking up first


def looked_up(rows: Callable[[], list[dict[str, Any]]]) -> list[tuple[Any, ...]]:
    """Return what is on record of the look-ups."""
    columns = "vendor", "endpoint", "method", "path", "account", "state", "reason", "http_status"
    found = [row for row in rows() if row["endpoint"].endswith(".lookup")]
    assert all(len(row["uid"]) == 24 for row in found)
    return [tuple(row[name] for name in (*columns, "run", "tool")) for row in found]


def test_what_the_ledger_knows_is_not_asked_of_the_vendor(ledger_url, rows):
    """A capture of what was counted already adds nothing to it."""
    door = HandDoor(request("/v1/payment_intents/pi_1/capture", params={}))
    with keybrake.run("agent", cap=5) as run:
        take(HandDoor(request()))
        take(door)

    assert door.looked_up == []
    assert [row["reserved"] for row in rows()] == [5_000_000, 0]
    assert (run.calls, run.spent) == (2, 5)


def test_what_is_in_doubt_is_asked_of_the_vendor(ledger_url, rows):
    """While a write on it is under way, the ledger may know less than the vendor."""
    capture = request("/v1/payment_intents/pi_1/capture", params={}, account="acct_1")
    door = HandDoor(capture)
    door.found = ({**INTENT, "amount_received": 700, "amount": 700}, 200)

    def meanwhile() -> Reply:
        take(door)
        return PAID

    with keybrake.run("agent", cap=30):
        take(HandDoor(request(account="acct_1")))
        take(HandDoor(capture, meanwhile))

    (look,) = door.looked_up
    assert look.path == "/v1/payment_intents/pi_1"
    assert [row["reserved"] for row in rows()] == [5_000_000, 0, 0, 2_000_000]
    assert looked_up(rows) == [
        ("stripe", "stripe.lookup", "GET", look.path, "acct_1", "settled", "lookup", 200, 1, None)
    ]


def test_a_look_up_is_on_record_with_the_tool_it_was_made_in(ledger_url, rows):
    """A call that costs nothing is a call still."""
    door = HandDoor(refund())
    door.found = ({**INTENT, "amount_received": 700, "amount": 700}, 200)

    @keybrake.tool
    def give_back() -> None:
        take(door)

    with keybrake.run("agent", cap=20):
        give_back()

    assert [row[-3:] for row in looked_up(rows)] == [(200, 1, "give_back")]


@pytest.mark.parametrize(
    ("found", "status"), [((None, 404), 404), (TimeoutError("slow"), None)], ids=["none", "late"]
)
def test_what_cannot_be_found_out_is_refused(ledger_url, rows, caplog, found, status):
    """The amount stays unknown, so nothing goes out, and the look-up is on record all the same."""
    door = HandDoor(refund())
    door.found = found
    with (
        caplog.at_level(logging.DEBUG, "keybrake"),
        keybrake.run("agent", cap=20),
        pytest.raises(keybrake.UnknownCost),
    ):
        take(door)

    assert [row[7] for row in looked_up(rows)] == [status]
    assert door.keys == []
    failed = [it.getMessage() for it in caplog.records if "look-up" in it.getMessage()]
    words = "look-up of /v1/payment_intents/pi_1 failed: TimeoutError('slow')"
    assert failed == ([words] if status is None else [])


def test_what_is_refused_anyway_is_not_looked_up(ledger_url, rows):
    """A run that may make no call asks the vendor nothing either."""
    door = HandDoor(refund())
    with keybrake.run("agent", cap=20, max_calls=0), pytest.raises(keybrake.CallLimitReached):
        take(door)

    assert door.looked_up == []
    assert [row["reason"] for row in rows()] == ["call_limit_reached"]


class Curious:
    """A vendor to whom no look-up says enough, until it has had its fill."""

    def __init__(self, fill: int) -> None:
        self.fill = fill
        self.found: list[Position | Mapping[str, Any]] = []

    def complete(self, call: Call, found: Position | Mapping[str, Any], money: object) -> Call:
        assert call.lookup is None
        assert money is not None
        self.found.append(found)
        more = len(self.found) < self.fill
        return call._replace(lookup=Lookup(path=f"/v1/{len(self.found)}")) if more else call


@pytest.mark.parametrize(("fill", "refused"), [(19, False), (20, False), (21, True)])
def test_a_call_may_need_twenty_look_ups_and_no_more(caller: Caller, fill, refused):
    """Beyond that its amount counts as unknown, in words that say so."""
    door, vendor = HandDoor(request()), Curious(fill)
    door.found = ({"id": "x"}, 200)
    asking = ASKED._replace(lookup=Lookup(path="/v1/0"))
    call = run_steps(lookups.complete(door, vendor, asking, caller))

    assert len(door.looked_up) == min(fill, 20)
    assert vendor.found == [{"id": "x"}] * min(fill, 20)
    words = ("unknown_amount", "more than 20 look-ups would be needed")
    assert call.refusal == (words if refused else None)


def test_a_look_up_that_takes_too_long_is_given_up(caller: Caller):
    """Each goes to the vendor with a limit of ten seconds, and what the door raises ends nothing."""
    way = lookups._looked_up(HandDoor(request()), ASKED, Lookup(path="/v1/0"), caller)
    step = next(way)

    assert step.limit_s == 10
    books = way.throw(TimeoutError())
    assert books.shared_ledger is caller.ledger
    books.take(wait=True)
    with pytest.raises(StopIteration) as end:
        way.send(None)
    assert end.value.value == {}


def test_a_refusal_found_on_the_way_ends_the_looking(caller: Caller):
    """What may not go out is not looked into any further."""
    door = HandDoor(request())
    asking = ASKED._replace(lookup=Lookup(path="/v1/0"), refusal=("no_rate", "none"))

    assert run_steps(lookups.complete(door, Curious(2), asking, caller)) is asking
    assert door.looked_up == []


def test_what_the_ledger_does_not_know_and_the_vendor_is_not_asked_stays_open(caller: Caller):
    """A look-up of a position that is not there, without a path, leaves the call as it is."""
    asking = ASKED._replace(lookup=Lookup(known_as="stripe::pi_none"))

    assert run_steps(lookups.complete(HandDoor(request()), Curious(2), asking, caller)) is asking


def test_a_position_in_doubt_is_better_than_nothing(caller: Caller):
    """Where the vendor cannot be asked, what the ledger knows is what is known."""
    paid = caller.ledger.admit(Admission("u", ASKED, (caller.pk,)))
    outcome = Outcome(State.SETTLED, "stripe::pi_9", "settled", 5_000_000)
    caller.ledger.settle(paid, outcome)
    write = ASKED._replace(position="stripe::pi_9")
    caller.ledger.admit(Admission("v", write, (caller.pk,)))
    vendor = Curious(1)
    asking = ASKED._replace(lookup=Lookup(known_as="stripe::pi_9"))
    run_steps(lookups.complete(HandDoor(request()), vendor, asking, caller))

    (found,) = vendor.found
    assert (found.key, found.in_doubt) == ("stripe::pi_9", True)


# What is kept of a request


def test_a_request_is_kept_with_what_was_found_out():
    """Its parameters, its worth, what look-ups brought and what it takes back, as JSON."""
    call = Call("stripe", "x", "POST", "/", Effect.MONEY, value_micros=7)
    call = call._replace(gathered=("a", 1), offsets="stripe::pi_1")

    assert json.loads(lookups._facts_kept(call, {"amount": 5})) == {
        "params": {"amount": 5},
        "value": 7,
        "gathered": ["a", 1],
        "offsets": "stripe::pi_1",
    }


@pytest.mark.parametrize(
    ("gathered", "params"),
    [
        ((1.5,), {}),
        (("a", None), {}),
        ((True,), {}),
        ((), {"file": object()}),
        ((), {"itself": float("inf"), "set": {1}}),
    ],
)
def test_what_json_cannot_carry_is_not_kept(gathered, params):
    """Half of a request would be worse than none."""
    call = ASKED._replace(gathered=gathered)

    assert lookups._facts_kept(call, params) is None


def test_a_request_that_refers_to_itself_is_not_kept():
    """Nor does it raise."""
    params: dict[str, Any] = {}
    params["params"] = params

    assert lookups._facts_kept(ASKED, params) is None


def test_a_long_request_is_not_kept():
    """Up to 64 KiB are, to the letter."""
    empty = len(lookups._facts_kept(ASKED, ""))
    fits = lookups._facts_kept(ASKED, "x" * (64 * 1024 - empty))

    assert len(fits) == 64 * 1024
    assert lookups._facts_kept(ASKED, "x" * (64 * 1024 - empty + 1)) is None
