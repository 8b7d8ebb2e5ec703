"""Does every call go the whole way: who, what, may it, there and back, and what became of it?"""

import asyncio
import json
import logging
import sqlite3
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import keybrake
from keybrake.guard import caller
from keybrake.model.call import Reply
from tests._doors import PAID, URL, HandDoor, TaskDoor, fails, request, take, take_async

# There and back


def test_an_answer_comes_back_untouched_and_is_on_record(ledger_url, rows):
    """The very object that the SDK returned goes on; the row says what it cost."""
    door = HandDoor(request())

    @keybrake.tool
    def pay() -> object:
        return take(door)

    with keybrake.run("agent", cap=9):
        answer = pay()

    (row,) = rows()
    assert answer is PAID
    assert (row["tool"], row["run"]) == ("pay", 1)
    assert (row["state"], row["cost"], row["object_id"]) == ("settled", 5_000_000, "pi_1")
    assert (row["origin"], row["http_status"], row["reason"]) == (URL, 200, None)
    assert door.keys == [f"kb-{row['uid']}"]
    assert len(row["uid"]) == 24


def test_the_callers_own_key_is_kept(ledger_url, rows):
    """A key that the caller chose goes out as it is."""
    door = HandDoor(request(idempotency_key="mine"))
    with keybrake.run("agent", cap=9):
        take(door)

    assert door.keys == ["mine"]
    assert rows()[0]["idempotency_key"] == "mine"


def test_while_it_is_under_way_the_books_have_it_in_full(ledger_url, rows):
    """Before anything is sent the row is there, reserved, with all that reading a lost answer takes."""
    seen: list[dict[str, Any]] = []

    def send() -> Reply:
        seen.extend(rows())
        return PAID

    with keybrake.run("agent", cap=9):
        take(HandDoor(request(account="acct_1"), send))

    (row,) = seen
    assert (row["state"], row["reserved"], row["account"]) == ("reserved", 5_000_000, "acct_1")
    assert json.loads(row["request"]) == {
        "params": {"amount": 500, "currency": "usd"},
        "value": 5_000_000,
        "gathered": [],
        "offsets": None,
    }


def test_a_read_keeps_no_request(ledger_url, rows):
    """Only what moves money is worth keeping for the case that its answer is lost."""
    seen: list[dict[str, Any]] = []
    door = HandDoor(
        request("/v1/charges/ch_1", "GET", params={}), lambda: seen.extend(rows()) or Reply(200)
    )
    with keybrake.run("agent", cap=9):
        take(door)

    assert [row["request"] for row in seen] == [None]


@pytest.mark.parametrize("place", ["slot", "environment"])
def test_a_vault_key_says_whose_call_it_is(ledger_url, rows, monkeypatch, place):
    """In the SDK's slot or in the environment: the call is that run's, and capped as that run is."""
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_mine")
    key = str(keybrake.issue_vault_key("keyed", cap=6))
    door = HandDoor(request())
    if place == "slot":
        door.vault_key = key
    else:
        monkeypatch.setenv("KEYBRAKE_VAULT_KEY", key)
    take(door)
    with pytest.raises(keybrake.CapExceeded):
        take(door)

    assert [(row["state"], row["run"]) for row in rows()] == [("settled", 1), ("refused", 1)]


def test_a_task_goes_the_same_way(ledger_url, rows):
    """Awaited where it is sent, looked up and answered as in a thread."""
    door = TaskDoor(request())
    with keybrake.run("agent", cap=9):
        answer = asyncio.run(take_async(door))

    assert answer is PAID
    assert [row["state"] for row in rows()] == ["settled"]
    assert door.keys == [f"kb-{rows()[0]['uid']}"]


def test_without_a_run_nothing_is_asked_and_nothing_added(unmade_ledger, rows, tmp_path):
    """A process that never opened a run calls as if keybrake were not there."""
    door = HandDoor(request())

    assert take(door) is PAID
    assert door.keys == [None]
    assert not (tmp_path / "ledger.db").exists()


def test_an_error_of_the_vendors_goes_on_and_counts(ledger_url, rows):
    """What the SDK raised is raised, the very same object; the call is unknown and stays reserved."""
    broken = ConnectionResetError("lost")
    door = HandDoor(request(), fails(broken))
    with keybrake.run("agent", cap=9) as run:
        with pytest.raises(ConnectionResetError) as raised:
            take(door)
        assert (run.spent, run.reserved) == (0, 5)

    (row,) = rows()
    assert raised.value is broken
    assert door.failures == [broken]
    assert (row["state"], row["reason"]) == ("unknown", None)


def test_an_answer_is_read_with_the_configured_rates(ledger_url, rows):
    """What was taken in another currency than was asked for is worth what that is worth."""
    keybrake.configure(usd_per={"eur": "1.10"}, margin_bps=0)
    paid = str(PAID.body).replace("usd", "eur")
    with keybrake.run("agent", cap=9):
        take(HandDoor(request(), lambda: Reply(200, {}, paid)))

    assert rows()[0]["cost"] == 5_500_000


def test_what_cannot_be_read_counts_in_full(ledger_url, rows, caplog):
    """A surprise in the answer loses neither the answer nor the money."""

    class Odd(HandDoor):
        def reply(self, answer: Reply) -> Reply:
            raise LookupError

    with keybrake.run("agent", cap=9), caplog.at_level(logging.ERROR, "keybrake"):
        assert take(Odd(request())) is PAID

    (row,) = rows()
    assert (row["state"], row["reason"]) == ("unknown", "the answer could not be read")
    (record,) = caplog.records
    assert record.getMessage() == (
        "stripe.payment_intents.create: the answer cannot be read; the call counts in full"
    )
    assert record.exc_info is not None


