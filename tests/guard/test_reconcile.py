"""What reconciling does in a program: a run's own calls, prices that never come, other credentials."""

import asyncio
import contextlib
import json

import pytest
import resend
import stripe

import keybrake
from keybrake.config import settings
from keybrake.credentials import Credential
from keybrake.guard.reconcile import FINAL_AFTER, Reconciler
from keybrake.ledger import Admission
from keybrake.ledger.doubts import STILL_UNDER_WAY
from keybrake.model import clock, vault_key
from keybrake.model.call import Attempt, InDoubt, Reply, Request
from keybrake.testing import FakeResend, FakeTwilio, Fault
from keybrake.vendors import VENDORS
from keybrake.vendors.inquirers import inquirer_of
from tests._each import each

EMAIL = {"from": "a@x.dev", "to": ["b@x.dev", "c@x.dev"], "subject": "s", "text": "t"}


@pytest.fixture
def texts(ledger_url):
    """Start a fake Twilio that never names a price by itself, with prices to estimate by."""
    keybrake.configure(prices={"twilio": {"sms_segment": {"+1": "0.0145"}}})
    with FakeTwilio() as running:
        keybrake.configure(extra_hosts={"twilio": [running.url]})
        yield running


def asker_of(texts):
    """Return who asks the fake with its own credential."""
    credentials = {"twilio": Credential(texts.auth_token, texts.account_sid)}
    return Reconciler(keybrake.open_ledger(), credentials, {"twilio": texts.url})


def send(texts):
    """Send one text in a run of its own."""
    with keybrake.run("concierge", cap=1) as run:
        texts.client().messages.create(to="+14155550100", from_="+14155550199", body="Hi")
    return run


def test_a_price_that_never_comes_ends_at_its_estimate(texts, monkeypatch):
    """After two days the estimate is final, and is not asked about again."""
    run = send(texts)
    asker = asker_of(texts)
    assert [asker.reconcile(one).result for one in asker.work()] == ["estimated"]
    later = clock.now() + FINAL_AFTER + clock.SECOND
    monkeypatch.setattr(clock, "now", lambda: later)
    (found,) = [asker.reconcile(one) for one in asker.work()]

    assert (found.result, found.cost_micros) == ("settled", 14_500)
    assert "48 h" in found.words
    assert asker.work() == []
    assert str(run.spent) == "0.0145"


def test_a_price_past_the_estimate_is_charged_to_the_run_that_called(texts):
    """What the vendor names counts, beyond the cap if need be, and the row says so."""
    run = send(texts)
    sid = keybrake.open_ledger().estimated()[0].object_id
    texts.set_price(sid, "-1.20", "USD")
    asker = asker_of(texts)
    for one in asker.work():
        asker.reconcile(one)

    assert (str(run.spent), str(run.remaining)) == ("1.20", "0.00")
    assert keybrake.open_ledger().in_doubt(1)[0].reason == "overrun"


def test_a_lost_email_is_repeated_under_its_own_key(ledger_url, monkeypatch):
    """Resend repeats its answer, sends nothing twice, and the emails count once."""
    with FakeResend() as mails:
        keybrake.configure(extra_hosts={"resend": [mails.url]})
        monkeypatch.setattr(resend, "api_url", mails.url)
        monkeypatch.setattr(resend, "api_key", "re_test")
        mails.inject(Fault("reset_after"))
        with keybrake.run("mailer", cap=1) as run, contextlib.suppress(Exception):
            resend.Emails.send(EMAIL)
        assert str(run.reserved) == "0.0018"
        monkeypatch.setenv("RESEND_API_KEY", "re_test")
        (found,) = run.reconcile()

        assert (found.result, found.cost_micros) == ("settled", 1800)
        assert (str(run.spent), run.reserved) == ("0.0018", 0)
        assert len(mails.journal.moved("email")) == 1


@pytest.mark.parametrize("way", ["with", "async with", "decorator"])
def test_a_run_reconciles_when_its_block_ends_if_asked(ledger_url, monkeypatch, way):
    """With reconcile=True what was lost in the block is asked about as soon as it is over."""

    def lose():
        with contextlib.suppress(Exception):
            resend.Emails.send(EMAIL)

    async def lose_in(run):
        async with run:
            lose()

    with FakeResend() as mails:
        keybrake.configure(extra_hosts={"resend": [mails.url]})
        monkeypatch.setattr(resend, "api_url", mails.url)
        monkeypatch.setattr(resend, "api_key", "re_test")
        monkeypatch.setenv("RESEND_API_KEY", "re_test")
        mails.inject(Fault("reset_after"))
        run = keybrake.run("mailer", cap=1, reconcile=True)
        if way == "with":
            with run:
                lose()
        elif way == "async with":
            asyncio.run(lose_in(run))
        else:
            run(lose)()

    (made,) = keybrake.open_ledger().runs()
    assert (made.state(), made.spent, made.reserved) == ("closed", 1800, 0)


