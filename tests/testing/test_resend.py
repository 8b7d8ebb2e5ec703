"""The fake Resend, driven by the real SDK."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import resend
from resend.exceptions import RateLimitError, ResendError, ValidationError

from keybrake.testing import FakeResend, Fault, Journal

ROOT = Path(__file__).parents[2]
MAIL = {"from": "a@x.dev", "to": ["b@x.dev"], "subject": "Hi", "html": "x"}


@pytest.fixture(autouse=True)
def fake(fake_resend):
    """Have a fake Resend in every test here."""
    return fake_resend


def test_an_email_is_sent_to_all_its_recipients(fake):
    """The journal counts recipients: to, cc and bcc."""
    made = resend.Emails.send({**MAIL, "cc": "c@x.dev", "bcc": ["Dee <d@x.dev>"]})
    shown = resend.Emails.get(made["id"])

    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made["id"])
    assert (shown["to"], shown["subject"]) == (["b@x.dev"], "Hi")
    (entry,) = fake.journal.moved("email")
    assert (entry.amount, entry.currency, entry.object_id) == (3, "recipients", made["id"])
    assert (fake.journal.total("email"), fake.journal.standing("email")) == (3, 3)
    assert [email["id"] for email in resend.Emails.list()["data"]] == [made["id"]]


@pytest.mark.parametrize(
    ("change", "code", "kind"),
    [
        ({"from": None}, 422, "missing_required_field"),
        ({"to": []}, 422, "missing_required_field"),
        ({"subject": ""}, 422, "missing_required_field"),
        ({"from": "x"}, 422, "validation_error"),
        ({"to": "nobody"}, 422, "validation_error"),
        ({"to": "b@x.dev, c@x.dev"}, 422, "validation_error"),
        ({"cc": [{"email": "c@x.dev"}]}, 422, "validation_error"),
        ({"cc": {"email": "c@x.dev"}}, 422, "validation_error"),
        ({"to": [f"{n}@x.dev" for n in range(51)]}, 422, "validation_error"),
    ],
)
def test_what_is_no_email_is_turned_down(fake, change, code, kind):
    """Resend takes one address for each recipient, fifty at most, and sends nothing else."""
    with pytest.raises(ResendError) as caught:
        resend.Emails.send({**MAIL, **change})

    assert (caught.value.code, caught.value.error_type) == (code, kind)
    assert fake.journal.moved() == []


BATCH = [MAIL, {**MAIL, "to": "nobody"}, {**MAIL, "bcc": "d@x.dev"}]


def test_a_strict_batch_is_all_or_nothing(fake):
    """One email that cannot be sent keeps the others from being sent."""
    for options in (None, {"batch_validation": "strict"}):
        with pytest.raises(ValidationError):
            resend.Batch.send(BATCH, options)
    assert fake.journal.moved() == []

    sent = resend.Batch.send([BATCH[0], BATCH[2]])
    assert len(sent["data"]) == 2
    assert "errors" not in sent
    assert fake.journal.total("email") == 3


def test_a_permissive_batch_sends_what_it_can(fake):
    """What cannot be sent is named by its place; a batch of nothing sends nothing."""
    sent = resend.Batch.send(BATCH, {"batch_validation": "permissive"})
    assert len(sent["data"]) == 2
    assert [error["index"] for error in sent["errors"]] == [1]
    assert fake.journal.total("email") == 3

    sent = resend.Batch.send([BATCH[1]], {"batch_validation": "permissive"})
    assert (sent["data"], len(sent["errors"])) == ([], 1)
    assert fake.journal.total("email") == 3


@pytest.mark.parametrize("count", [0, 101])
def test_a_batch_has_one_to_a_hundred_emails(fake, count):
    """An empty batch and one that is too long are turned down."""
    with pytest.raises(ValidationError):
        resend.Batch.send([MAIL] * count)

    assert fake.journal.moved() == []


def test_a_key_brings_the_same_answer(fake):
    """A repetition is replayed, says so, and sends nothing; another body is a conflict."""
    options = {"idempotency_key": "k"}
    first, again = resend.Emails.send(MAIL, options), resend.Emails.send(MAIL, options)

    assert again["id"] == first["id"]
    assert "idempotent-replayed" not in first["http_headers"]
    assert again["http_headers"]["idempotent-replayed"] == "true"
    assert [entry.replayed for entry in fake.journal.entries] == [False, True]
    with pytest.raises(ResendError) as caught:
        resend.Emails.send({**MAIL, "subject": "Other"}, options)
    assert (caught.value.code, caught.value.error_type) == (409, "invalid_idempotent_request")
    with pytest.raises(ResendError):
        resend.Batch.send([MAIL], options)
    assert fake.journal.total("email") == 1


def test_keys_of_other_accounts_are_other_keys(fake, monkeypatch):
    """Two API keys can use one idempotency key each."""
    resend.Emails.send(MAIL, {"idempotency_key": "k"})
    monkeypatch.setattr(resend, "api_key", "re_other")
    resend.Emails.send(MAIL, {"idempotency_key": "k"})

    assert fake.journal.total("email") == 2


def test_a_failure_is_not_kept(fake):
    """A key whose request was turned down can be used again, with another body, too."""
    options = {"idempotency_key": "k"}
    with pytest.raises(ValidationError):
        resend.Emails.send({**MAIL, "to": "nobody"}, options)
    resend.Emails.send(MAIL, options)

    assert fake.journal.total("email") == 1


def test_an_error_on_top_of_an_email_is_not_kept(fake):
    """Who was told of a failure although the email went learns of it under the same key."""
    fake.inject(Fault("error_500_after"))
    options = {"idempotency_key": "k"}
    with pytest.raises(ResendError):
        resend.Emails.send(MAIL, options)

    assert resend.Emails.send(MAIL, options)["http_headers"]["idempotent-replayed"] == "true"
    assert fake.journal.total("email") == 1


def test_a_key_is_forgotten_after_a_day(monkeypatch):
    """After 24 hours the same key sends once more."""
    now = [1_000_000.0]
    with FakeResend(clock=lambda: now[0]) as fake:
        monkeypatch.setattr(resend, "api_url", fake.url)
        ids = []
        for hours in (0, 23.9, 0.2, 23, 2):
            now[0] += hours * 3600
            ids.append(resend.Emails.send(MAIL, {"idempotency_key": "k"})["id"])

    assert ids[0] == ids[1]
    assert ids[2] == ids[3]
    assert len(set(ids)) == 3
    assert fake.journal.total("email") == 3


def test_a_key_counts_only_where_resend_looks_at_it(fake):
    """A broadcast or a contact is made as often as it is asked for, whatever the key."""
    for _ in range(2):
        resend.request.Request(
            "/contacts", {"email": "b@x.dev"}, "post", {"idempotency_key": "k"}
        ).perform()

    assert len(resend.Contacts.list()["data"]) == 2


def test_a_key_has_up_to_256_characters(fake):
    """A longer key is turned down."""
    resend.Emails.send(MAIL, {"idempotency_key": "k" * 256})
    with pytest.raises(ResendError) as caught:
        resend.Emails.send(MAIL, {"idempotency_key": "k" * 257})

    assert caught.value.code == 400
    assert fake.journal.total("email") == 1


def test_a_scheduled_email_can_be_moved_and_canceled(fake):
    """Until it is sent a scheduled email can be changed; then nobody gets it."""
    made = resend.Emails.send({**MAIL, "scheduled_at": "in 1 hour"})
    resend.Emails.update({"id": made["id"], "scheduled_at": "in 2 hours"})
    assert resend.Emails.get(made["id"])["scheduled_at"] == "in 2 hours"
    resend.Emails.cancel(made["id"])

    assert resend.Emails.get(made["id"])["last_event"] == "canceled"
    assert (fake.journal.total("email"), fake.journal.standing("email")) == (1, 0)
    with pytest.raises(ResendError):
        resend.Emails.cancel(resend.Emails.send(MAIL)["id"])


def test_a_broadcast_goes_to_its_segment(fake):
    """A draft reaches nobody; sent, it reaches every contact of its segment, once."""
    segment = resend.Segments.create({"name": "All"})["id"]
    for name in ("b", "c"):
        resend.Contacts.create({"email": f"{name}@x.dev", "segments": [{"id": segment}]})
    resend.Contacts.create({"email": "d@x.dev"})
    assert len(resend.Contacts.list(segment_id=segment)["data"]) == 2

    draft = {"segment_id": segment, "from": "a@x.dev", "subject": "Hi", "html": "x"}
    made = resend.Broadcasts.create(draft)["id"]
    resend.Broadcasts.update({"broadcast_id": made, "subject": "Hello"})
    assert resend.Broadcasts.get(made)["subject"] == "Hello"
    assert fake.journal.moved() == []
    resend.Broadcasts.send({"broadcast_id": made, "scheduled_at": "in 1 hour"})
    resend.Broadcasts.cancel(made)
    assert fake.journal.standing("broadcast") == 0
    resend.Broadcasts.send({"broadcast_id": made})
    with pytest.raises(ValidationError):
        resend.Broadcasts.send({"broadcast_id": made})
    assert (fake.journal.total("broadcast"), fake.journal.standing("broadcast")) == (2, 2)

    resend.Broadcasts.create({**draft, "send": True})
    assert fake.journal.total("broadcast") == 4


def test_inboxes_send(fake):
    """A draft goes to whom it names, once; replies and forwards count theirs."""
    drafts, emails = resend.Inboxes.Drafts, resend.Inboxes.Threads.Emails
    draft = drafts.create({"inbox_id": "me@x.dev", "to": "b@x.dev", "cc": ["c@x.dev"]})["id"]
    assert drafts.get("me@x.dev", draft)["to"] == ["b@x.dev"]
    drafts.update({"inbox_id": "me@x.dev", "id": draft, "bcc": "d@x.dev"})
    assert drafts.get("me@x.dev", draft)["cc"] == ["c@x.dev"]
    drafts.send("me@x.dev", draft)
    with pytest.raises(ResendError) as caught:
        drafts.send("me@x.dev", draft)
    assert caught.value.code == 409
    assert fake.journal.total("email") == 3
    with pytest.raises(ResendError):
        drafts.update({"inbox_id": "me@x.dev", "id": draft, "bcc": "e@x.dev"})

    where = {"inbox_id": "i", "thread_id": "t", "email_id": "e", "text": "x"}
    emails.reply({**where, "cc": "c@x.dev"})
    emails.forward({**where, "to": ["b@x.dev", "c@x.dev"]})
    assert fake.journal.total("email") == 7


def test_events_and_keys(fake):
    """What is no mail moves nothing."""
    assert resend.Events.send({"event": "welcome", "email": "b@x.dev"})["event"] == "welcome"
    made = resend.ApiKeys.create({"name": "mine"})
    assert [key["id"] for key in resend.ApiKeys.list()["data"]] == [made["id"]]
    assert fake.journal.moved() == []


@pytest.mark.parametrize(
    ("key", "status", "prefix"), [("", 401, "none"), ("kb_live_x", 403, "kb_"), ("x", 403, "other")]
)
def test_what_is_no_key_of_resends_is_turned_away(fake, key, status, prefix):
    """A vault key that leaked to the wire is refused, and is repeated nowhere."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    told = requests.post(f"{fake.url}/emails", json=MAIL, headers=headers, timeout=5)
    (entry,) = fake.journal.entries

    assert (told.status_code, told.json()["statusCode"]) == (status, status)
    assert (entry.key_prefix, entry.moved) == (prefix, False)
    assert "kb_live" not in told.text


