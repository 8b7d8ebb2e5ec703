"""Does this version of resend keep the guard's core promises? Run by tests/compat/run.py, unchanged, for each."""

import asyncio
import importlib.util
import inspect
import pickle

import pytest
import requests
import resend
from resend.exceptions import ResendError
from resend.request import Request

import keybrake
from keybrake import sdk
from keybrake.testing import FakeResend, Fault

MAIL = {"from": "a@x.dev", "to": ["b@x.dev"], "cc": "c@x.dev", "subject": "Hi", "text": "x"}
HAS_ASYNC = importlib.util.find_spec("resend.async_request") is not None
HAS_OPTIONS = "options" in inspect.signature(Request).parameters
# resend 2.0 to 2.3 let requests' own errors through.
ERRORS = (ResendError, requests.RequestException)


@pytest.fixture(autouse=True)
def ledger(monkeypatch, tmp_path):
    """Keep the books of each test in a ledger of its own."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("KEYBRAKE_LEDGER", url)
    keybrake.configure(ledger=url)
    return url


@pytest.fixture
def fake(monkeypatch):
    """Point the SDK at a fake Resend."""
    with FakeResend() as running:
        monkeypatch.setattr(resend, "api_url", running.url)
        monkeypatch.setattr(resend, "api_key", "re_fake")
        yield running


@pytest.fixture(params=["sync", "async"] if HAS_ASYNC else ["sync"])
def call(request):
    """Return a caller of the SDK's methods, in the plain or in the async way."""
    if request.param == "sync":
        return lambda owner, name, *args: getattr(owner, name)(*args)
    return lambda owner, name, *args: asyncio.run(getattr(owner, f"{name}_async")(*args))


def test_emails_are_counted(fake, call):
    """Every recipient is counted once, and what does not fit under the cap is not sent."""
    with keybrake.run("agent", cap="0.0036") as run:
        call(resend.Emails, "send", MAIL)
        call(resend.Batch, "send", [MAIL])
        with pytest.raises(keybrake.CapExceeded):
            call(resend.Emails, "send", MAIL)

    assert fake.journal.total("email") == 4
    assert (str(run.spent), run.calls, run.refused) == ("0.0036", 2, 1)


def test_a_refusal(fake, call):
    """A refusal sends nothing, is Resend's own error too, and pickles."""
    with keybrake.run("agent", cap=0), pytest.raises(ResendError) as caught:
        call(resend.Emails, "send", MAIL)

    assert isinstance(caught.value, keybrake.CapExceeded)
    assert caught.value.code == 403
    assert pickle.loads(pickle.dumps(caught.value)).fields == caught.value.fields
    assert fake.journal.entries == ()


def test_the_key_on_the_wire(fake, call):
    """A call gets an idempotency key, also where the SDK knows none; a caller's own is kept."""
    with keybrake.run("agent", cap=1):
        call(resend.Emails, "send", MAIL)
        if HAS_OPTIONS:
            call(resend.Emails, "send", MAIL, {"idempotency_key": "mine"})

    given, *own = [entry.idempotency_key for entry in fake.journal.entries]
    assert given.startswith("kb-")
    assert own == (["mine"] if HAS_OPTIONS else [])


@pytest.mark.skipif(not HAS_OPTIONS, reason="this version has no idempotency keys")
def test_a_replay_costs_nothing(fake, call):
    """The same email under the same key is counted once."""
    with keybrake.run("agent", cap="0.0018") as run:
        for _ in range(2):
            call(resend.Emails, "send", MAIL, {"idempotency_key": "mine"})

    assert fake.journal.total("email") == 2
    assert str(run.spent) == "0.0018"


def test_the_answer_is_untouched(fake, call):
    """What comes back is what comes back without a guard."""
    free = call(resend.Emails, "get", call(resend.Emails, "send", MAIL)["id"])
    with keybrake.run("agent", cap=1):
        guarded = call(resend.Emails, "get", free["id"])

    assert (guarded, type(guarded)) == (free, type(free))