def test_a_joined_run_is_not_reconciled_by_whoever_leaves_it(ledger_url):
    """run(key=…) does not close the run, so it does not reconcile it either."""
    key = keybrake.issue_vault_key("shared", cap=1)
    with pytest.raises(keybrake.PolicyError, match="narrow reconcile"):
        keybrake.run(key=key, reconcile=True)


def test_two_lost_answers_under_one_key_are_one_event_at_its_cost(ledger_url, monkeypatch):
    """However often an email was retried under one key and lost, reconciling counts it once."""
    with FakeResend() as mails:
        keybrake.configure(extra_hosts={"resend": [mails.url]})
        monkeypatch.setattr(resend, "api_url", mails.url)
        monkeypatch.setattr(resend, "api_key", "re_test")
        monkeypatch.setenv("RESEND_API_KEY", "re_test")
        with keybrake.run("mailer", cap=1) as run:
            for _ in range(3):
                mails.inject(Fault("reset_after"))
                with contextlib.suppress(Exception):
                    resend.Emails.send(EMAIL, {"idempotency_key": "k"})
        run.reconcile()
        run.reconcile()

        assert (str(run.spent), run.reserved) == ("0.0018", 0)
        assert mails.journal.total("email") == 2


@pytest.mark.parametrize("word", ["revoke", "pause"])
def test_nothing_is_repeated_for_a_child_of_a_run_that_was_stopped(
    ledger_url, fake, monkeypatch, word
):
    """A word to a run is a word to all below it: what never arrived stays so."""
    keybrake.configure(extra_hosts={"stripe": [fake.url]})
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_fake")
    with keybrake.run("parent", cap=100) as parent, keybrake.run("child", cap=50):
        fake.inject(Fault("reset_before"))
        with pytest.raises(stripe.APIConnectionError):
            stripe.PaymentIntent.create(amount=1000, currency="usd")
        getattr(parent, word)()
    asker = Reconciler(keybrake.open_ledger())
    (found,) = [asker.reconcile(one) for one in asker.work()]

    assert found.result == "unknown"
    assert parent.id in found.words
    assert fake.journal.moved("charge") == []


def test_nothing_is_repeated_before_the_vendor_was_seen_not_to_have_done_it(
    ledger_url, fake, monkeypatch
):
    """If its list of events cannot be read, a call that never arrived is not carried out now."""
    keybrake.configure(extra_hosts={"stripe": [fake.url]})
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_fake")
    fake.inject(Fault("reset_before"))
    with keybrake.run("r", cap=100) as run, contextlib.suppress(stripe.APIConnectionError):
        stripe.PaymentIntent.create(
            amount=1000, currency="usd", payment_method="pm_card_visa", confirm=True
        )
    for fault, words in (("error_500_before", "answered 500"), ("reset_before", "did not answer")):
        fake.inject(Fault(fault, method="GET"))
        (found,) = run.reconcile()
        assert found.result == "unknown"
        assert words in found.words
    assert [entry.method for entry in fake.journal.entries] == ["POST", "GET", "GET"]

    (found,) = run.reconcile()
    assert found.result == "settled"
    assert [entry.method for entry in fake.journal.entries[3:]] == ["GET", "POST"]


def test_nothing_is_repeated_while_the_process_that_made_the_call_lives(
    ledger_url, fake, monkeypatch
):
    """It may find out that the call never left, and void it, while the repeat moves the money."""
    keybrake.configure(extra_hosts={"stripe": [fake.url]})
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_fake")
    ledger = keybrake.open_ledger()
    with keybrake.run("r", cap=100) as run:
        params = {"amount": "1000", "currency": "usd", "confirm": "true"}
        url, owner = f"{fake.url}/v1/payment_intents", vault_key.fingerprint("sk_test_fake")
        request = Request("stripe", "POST", url, params, owner=owner)
        asked = VENDORS["stripe"].describe(request, settings.current().money)
        kept = json.dumps({"params": params, "value": asked.value_micros})
        ledger.admit(Admission("u", asked, (1,), origin=fake.url, request=kept))
    later = clock.now() + STILL_UNDER_WAY
    monkeypatch.setattr(clock, "now", lambda: later)
    (found,) = run.reconcile()

    assert found.result == "reserved"
    assert "its process still lives" in found.words
    assert [entry.method for entry in fake.journal.entries] == ["GET"]


@each("vendor", ["stripe", "resend"])
@each(
    ("age", "repeats"),
    [(-1, False), (0, True), (23 * clock.HOUR, True), (23 * clock.HOUR + 1, False)],
)
def test_a_call_is_repeated_only_while_the_vendor_remembers_its_key(vendor, age, repeats):
    """Nor is it where the clock says that the call is yet to come: then nobody knows how old it is."""
    doubt = _doubt(f"{vendor}.emails.send", "/emails", value=1)
    asked = inquirer_of(vendor).inquiries(doubt, doubt.at + age)

    assert [one.idempotency_key for one in asked] == ["kb-u"] * repeats