def test_what_an_error_says_may_be_unreadable_too(ledger_url, rows):
    """The SDK's error is raised all the same."""

    class Odd(HandDoor):
        def failure(self, error: BaseException) -> Reply:
            raise LookupError

    with keybrake.run("agent", cap=9), pytest.raises(TimeoutError):
        take(Odd(request(), fails(TimeoutError())))

    assert rows()[0]["reason"] == "the answer could not be read"


# Refused


def test_a_refusal_is_one_of_the_sdks_errors_and_sends_nothing(ledger_url, rows):
    """The door dresses it last of all, and its own cause stays."""
    door = HandDoor(request())
    with keybrake.run("agent", cap=1), pytest.raises(keybrake.CapExceeded) as raised:
        take(door)

    assert raised.value.hint == "as the SDK's users catch it"
    assert raised.value.__cause__ is None
    assert door.keys == []
    assert [(row["state"], row["reason"]) for row in rows()] == [("refused", "cap_exceeded")]


def test_a_refusal_keeps_its_cause(ledger_url, tmp_path):
    """Whoever reads the traceback sees what the ledger failed with."""
    with keybrake.run("agent", cap=9):
        (tmp_path / "ledger.db").rename(tmp_path / "away")
        with pytest.raises(keybrake.LedgerUnavailable) as raised:
            take(HandDoor(request()))
        (tmp_path / "away").rename(tmp_path / "ledger.db")

    assert type(raised.value.__cause__).__name__ == "Unusable"


@pytest.fixture
def outside(ledger_url) -> Callable[[HandDoor], keybrake.CallRefused]:
    """Return a function that calls outside of the run this process has open."""

    def call(door: HandDoor) -> keybrake.CallRefused:
        token = caller.active.set(None)
        try:
            with pytest.raises(keybrake.NoActiveRun) as raised:
                take(door)
        finally:
            caller.active.reset(token)
        return raised.value

    return call


def test_a_call_outside_of_the_open_run_is_on_record(outside, rows):
    """It is refused, and the ledger says which call it was."""
    door = HandDoor(request())
    with keybrake.run("agent", cap=9):
        outside(door)

    (row,) = rows()
    assert (row["state"], row["reason"], row["run"]) == ("refused", "no_active_run", None)
    assert (row["endpoint"], len(row["uid"])) == ("stripe.payment_intents.create", 24)
    assert door.keys == []


def test_a_refusal_that_cannot_be_written_down_is_a_refusal(outside, tmp_path, caplog):
    """It is the refusal that is raised, not the ledger's; the log has the rest."""
    with keybrake.run("agent", cap=9), caplog.at_level(logging.WARNING, "keybrake"):
        (tmp_path / "ledger.db").rename(tmp_path / "away")
        outside(HandDoor(request()))
        (tmp_path / "away").rename(tmp_path / "ledger.db")

    (record,) = caplog.records
    assert record.getMessage().startswith("a refusal could not be written down: The ledger ")


def test_a_tool_without_a_ledger_is_refused_without_a_row(unmade_ledger, tmp_path):
    """Where this process has no run open there is no ledger to write to, and none is made."""

    @keybrake.tool(cap=1)
    def pay() -> object:
        return take(HandDoor(request()))

    with pytest.raises(keybrake.NoActiveRun):
        pay()
    assert not (tmp_path / "ledger.db").exists()


def test_an_unguarded_call_goes_out_once_it_is_in_writing(ledger_url, rows):
    """Its row is there when it is sent, with the reason, and the run it was made in."""
    seen: list[dict[str, Any]] = []
    door = HandDoor(request(), lambda: seen.extend(rows()) or PAID)
    with keybrake.run("agent", cap=1) as run, keybrake.unguarded("an errand"):
        assert take(door) is PAID

    (row,) = seen
    assert (row["state"], row["reason"], row["run"]) == ("unguarded", "an errand", 1)
    assert (row["endpoint"], len(row["uid"])) == ("stripe.payment_intents.create", 24)
    assert door.keys == [None]
    assert run.calls == 0


# When the books cannot be kept


@pytest.fixture
def full(ledger_url, tmp_path) -> Callable[[], Reply]:
    """Return a sender after whose work the ledger takes no outcome."""

    def send() -> Reply:
        other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        other.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON call BEGIN SELECT raise(ABORT, ''); END"
        )
        other.close()
        return PAID

    return send


def test_an_outcome_that_cannot_be_written_is_told(full, rows, caplog, ledger_url):
    """The answer goes back; warning and log name the run, the reason and the ledger."""
    with keybrake.run("agent", cap=9) as run:
        with pytest.warns(RuntimeWarning) as warned:
            assert take(HandDoor(request(), full)) is PAID
        assert (run.spent, run.reserved) == (0, 5)

    (warning,) = warned
    words = str(warning.message)
    assert words == (
        f"agent: the call was made, but its outcome could not be written down (); it stays "
        f"reserved in full in {ledger_url}"
    )
    assert [it.getMessage() for it in caplog.records if it.levelno == logging.WARNING] == [words]


def test_a_warning_that_is_an_error_hides_no_answer(full, caplog):
    """Where warnings are raised, the vendor's answer goes back all the same, and the log has it."""
    with (
        caplog.at_level(logging.DEBUG, "keybrake"),
        keybrake.run("agent", cap=9),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        assert take(HandDoor(request(), full)) is PAID

    first, second = caplog.records
    assert (first.levelno, second.levelno) == (logging.WARNING, logging.DEBUG)
    assert second.getMessage() == "warnings are errors in this process; the log has this one"
