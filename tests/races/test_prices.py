"""Does a price that was looked up still hold when the call goes out, whoever else is at work?"""

import asyncio
import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import resend
import stripe

import keybrake
from keybrake.model.call import Outcome, State
from keybrake.testing import FakeResend, FakeStripe, Fault
from tests.races import _many

INBOX = "me@x.dev"
MANY = [f"{number}@x.dev" for number in range(40)]
# One recipient costs $0.0009, so this is enough for ten of them.
CAP = "0.009"
DONE = Outcome(State.SETTLED)


@pytest.fixture
def mails(ledger_url, monkeypatch) -> Iterator[FakeResend]:
    """Start a fake Resend that the SDK talks to."""
    with FakeResend() as running:
        keybrake.configure(extra_hosts={"resend": [running.url]})
        monkeypatch.setattr(resend, "api_url", running.url)
        monkeypatch.setattr(resend, "api_key", "re_test")
        monkeypatch.setenv("RESEND_API_KEY", "re_test")
        yield running


def draft() -> str:
    """Make a draft to one recipient, outside of every run."""
    return resend.Inboxes.Drafts.create({"inbox_id": INBOX, "to": "b@x.dev"})["id"]


def raise_draft(made: str) -> None:
    """Name forty recipients instead of one."""
    resend.Inboxes.Drafts.update({"inbox_id": INBOX, "id": made, "to": MANY})


def refusal(work: Callable[[], Any]) -> str | None:
    """Return the reason that a call was refused with; None: it was not."""
    try:
        work()
    except keybrake.CallRefused as no:
        return no.reason
    return None


def begun(work: Callable[[], Any]) -> tuple[threading.Thread, list[str | None]]:
    """Begin a call in a thread; return the thread, and the list that gets its refusal."""
    said: list[str | None] = []
    thread = threading.Thread(target=lambda: said.append(refusal(work)))
    thread.start()
    return thread, said


def wait_for(fake: FakeResend | FakeStripe, method: str, path: str) -> None:
    """Wait until the vendor has seen a request."""
    deadline = time.monotonic() + 30
    while not any(e.method == method and path in e.path for e in fake.journal.entries):
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Threads


def test_a_draft_that_grew_while_it_was_looked_up_is_looked_up_again(mails, rows):
    """The send is priced by the draft as it is when the send goes out: it does not fit any more."""
    made = draft()
    mails.inject(Fault("slow", method="GET", delay=0.5))
    with keybrake.run("mailer", cap=CAP):
        sending, said = begun(lambda: resend.Inboxes.Drafts.send(INBOX, made))
        wait_for(mails, "GET", made)
        raise_draft(made)
        sending.join()

    assert said == ["cap_exceeded"]
    assert not mails.journal.moved("email")
    assert [row["endpoint"] for row in rows()].count("resend.lookup") == 2


def test_a_draft_that_grew_while_it_was_looked_up_is_counted_as_it_is(mails, rows):
    """With room for it, the second look-up is what is reserved and settled."""
    made = draft()
    mails.inject(Fault("slow", method="GET", delay=0.5))
    with keybrake.run("mailer", cap=1) as run:
        sending, said = begun(lambda: resend.Inboxes.Drafts.send(INBOX, made))
        wait_for(mails, "GET", made)
        raise_draft(made)
        sending.join()

    (sent,) = [row for row in rows() if row["endpoint"] == "resend.inboxes.drafts.send"]
    assert said == [None]
    assert (sent["reserved"], sent["cost"], str(run.spent)) == (36_000, 36_000, "0.036")
    assert mails.journal.total("email") == 40


def test_a_draft_does_not_grow_while_it_is_being_sent(mails):
    """Its change is refused until the send has ended, and goes through then."""
    mails.latency = 0.5
    made = draft()
    with keybrake.run("mailer", cap=CAP):
        sending, said = begun(lambda: resend.Inboxes.Drafts.send(INBOX, made))
        wait_for(mails, "POST", f"{made}/send")
        assert refusal(lambda: raise_draft(made)) == "object_in_use"
        sending.join()
        with pytest.raises(resend.exceptions.ResendError, match="sent already"):
            raise_draft(made)

    assert said == [None]
    assert mails.journal.total("email") == 1