def test_other_paths(fake, call):
    """A path that leads elsewhere, standing authority and unlisted writes are refused."""
    with keybrake.run("agent", cap=1):
        for again in (
            lambda: call(resend.Emails, "get", "../../api-keys"),
            lambda: call(resend.ApiKeys, "create", {"name": "mine"}),
            lambda: Request("/nowhere", {}, "post").perform(),
        ):
            with pytest.raises(keybrake.EndpointNotAllowed):
                again()

    assert fake.journal.entries == ()


@pytest.mark.parametrize(
    ("kind", "reserved"),
    [
        *(("error_500_after", "0.0018"), ("reset_after", "0.0018"), ("truncate", "0.0018")),
        *(("garbage", "0.0018"), ("rate_limit", "0.00"), ("conflict", "0.00")),
    ],
)
def test_outcomes(fake, call, kind, reserved):
    """Only proof voids a call; whatever may have sent mail counts in full."""
    fake.inject(Fault(kind))
    with keybrake.run("agent", cap=1) as run:
        with pytest.raises(ERRORS) as caught:
            call(resend.Emails, "send", MAIL)
        assert not isinstance(caught.value, keybrake.KeybrakeError)
        assert (str(run.spent), str(run.reserved)) == ("0.00", reserved)


def test_a_turned_down_email_is_voided(fake, call):
    """What Resend would not send costs nothing."""
    with keybrake.run("agent", cap="0.0018") as run:
        with pytest.raises(ResendError):
            call(resend.Emails, "send", {**MAIL, "to": "b"})
        assert str(run.remaining) == "0.0018"


def test_a_refused_connection_is_voided(fake, call):
    """Nothing can have happened at a vendor nobody could connect to."""
    fake.stop()
    with keybrake.run("agent", cap="0.0018") as run:
        with pytest.raises(ERRORS):
            call(resend.Emails, "send", MAIL)
        assert str(run.remaining) == "0.0018"


def test_redirects_are_not_followed(fake, call):
    """A redirected call goes nowhere else."""
    with FakeResend() as elsewhere:
        fake.inject(Fault("redirect", location=f"{elsewhere.url}/emails"))
        with keybrake.run("agent", cap=1) as run:
            with pytest.raises(ERRORS):
                call(resend.Emails, "send", MAIL)
            assert str(run.reserved) == "0.0018"
        assert elsewhere.journal.entries == ()


def test_a_vault_key_is_never_sent(fake, call, monkeypatch):
    """The operator's credential goes out in its place; without one, or elsewhere, nothing does."""
    key = keybrake.issue_vault_key("agent", cap=1)
    monkeypatch.setattr(resend, "api_key", key)
    with pytest.raises(keybrake.HostNotAllowed):
        call(resend.Emails, "send", MAIL)
    keybrake.configure(credentials={"resend": "env://MINE"}, extra_hosts={"resend": [fake.url]})
    with pytest.raises(keybrake.CredentialUnavailable):
        call(resend.Emails, "send", MAIL)
    assert fake.journal.entries == ()
    keybrake.configure(credentials={"resend": "env://MINE_TOO"})
    monkeypatch.setenv("MINE_TOO", "re_mine")
    call(resend.Emails, "send", MAIL)
    assert [entry.key_prefix for entry in fake.journal.entries] == ["re_"]


def test_hooks_in_place():
    """Every hook this version has room for is in, and uninstall() takes it out."""
    keybrake.install()
    states = {name: state for name, state in sdk.status() if name.startswith("resend.")}
    plain = {state for name, state in states.items() if name.startswith("resend.request.")}
    assert plain == {"in place"}
    others = {state for name, state in states.items() if name.startswith("resend.async_request.")}
    assert others == ({"in place"} if HAS_ASYNC else {"waiting"})
    keybrake.uninstall()
    states = {name: state for name, state in sdk.status() if name.startswith("resend.")}
    assert "in place" not in states.values()
