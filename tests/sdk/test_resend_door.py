"""Does every call of the Resend SDK pass the one door, once?"""

import asyncio
import fcntl
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import resend
from resend.request import Request

import keybrake
from tests.sdk._resend_calls import KINDS, MAIL, do, send

pytestmark = pytest.mark.parametrize("kind", KINDS)


def test_an_email(fake_resend, ledger_url, rows, kind):
    """An email is one wire request, one row, and its recipients are spent."""
    with keybrake.run("agent", cap=1) as run:
        made = send(kind, {**MAIL, "cc": "c@example.com", "bcc": ["d@example.com"]})

    (row,) = rows()
    assert (row["endpoint"], row["state"]) == ("resend.emails.send", "settled")
    assert (row["cost"], row["amount"], row["meter"]) == (2700, None, "usage")
    assert (row["object_id"], row["http_status"]) == (made["id"], 200)
    assert (row["path"], row["method"]) == ("/emails", "POST")
    assert len(fake_resend.journal.entries) == 1
    assert fake_resend.journal.total("email") == 3
    assert str(run.spent) == "0.0027"


def test_a_batch(fake_resend, ledger_url, rows, kind):
    """A batch is one row, and what Resend did not take of it is not spent."""
    emails = [MAIL, {**MAIL, "to": "nobody"}, {**MAIL, "cc": "c@example.com"}]
    with keybrake.run("agent", cap=1) as run:
        with pytest.raises(resend.exceptions.ValidationError):
            do(kind, resend.Batch, "send", emails)
        assert run.spent == 0
        took = do(kind, resend.Batch, "send", emails, {"batch_validation": "permissive"})

    assert [error["index"] for error in took["errors"]] == [1]
    assert [(row["state"], row["reserved"], row["cost"]) for row in rows()] == [
        ("voided", 3600, 0),
        ("settled", 3600, 2700),
    ]
    assert fake_resend.journal.total("email") == 3
    assert str(run.spent) == "0.0027"


def test_the_cap_binds(fake_resend, ledger_url, rows, kind):
    """The email that does not fit under the cap is not sent."""
    with keybrake.run("agent", cap="0.0018") as run:
        send(kind)
        send(kind)
        with pytest.raises(keybrake.CapExceeded) as caught:
            send(kind)

    assert isinstance(caught.value, resend.exceptions.ResendError)
    assert fake_resend.journal.total("email") == 2
    assert (run.calls, run.refused) == (2, 1)


def test_everything_else_has_a_row(fake_resend, ledger_url, rows, kind):
    """Reads and what is free are one row each, and a cap of nothing lets them through."""
    with keybrake.run("agent", cap=0) as run:
        segment = do(kind, resend.Segments, "create", {"name": "All"})
        do(kind, resend.Contacts, "create", {"email": "b@x.y", "segments": [{"id": segment["id"]}]})
        do(kind, resend.Contacts, "list", None, {"limit": 5}, segment["id"])
        draft = {"segment_id": segment["id"], "from": "a@x.y", "subject": "Hi", "html": "x"}
        do(kind, resend.Broadcasts, "create", draft)
        do(kind, resend.Emails, "list")

    assert [(row["endpoint"], row["cost"], row["http_status"]) for row in rows()] == [
        ("resend.segments.create", 0, 201),
        ("resend.contacts.create", 0, 201),
        ("resend.contacts.list", 0, 200),
        ("resend.broadcasts.create", 0, 201),
        ("resend.emails.list", 0, 200),
    ]
    assert (str(run.spent), run.calls) == ("0.00", 5)


def test_a_scheduled_email_stays_counted(fake_resend, ledger_url, kind):
    """An email that is scheduled counts at once, and goes on counting when it is canceled."""
    with keybrake.run("agent", cap=1) as run:
        made = send(kind, {**MAIL, "scheduled_at": "in 1 hour"})
        do(kind, resend.Emails, "cancel", made["id"])

    assert str(run.spent) == "0.0009"


def test_a_broadcast_that_is_allowed(fake_resend, ledger_url, rows, kind):
    """A broadcast goes out where the allowlist names it, and the journal says to how many."""
    segment = resend.Segments.create({"name": "All"})
    for name in ("b", "c"):
        resend.Contacts.create({"email": f"{name}@x.y", "segments": [{"id": segment["id"]}]})
    draft = {"segment_id": segment["id"], "from": "a@x.y", "subject": "Hi", "html": "x"}
    with keybrake.run("agent", cap=1, allow=["resend.broadcasts.*"]):
        made = do(kind, resend.Broadcasts, "create", draft)
        with pytest.raises(keybrake.EndpointNotAllowed) as caught:
            do(kind, resend.Broadcasts, "send", {"broadcast_id": made["id"]})
    assert caught.value.reason == "standing_authority"

    with keybrake.run("agent", cap=1, allow=["resend.broadcasts.send"]) as run:
        do(kind, resend.Broadcasts, "send", {"broadcast_id": made["id"]})
    assert fake_resend.journal.total("broadcast") == 2
    assert str(run.spent) == "0.00"


