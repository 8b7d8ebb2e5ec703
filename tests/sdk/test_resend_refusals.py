"""Is what the guard refuses at the Resend door refused before a byte leaves, and said well?"""

import copy
import multiprocessing
import pickle

import pytest
import resend
from resend.exceptions import ApplicationError, RateLimitError, ResendError
from resend.request import Request

import keybrake
from keybrake.vendors.resend.vendor import Resend
from tests.sdk._resend_calls import KINDS, MAIL, do, send


@pytest.fixture(autouse=True)
def fake(fake_resend, ledger_url):
    """Have a fake Resend and a ledger in every test here, and see that nothing was sent."""
    yield fake_resend
    assert fake_resend.journal.entries == ()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "email_id",
    [
        "../../api-keys",
        "../api-keys",
        "%2e%2e/api-keys",
        "..%2fapi-keys",
        "./x",
        "",
        "x/",
        "x//y",
        "x#y",
        "x;y",
        "x\\y",
        "x\n",
        "x\0",
        "ü",
        "x%00",
    ],
)
def test_an_odd_path_is_refused(rows, kind, email_id):
    """A path that two parsers could read differently sends nothing, not even a read."""
    with (
        keybrake.run("agent", cap=1, mode="enforce"),
        pytest.raises(keybrake.EndpointNotAllowed) as caught,
    ):
        do(kind, resend.Emails, "get", email_id)

    assert caught.value.reason == "path_not_canonical"
    assert [row["state"] for row in rows()] == ["refused"]


@pytest.mark.parametrize(
    "path", ["@127.0.0.1/emails", ".evil.test/emails", "emails", ":1/emails", "/emails?to=b"]
)
def test_no_path_names_a_host(path):
    """What would make another address of the one that was meant is refused."""
    with keybrake.run("agent", cap=1), pytest.raises(keybrake.EndpointNotAllowed):
        Request(path, MAIL, "post").perform()


@pytest.mark.parametrize("base", ["{}/", "{}/x/..", "127.0.0.1", "", "{}?a=1", "{}#", "ftp://x"])
def test_an_odd_address_is_refused(monkeypatch, fake, base):
    """The address counts as the SDK would send it, its base included."""
    monkeypatch.setattr(resend, "api_url", base.format(fake.url))
    with keybrake.run("agent", cap=1), pytest.raises(keybrake.EndpointNotAllowed):
        resend.Emails.send(MAIL)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["enforce", "report"])
def test_a_vault_key_is_never_sent(monkeypatch, rows, kind, mode):
    """A vault key in the SDK's key slot is refused if there is nothing to take its place."""
    keybrake.configure(extra_hosts={"resend": [resend.api_url]})
    with keybrake.run("agent", cap=1, mode=mode) as run:
        monkeypatch.setattr(resend, "api_key", run.key)
        with pytest.raises(keybrake.CredentialUnavailable) as caught:
            send(kind)
        with pytest.raises(keybrake.CallRefused):
            do(kind, resend.Emails, "get", "../../api-keys")

    assert caught.value.run_id == run.id
    assert [row["state"] for row in rows()] == ["refused", "refused"]


def test_a_vault_key_needs_no_open_run(monkeypatch, rows):
    """A vault key says itself which run a call is charged to."""
    keybrake.configure(extra_hosts={"resend": [resend.api_url]})
    key = keybrake.issue_vault_key("order-7", cap=1)
    keybrake.install()
    monkeypatch.setattr(resend, "api_key", key)
    with pytest.raises(keybrake.CredentialUnavailable) as caught:
        resend.Emails.send(MAIL)

    assert caught.value.run_id == key.run_id


def test_a_forged_vault_key_is_never_sent(monkeypatch):
    """A key with a wrong checksum is refused without a run and without asking the ledger."""
    keybrake.install()
    monkeypatch.setattr(resend, "api_key", "kb_live_" + "a" * 49)
    with pytest.raises(keybrake.CredentialUnavailable):
        resend.Emails.send(MAIL)


@pytest.mark.parametrize("mode", ["enforce", "report"])
@pytest.mark.parametrize(
    "name",
    ["Authorization", "authorization ", b"AUTHORIZATION", "idempotency_key", "Idempotency-Key"],
)
def test_header_overrides_are_refused(name, mode):
    """Should a version send extra headers, none of them may replace what was decided on."""
    with keybrake.run("agent", cap=1, mode=mode), pytest.raises(keybrake.CallRefused) as caught:
        resend.Emails.send(MAIL, {"headers": {name: "x"}})

    assert caught.value.reason == "header_override"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", ["\ud800", "k\r\nX-Other: y", " k", "k" * 257, "ü", ["k", "ü"]])