def test_a_draft_is_not_sent_while_it_may_grow(mails):
    """The send is refused while the change is under way, and goes out once that has ended."""
    made = draft()
    mails.inject(Fault("slow", method="PATCH", delay=0.5))
    with keybrake.run("mailer", cap=CAP):
        raising, said = begun(lambda: raise_draft(made))
        wait_for(mails, "PATCH", made)
        assert refusal(lambda: resend.Inboxes.Drafts.send(INBOX, made)) == "price_may_change"
        raising.join()
        assert refusal(lambda: resend.Inboxes.Drafts.send(INBOX, made)) == "cap_exceeded"

    assert said == [None]
    assert not mails.journal.moved("email")


def test_a_change_whose_answer_is_lost_holds_until_it_is_resolved(mails):
    """It may have arrived, or arrive yet; once a person has said how it ended, the draft is sent."""
    made = draft()
    mails.inject(Fault("reset_after", method="PATCH"))
    with keybrake.run("mailer", cap=1) as run:
        with contextlib.suppress(Exception):
            raise_draft(made)
        assert refusal(lambda: resend.Inboxes.Drafts.send(INBOX, made)) == "price_may_change"
        (lost,) = keybrake.open_ledger().in_doubt()
        assert lost.endpoint == "resend.inboxes.drafts.update"
        keybrake.open_ledger().resolve(lost.seq, DONE, "a person looked")
        assert refusal(lambda: resend.Inboxes.Drafts.send(INBOX, made)) is None

    assert str(run.spent) == "0.036"


def test_in_report_mode_the_send_goes_out_and_says_so(mails, rows):
    """Nothing is held back; the row names the reason."""
    made = draft()
    mails.inject(Fault("slow", method="PATCH", delay=0.5))
    with keybrake.run("mailer", cap=1, mode="report"):
        raising, said = begun(lambda: raise_draft(made))
        wait_for(mails, "PATCH", made)
        resend.Inboxes.Drafts.send(INBOX, made)
        raising.join()

    assert said == [None]
    assert rows()[-1]["would_refuse"] == "price_may_change"


# Tasks


def _capturable() -> str:
    """Return an intent of a hundred dollars that is held on a card, made outside of every run."""
    held = {"capture_method": "manual", "confirm": True, "payment_method": "pm_card_visa"}
    return stripe.PaymentIntent.create(amount=10_000, currency="usd", **held).id


def _moved(intent: str) -> int:
    """Return how many cents were taken and given back in all."""
    refunds = stripe.Refund.list(payment_intent=intent).data
    taken = stripe.PaymentIntent.retrieve(intent).amount_received
    return taken + sum(refund.amount for refund in refunds if refund.status == "succeeded")


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize("first", ["refund", "capture"])
def test_a_refund_beside_a_capture_moves_no_more_than_the_cap(fake, ledger_url, monkeypatch, first):
    """Both at once, a hundred dollars of cap: the refund reserves all that may yet be captured."""
    intent = _capturable()

    async def main() -> list[Any]:
        http_client = stripe.HTTPXClient()
        monkeypatch.setattr(stripe, "default_http_client", http_client)
        fake.latency = 0.2
        calls = [
            stripe.Refund.create_async(payment_intent=intent),
            stripe.PaymentIntent.capture_async(intent),
        ]
        try:
            said = asyncio.gather(*calls[:: 1 if first == "refund" else -1], return_exceptions=True)
            return await said
        finally:
            await http_client.close_async()

    plain = stripe.default_http_client
    with keybrake.run("agent", cap=100) as run:
        said = asyncio.run(main())
    fake.latency = 0.0
    monkeypatch.setattr(stripe, "default_http_client", plain)

    assert any(isinstance(one, keybrake.CallRefused) for one in said)
    assert _moved(intent) <= 10_000
    assert run.spent <= 100