def test_a_broadcast_with_a_price(fake_resend, ledger_url, kind):
    """A broadcast whose price the operator named is counted once, however often it is sent."""
    keybrake.configure(prices={"resend": {"endpoint": {"resend.broadcasts.send": "0.50"}}})
    segment = resend.Segments.create({"name": "All"})
    draft = {"segment_id": segment["id"], "from": "a@x.y", "subject": "Hi", "html": "x"}
    made = resend.Broadcasts.create(draft)
    with keybrake.run("agent", cap="0.50") as run:
        sent = {"broadcast_id": made["id"], "scheduled_at": "in 1 hour"}
        do(kind, resend.Broadcasts, "send", sent)
        do(kind, resend.Broadcasts, "cancel", made["id"])
        do(kind, resend.Broadcasts, "send", {"broadcast_id": made["id"]})

    assert str(run.spent) == "0.50"


def test_an_inbox_draft_is_looked_up(fake_resend, ledger_url, rows, kind):
    """Who gets an inbox draft is asked before it is sent, and the question has its own row."""
    to = {"inbox_id": "me@x.y", "to": ["b@x.y", "c@x.y"], "cc": "d@x.y", "subject": "Hi"}
    draft = do(kind, resend.Inboxes.Drafts, "create", to)
    with keybrake.run("agent", cap="0.0027") as run:
        do(kind, resend.Inboxes.Drafts, "send", "me@x.y", draft["id"])
        with pytest.raises(keybrake.UnknownCost):
            do(kind, resend.Inboxes.Drafts, "send", "me@x.y", "nothing-there")

    assert [(row["endpoint"], row["http_status"], row["cost"]) for row in rows()] == [
        ("resend.lookup", 200, None),
        ("resend.inboxes.drafts.send", 200, 2700),
        ("resend.lookup", 404, None),
        ("resend.inboxes.drafts.send", None, None),
    ]
    assert fake_resend.journal.total("email") == 3
    assert str(run.spent) == "0.0027"


def test_replies_and_forwards(fake_resend, ledger_url, rows, kind):
    """A forward counts whom it names; a reply needs a price of the operator's."""
    where = {"inbox_id": "i1", "thread_id": "t1", "email_id": "e1", "text": "Hello"}
    emails = resend.Inboxes.Threads.Emails
    with keybrake.run("agent", cap=1) as run:
        do(kind, emails, "forward", {**where, "to": ["b@x.y", "c@x.y"]})
        with pytest.raises(keybrake.UnknownCost):
            do(kind, emails, "reply", where)
        keybrake.configure(
            prices={"resend": {"endpoint": {"resend.inboxes.threads.emails.reply": "0.045"}}}
        )
        do(kind, emails, "reply", where)

    assert [row["cost"] for row in rows()] == [1800, None, 45_000]
    assert str(run.spent) == "0.0468"


def test_events_take_a_price(fake_resend, ledger_url, kind):
    """What an event starts nobody can count; the operator may say what one costs at most."""
    event = {"event": "user.created", "email": "b@x.y"}
    with keybrake.run("agent", cap=1) as run:
        with pytest.raises(keybrake.UnknownCost):
            do(kind, resend.Events, "send", event)
        keybrake.configure(prices={"resend": {"endpoint": {"resend.events.send": "0.05"}}})
        do(kind, resend.Events, "send", event)

    assert str(run.spent) == "0.05"


def test_a_key_of_our_own(fake_resend, ledger_url, rows, kind):
    """A call without an idempotency key gets its row's own id as one."""
    with keybrake.run("agent", cap=1):
        send(kind)
        send(kind, None, {})
        send(kind, None, {"idempotency_key": None})
        do(kind, resend.Batch, "send", [MAIL])

    sent = [entry.idempotency_key for entry in fake_resend.journal.entries]
    assert sent == [f"kb-{row['uid']}" for row in rows()]
    assert len(set(sent)) == 4


@pytest.mark.parametrize("own", ["welcome/7", "kb-mine", "k" * 256, 7])
def test_a_key_of_the_callers(fake_resend, ledger_url, rows, kind, own):
    """A caller's own key goes out as the SDK writes it, and its replay costs nothing."""
    with keybrake.run("agent", cap="0.0009") as run:
        first = send(kind, None, {"idempotency_key": own})
        again = send(kind, None, {"idempotency_key": own})

    assert first["id"] == again["id"]
    assert [entry.idempotency_key for entry in fake_resend.journal.entries] == [str(own)] * 2
    assert [entry.replayed for entry in fake_resend.journal.entries] == [False, True]
    assert [(row["reserved"], row["cost"]) for row in rows()] == [(900, 900), (0, 0)]
    assert str(run.spent) == "0.0009"