def test_a_bad_idempotency_key_is_refused(rows, kind, key):
    """A key that cannot be a header is told so before anything is reserved or sent."""
    with keybrake.run("agent", cap=1) as run, pytest.raises(keybrake.CallRefused) as caught:
        send(kind, None, {"idempotency_key": key})

    assert caught.value.reason == "invalid_idempotency_key"
    assert str(run.reserved) == "0.00"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("to", [{"email": "b@x.y"}, iter(["b@x.y"]), {"b@x.y"}, [["b@x.y"]], 5])
def test_recipients_nobody_can_count_are_refused(rows, kind, to):
    """What is neither a text nor a list of texts sends nothing."""
    with keybrake.run("agent", cap=1), pytest.raises(keybrake.UnknownCost):
        send(kind, {**MAIL, "to": to})
    with keybrake.run("agent", cap=1), pytest.raises(keybrake.UnknownCost):
        do(kind, resend.Batch, "send", [MAIL, {**MAIL, "bcc": to}])

    assert [row["reason"] for row in rows()] == ["unknown_amount", "unknown_amount"]


@pytest.mark.parametrize("verb", ["POST", "Post", "put", "head", "trace", "query"])
def test_no_verb_is_a_way_round(verb):
    """A verb in other letters is the same verb, and one that Resend does not know is refused."""
    with keybrake.run("agent", cap=0), pytest.raises(keybrake.CallRefused):
        Request("/emails", MAIL, verb).perform()


@pytest.mark.parametrize(
    "call",
    [
        lambda: resend.ApiKeys.create({"name": "mine"}),
        lambda: resend.ApiKeys.update({"id": "k", "name": "mine"}),
        lambda: resend.Automations.update({"automation_id": "a", "status": "enabled"}),
        lambda: resend.Webhooks.create({"endpoint": "https://x.y", "events": ["email.sent"]}),
        lambda: resend.Inboxes.Agent.update({"inbox_id": "i", "actions": ["forward_thread"]}),
        lambda: resend.Domains.Claims.create({"name": "x.y"}),
    ],
)
def test_standing_authority_is_refused(call):
    """What acts later by itself is refused unless the allowlist names it exactly."""
    wide = [f"resend.{'*.' * depth}{verb}" for depth in (1, 2) for verb in ("create", "update")]
    for allow in (None, wide):
        with (
            keybrake.run("agent", cap=1, allow=allow),
            pytest.raises(keybrake.EndpointNotAllowed) as caught,
        ):
            call()
        assert caught.value.reason == "standing_authority"


def test_an_unlisted_write_is_refused():
    """A write that no row is about sends nothing."""
    with keybrake.run("agent", cap=1), pytest.raises(keybrake.EndpointNotAllowed) as caught:
        Request("/billing/upgrade", {}, "post").perform()

    assert caught.value.reason == "unclassified_endpoint"


@pytest.fixture
def refusal():
    """Return a refusal as it comes out of the SDK."""
    with keybrake.run("agent", cap=0), pytest.raises(keybrake.CapExceeded) as caught:
        resend.Emails.send(MAIL)
    return caught.value


def test_a_refusal_is_resends_own_error_too(refusal):
    """Existing handlers of Resend's errors catch it, and retriers let it be."""
    assert isinstance(refusal, ResendError)
    assert not isinstance(refusal, RateLimitError | ApplicationError | OSError)
    assert (refusal.code, refusal.error_type) == (403, "cap_exceeded")
    assert refusal.suggested_action == refusal.hint
    assert refusal.message == str(refusal)
    assert refusal.retryable is False


def _same(error):
    return (
        type(error).__name__,
        isinstance(error, ResendError),
        isinstance(error, keybrake.CapExceeded),
        error.code,
        error.error_type,
        error.fields,
        str(error),
    )


@pytest.mark.parametrize(
    "through", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_a_refusal_survives_copies(refusal, through):
    """Copying and pickling lose nothing of a refusal."""
    assert _same(through(refusal)) == _same(refusal)


def test_a_refusal_survives_another_process(refusal):
    """A refusal comes back whole from a process pool."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert _same(pool.apply(copy.copy, (refusal,))) == _same(refusal)


def test_every_refusal_has_resends_shape():
    """Each kind of refusal is one of Resend's errors as well."""
    from keybrake.sdk import sdk_errors

    for kind in vars(keybrake.errors).values():
        if isinstance(kind, type) and issubclass(kind, keybrake.CallRefused):
            made = sdk_errors.as_sdk_error("resend", kind("no", reason="why", hint="Ask."))
            assert isinstance(made, ResendError)
            assert pickle.loads(pickle.dumps(made)).fields == made.fields


def test_an_allowlist_may_name_resend():
    """Patterns for Resend's endpoints are known, and misspelt ones told."""
    assert "resend.batch.send" in Resend().endpoints()
    with keybrake.run("agent", cap=1, allow=["resend.emails.*", "POST resend:/emails/batch"]):
        pass
    with pytest.raises(keybrake.PolicyError, match="did you mean"):
        keybrake.run("agent", cap=1, allow=["resend.email.send"])