def test_a_net_refund_that_was_lost_takes_back_what_its_run_spent(ledger_url, fake, monkeypatch):
    """What was known of a call before it was sent is known when its answer is read later."""
    keybrake.configure(extra_hosts={"stripe": [fake.url]}, refunds="net")
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_fake")
    with keybrake.run("r", cap=100) as run:
        charge = stripe.Charge.create(amount=10_000, currency="usd", source="tok_visa")
        fake.inject(Fault("reset_after"))
        with pytest.raises(stripe.APIConnectionError):
            stripe.Refund.create(charge=charge.id, amount=10_000)
    run.reconcile()

    assert (run.spent, run.reserved) == (0, 0)


def _event(kind, thing, key="kb-u"):
    return {"type": kind, "request": {"idempotency_key": key}, "data": {"object": thing}}


_CHARGE = {
    "id": "ch_1", "object": "charge", "amount": 10_000, "amount_captured": 10_000, "amount_refunded": 5000,
    "captured": True, "currency": "usd", "status": "succeeded",
}  # fmt: skip
_REFUND = {
    "id": "re_1",
    "object": "refund",
    "amount": 5000,
    "currency": "usd",
    "status": "succeeded",
}


def _doubt(endpoint, path, *, value, gathered=()):
    kept = {"params": {}, "value": value, "gathered": list(gathered), "offsets": None}
    return InDoubt(
        1, "u", clock.now(), "unknown", "run_1", "r", "stripe", endpoint, "POST", path, "https://api.stripe.com", "", "",
        json.dumps(kept), value, 5000, "usd", "1", None, None, None, "outflow", None, None, None, None,
    )  # fmt: skip


def test_what_was_looked_up_before_a_call_is_known_when_its_answer_is_read_later():
    """Of an invoice of which half was paid before, a lost payment counts the other half."""
    doubt = _doubt(
        "stripe.invoices.pay", "/v1/invoices/in_1/pay", value=50_000_000, gathered=[5000]
    )
    asker = inquirer_of("stripe")
    (again,) = asker.inquiries(doubt, clock.now())
    paid = {"id": "in_1", "object": "invoice", "status": "paid", "amount_due": 10_000, "amount_paid": 10_000, "amount_remaining": 0, "currency": "usd"}  # fmt: skip
    reply = Reply(200, {}, json.dumps(paid), (Attempt(200),))

    (ended,) = asker.findings(doubt, again, reply, settings.Money())
    assert (again.idempotency_key, ended.value_micros) == ("kb-u", 50_000_000)


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([_event("charge.refunded", _CHARGE), _event("refund.created", _REFUND)], ["re_1"]),
        ([_event("charge.refunded", _CHARGE)], []),
        ([_event("refund.created", _REFUND, key="kb-other")], []),
        ([_event("refund.created", None), {"data": []}, {}], []),
        ([], []),
    ],
)
def test_only_the_object_a_call_answers_with_speaks_for_it(events, found):
    """Events of other objects that the same call touched say nothing of what it cost."""
    doubt = _doubt("stripe.refunds.create", "/v1/refunds", value=50_000_000)
    asker = inquirer_of("stripe")
    inquiry = asker.inquiries(doubt, clock.now())[0]
    reply = Reply(200, {}, json.dumps({"data": events}), (Attempt(200),))

    ended = asker.findings(doubt, inquiry, reply, settings.Money())
    assert [(one.object_id, one.value_micros) for one in ended] == [
        (name, 50_000_000) for name in found
    ]


def test_a_lost_call_that_could_raise_something_is_repeated_and_costs_nothing():
    """A free call is in doubt if it can make an object dearer; its repetition ends that."""
    doubt = _doubt("stripe.v2.money_management.payout_intents.update", "/v2/x/pyi_1", value=0)
    doubt = doubt._replace(meter=None, amount=None, currency=None, usd_per_unit=None)
    asker = inquirer_of("stripe")
    (again,) = asker.inquiries(doubt, clock.now())
    reply = Reply(200, {}, json.dumps({"id": "pyi_1"}), (Attempt(200),))

    (ended,) = asker.findings(doubt, again, reply, settings.Money())
    assert again.idempotency_key == "kb-u"
    assert (ended.state, ended.value_micros, ended.object_id) == ("settled", None, "pyi_1")


def test_a_lost_batch_costs_what_was_taken_of_it(ledger_url, monkeypatch):
    """Of a permissive batch whose answer was lost, only the emails that were taken count."""
    with FakeResend() as mails:
        keybrake.configure(extra_hosts={"resend": [mails.url]})
        monkeypatch.setattr(resend, "api_url", mails.url)
        monkeypatch.setattr(resend, "api_key", "re_test")
        mails.inject(Fault("reset_after"))
        batch = [EMAIL, {**EMAIL, "subject": ""}]  # the second one is turned down
        with keybrake.run("mailer", cap=1) as run, contextlib.suppress(Exception):
            resend.Batch.send(batch, {"batch_validation": "permissive"})
        assert str(run.reserved) == "0.0036"
        monkeypatch.setenv("RESEND_API_KEY", "re_test")
        run.reconcile()

        assert (str(run.spent), run.reserved) == ("0.0018", 0)
        assert mails.journal.total("email") == 2