def test_a_lost_answer_is_found_under_its_key(fake_resend, ledger_url, rows, kind):
    """The same call under the same key says what became of the one whose answer was lost."""
    from keybrake.testing import Fault

    fake_resend.inject(Fault("reset_after"))
    with keybrake.run("agent", cap="0.0009") as run:
        with pytest.raises(resend.exceptions.ResendError):
            send(kind, None, {"idempotency_key": "welcome/7"})
        assert (str(run.spent), str(run.reserved)) == ("0.00", "0.0009")
        send(kind, None, {"idempotency_key": "welcome/7"})

    assert [row["state"] for row in rows()] == ["settled", "settled"]
    assert (str(run.spent), str(run.reserved)) == ("0.0009", "0.00")
    assert fake_resend.journal.total("email") == 1


def test_no_run_no_guard(fake_resend, ledger_url, kind):
    """In a process without a run calls are left alone, and no key is put in."""
    keybrake.install()
    send(kind)
    send(kind, None, {"idempotency_key": "mine"})

    assert [entry.idempotency_key for entry in fake_resend.journal.entries] == [None, "mine"]


def test_unguarded(fake_resend, ledger_url, rows, kind):
    """A call in unguarded() goes out as it is, with a row that says why."""
    with keybrake.run("agent", cap=0), keybrake.unguarded("a receipt"):
        send(kind)

    assert [(row["state"], row["reason"]) for row in rows()] == [("unguarded", "a receipt")]
    assert fake_resend.journal.entries[0].idempotency_key is None


def test_own_parameters_stay_as_they_were(fake_resend, ledger_url, kind):
    """The caller's dictionaries are not changed."""
    params = {**MAIL, "to": ["b@example.com"], "tags": [{"name": "a", "value": "b"}]}
    options = {"idempotency_key": None}
    with keybrake.run("agent", cap=1):
        send(kind, params, options)

    assert params == {**MAIL, "tags": [{"name": "a", "value": "b"}]}
    assert options == {"idempotency_key": None}


def test_a_request_that_is_performed_twice(fake_resend, ledger_url, rows, kind):
    """A request object of the caller's is two calls when it is performed twice."""
    kinds = {"sync": Request, "async": resend.AsyncRequest}
    request = kinds[kind]("/emails", MAIL, "post")

    def perform():
        if kind == "sync":
            return request.perform()
        return asyncio.run(request.perform())

    with keybrake.run("agent", cap=1) as run:
        assert perform()["id"] != perform()["id"]
        fake_resend.stop()
        with pytest.raises(resend.exceptions.ResendError):
            perform()

    # The status of the second answer is not taken for one of the third call.
    assert [row["state"] for row in rows()] == ["settled", "settled", "voided"]
    assert request.params is MAIL
    assert str(run.spent) == "0.0018"


def test_what_was_decided_on_is_what_is_sent(fake_resend, ledger_url, monkeypatch, kind):
    """Neither parameters nor key nor address that change while a call waits are what goes out."""
    params = {**MAIL, "to": ["b@example.com"]}
    lock = Path(ledger_url.removeprefix("sqlite:///") + ".lock")
    with keybrake.run("agent", cap=1) as run, ThreadPoolExecutor() as pool:
        with lock.open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            call = pool.submit(send, kind, params)
            # It has been described, and waits for the ledger.
            assert not wait([call], timeout=0.5).done
            params["to"].append("c@example.com")
            params["bcc"] = "d@example.com"
            monkeypatch.setattr(resend, "api_key", run.key)
            monkeypatch.setattr(resend, "api_url", "http://127.0.0.1:1")
        call.result(timeout=10)

    (entry,) = fake_resend.journal.entries
    assert (entry.amount, entry.http_status) == (1, 200)
    assert str(run.spent) == "0.0009"


def test_owners_keep_their_keys_apart(fake_resend, ledger_url, monkeypatch, kind):
    """The same idempotency key under another API key is another email, and has to fit."""
    with keybrake.run("agent", cap="0.0017") as run:
        send(kind, None, {"idempotency_key": "k"})
        monkeypatch.setattr(resend, "api_key", "re_other")
        with pytest.raises(keybrake.CapExceeded):
            send(kind, None, {"idempotency_key": "k"})

    assert fake_resend.journal.total("email") == 1
    assert str(run.spent) == "0.0009"


def test_a_key_where_resend_does_not_look_at_it(fake_resend, ledger_url, rows, kind):
    """A caller's key goes out wherever it is given, but only where Resend keeps it counts it."""
    keybrake.configure(prices={"resend": {"endpoint": {"resend.events.send": "0.05"}}})
    kinds = {"sync": Request, "async": resend.AsyncRequest}
    event = ("/events/send", {"event": "welcome", "email": "b@x.y"}, "post")
    with keybrake.run("agent", cap=1) as run:
        for _ in range(2):
            made = kinds[kind](*event, {"idempotency_key": "k"}).perform()
            assert kind == "sync" or asyncio.run(made)

    assert [entry.idempotency_key for entry in fake_resend.journal.entries] == ["k", "k"]
    assert [row["reserved"] for row in rows()] == [50_000, 50_000]
    assert str(run.spent) == "0.10"