def test_an_intent_does_not_grow_in_another_run_while_it_is_confirmed(fake, ledger_url):
    """What one run confirms at ten dollars is not made fifty by a run with a larger cap."""
    intent = stripe.PaymentIntent.create(amount=1000, currency="usd").id
    gate = threading.Event()

    class Slow(stripe.RequestsClient):
        """Holds the confirmation back until the gate opens."""

        def request(self, method: str, url: str, *args: Any, **more: Any) -> Any:
            assert not url.endswith("/confirm") or gate.wait(30)
            return super().request(method, url, *args, **more)

    http_client = Slow()
    client = stripe.StripeClient(
        "sk_test_fake", http_client=http_client, base_addresses={"api": fake.url}
    )
    confirm = getattr(client, "v1", client).payment_intents.confirm
    with keybrake.run("small", cap=20) as small:
        card = {"payment_method": "pm_card_visa"}
        confirming, said = begun(lambda: confirm(intent, card))
        while not small.reserved:
            time.sleep(0.005)
    with keybrake.run("large", cap=100):
        raised = refusal(lambda: stripe.PaymentIntent.modify(intent, amount=5000))
    gate.set()
    confirming.join()
    http_client.close()

    assert (raised, said) == ("object_in_use", [None])
    assert str(small.spent) == "10.00"


# Processes

_RAISE = """
import sys, resend, keybrake
resend.api_url, resend.api_key = sys.argv[1], "re_test"
keybrake.configure(extra_hosts={"resend": [resend.api_url]})
with keybrake.run(key=sys.argv[2]):
    resend.Inboxes.Drafts.update({"inbox_id": sys.argv[3], "id": sys.argv[4], "to": sys.argv[5:]})
"""


def test_a_change_of_a_killed_process_holds_until_it_is_resolved(mails, rows):
    """Kill -9 while another process changes the draft: it may have grown, so it is not sent."""
    made = draft()
    mails.inject(Fault("timeout_after", method="PATCH", hang=30))
    with keybrake.run("mailer", cap=CAP) as run:

        def send() -> str | None:
            return refusal(lambda: resend.Inboxes.Drafts.send(INBOX, made))

        with _many.child(_RAISE, mails.url, str(run.key), INBOX, made, *MANY) as process:
            wait_for(mails, "PATCH", made)
            assert send() == "price_may_change"
            process.send_signal(signal.SIGKILL)
        assert send() == "price_may_change"
        (lost,) = keybrake.open_ledger().in_doubt()
        assert (lost.endpoint, lost.process_lives) == ("resend.inboxes.drafts.update", False)
        keybrake.open_ledger().resolve(lost.seq, DONE, "a person looked")
        assert send() == "cap_exceeded"

    assert not mails.journal.moved("email")


def test_two_processes_never_have_the_change_and_the_send_at_once(mails, rows):
    """One sends drafts, one changes them, on one cap: what is moved fits, and no row overran."""
    drafts = [draft() for _ in range(15)]
    mails.latency = 0.02
    script = """
import sys, json, contextlib, resend, keybrake
resend.api_url, resend.api_key = sys.argv[1], "re_test"
keybrake.configure(extra_hosts={"resend": [resend.api_url]})
with keybrake.run(key=sys.argv[2]):
    print("ready", flush=True)
    for one in sys.argv[5:]:
        asked = {"inbox_id": sys.argv[3], "id": one, "to": json.loads(sys.argv[4])}
        with contextlib.suppress(keybrake.CallRefused, resend.exceptions.ResendError):
            resend.Inboxes.Drafts.update(asked)
"""
    with keybrake.run("mailer", cap="0.05") as run:
        arguments = (mails.url, str(run.key), INBOX, json.dumps(MANY), *drafts)
        with _many.child(script, *arguments) as process:
            assert process.stdout.readline() == "ready\n"
            for made in drafts:
                refusal(lambda made=made: resend.Inboxes.Drafts.send(INBOX, made))
            assert process.wait(60) == 0

    sent = [row for row in rows() if row["endpoint"] == "resend.inboxes.drafts.send"]
    assert 900 * mails.journal.total("email") <= 50_000
    assert 900 * mails.journal.total("email") == sum(row["cost"] or 0 for row in sent)
    assert not any(row["reason"] == "overrun" for row in sent)