def test_nothing_there_and_no_json(fake):
    """An unknown path, object or body is answered in Resend's shape."""
    headers = {"Authorization": "Bearer re_x"}
    told = requests.post(f"{fake.url}/emails", data="{", headers=headers, timeout=5)
    assert (told.status_code, told.json()["name"]) == (400, "validation_error")
    told = requests.post(f"{fake.url}/nowhere", headers=headers, timeout=5)
    assert (told.status_code, told.json()["name"]) == (404, "not_found")
    with pytest.raises(ResendError) as caught:
        resend.Emails.get("nothing-there")
    assert caught.value.code == 404


@pytest.mark.parametrize(
    ("kind", "moved", "code"),
    [
        ("error_500_before", False, 500),
        ("rate_limit", False, 429),
        ("conflict", False, 409),
        ("reset_before", False, 500),
        ("error_500_after", True, 500),
        ("timeout_after", True, 500),
        ("reset_after", True, 500),
        ("truncate", True, 500),
        ("garbage", True, 500),
    ],
)
def test_faults(fake, kind, moved, code):
    """What goes wrong on purpose goes wrong as the SDK sees it, and the journal has the truth."""
    fake.inject(Fault(kind, hang=0.1))
    with pytest.raises(ResendError) as caught:
        resend.Emails.send(MAIL)
    (entry,) = fake.journal.entries

    assert caught.value.code == code
    assert isinstance(caught.value, RateLimitError) is (kind == "rate_limit")
    assert (entry.moved, entry.fault) == (moved, kind)
    assert resend.Emails.send(MAIL)["id"]


def test_in_a_process_of_its_own(monkeypatch, tmp_path):
    """``python -m keybrake.testing.resend`` serves until its standard input is closed."""
    journal = tmp_path / "journal.jsonl"
    command = [sys.executable, "-m", "keybrake.testing.resend", "--journal", journal]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as serving:
        monkeypatch.setattr(resend, "api_url", serving.stdout.readline().strip())
        resend.Emails.send(MAIL)
        serving.stdin.close()
        assert serving.wait(timeout=10) == 0

    assert Journal.read(journal).total("email") == 1
