"""What did it come to: does only proof void a Resend call, and does every answer pass on?"""

import asyncio
import contextvars
import datetime as dt

import pytest
import requests
import resend
from resend.exceptions import ResendError

import keybrake
from keybrake.testing import FakeResend, Fault
from tests.sdk._resend_calls import KINDS, MAIL, do, send


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("fault", "state"),
    [
        *(("error_500_before", "unknown"), ("error_500_after", "unknown")),
        *(("reset_before", "unknown"), ("reset_after", "unknown"), ("timeout_after", "unknown")),
        *(("truncate", "unknown"), ("garbage", "unknown")),
        *(("rate_limit", "voided"), ("conflict", "voided")),
    ],
)
def test_faults(fake_resend, ledger_url, rows, kind, fault, state):
    """Only proof voids a call, and the SDK's own error passes on."""
    fake_resend.inject(Fault(fault, hang=0.1))
    with keybrake.run("agent", cap=1) as run, pytest.raises(ResendError) as caught:
        send(kind)

    assert not isinstance(caught.value, keybrake.KeybrakeError)
    assert [row["state"] for row in rows()] == [state]
    assert str(run.reserved) == ("0.0009" if state == "unknown" else "0.00")
    assert str(run.spent) == "0.00"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 451])
@pytest.mark.parametrize("body", ["json", "html"])
def test_a_refusal_of_resends_is_voided(  # noqa: PLR0917
    wire, ledger_url, rows, monkeypatch, kind, status, body
):
    """A definite no sent nothing, in whatever words it is said."""
    monkeypatch.setattr(resend, "api_url", wire.url)
    monkeypatch.setattr(resend, "api_key", "re_fake")
    if body == "json":
        told = {"statusCode": status, "name": "validation_error", "message": "no"}
        wire.answer(status, told, {"Content-Type": "application/json"})
    else:
        wire.answer(status, b"<html>", {"Content-Type": "text/html"})
    with keybrake.run("agent", cap=1), pytest.raises(ResendError):
        send(kind)

    assert [(row["state"], row["http_status"]) for row in rows()] == [("voided", status)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"{"),
        (200, b""),
        (200, b"[]"),
        (200, b'{"id": 5}'),
        (200, b'{"statusCode": 422, "name": "validation_error", "message": "no"}'),
        (202, b"null"),
        (204, b""),
        (302, b"{}"),
        (500, b"{}"),
        (503, b"<html>"),
    ],
)
def test_an_answer_that_proves_nothing_is_unknown(  # noqa: PLR0917
    wire, ledger_url, rows, monkeypatch, kind, status, body
):
    """What is no success with an id, and no refusal, may have sent the email."""
    monkeypatch.setattr(resend, "api_url", wire.url)
    monkeypatch.setattr(resend, "api_key", "re_fake")
    wire.answer(status, body, {"Content-Type": "application/json"})
    with keybrake.run("agent", cap=1):
        try:
            send(kind)
        except keybrake.KeybrakeError:
            raise
        except Exception:  # noqa: BLE001 -- whatever the SDK makes of it
            pass

    assert [(row["state"], row["http_status"]) for row in rows()] == [("unknown", status)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_connection_is_voided(fake_resend, ledger_url, rows, kind):
    """A connection that was never made sent nothing."""
    fake_resend.stop()
    with keybrake.run("agent", cap=1), pytest.raises(ResendError):
        send(kind)

    assert [row["state"] for row in rows()] == ["voided"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "field", [{"scheduled_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}, {"tags": {1}}]
)
def test_what_cannot_be_encoded_is_voided(fake_resend, ledger_url, rows, kind, field):
    """A body that no JSON can be made of has not been sent."""
    with keybrake.run("agent", cap=1), pytest.raises(ResendError):
        send(kind, {**MAIL, **field})

    assert fake_resend.journal.entries == ()
    assert [row["state"] for row in rows()] == ["voided"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_caller_was_handling_proves_nothing(fake_resend, ledger_url, rows, kind):
    """A call made while a refused connection is being handled is not voided by that one."""
    fake_resend.inject(Fault("reset_after"))
    with keybrake.run("agent", cap=1):
        try:
            raise ConnectionRefusedError  # noqa: TRY301 -- what the caller is in the middle of
        except ConnectionRefusedError:
            with pytest.raises(ResendError):
                send(kind)

    assert [row["state"] for row in rows()] == ["unknown"]


class Twice(resend.RequestsClient):
    """Tries again by itself, at an address where nobody is."""

    def request(self, method, url, *args, **kwargs):
        try:
            return super().request(method, url, *args, **kwargs)
        except RuntimeError:
            return super().request(method, "http://127.0.0.1:1/emails", *args, **kwargs)


def test_a_client_that_tries_again_proves_nothing(fake_resend, ledger_url, rows, monkeypatch):
    """The last attempt of a user's own HTTP client may not be the only one."""
    monkeypatch.setattr(resend, "default_http_client", Twice())
    fake_resend.inject(Fault("reset_after"))
    with keybrake.run("agent", cap=1), pytest.raises(ResendError):
        resend.Emails.send(MAIL)

    assert fake_resend.journal.total("email") == 1
    assert [row["state"] for row in rows()] == ["unknown"]


class TwiceAsync(resend.HTTPXClient):
    """The same for async calls."""

    async def request(self, method, url, *args, **kwargs):
        try:
            return await super().request(method, url, *args, **kwargs)
        except RuntimeError:
            return await super().request(method, "http://127.0.0.1:1/emails", *args, **kwargs)


def test_an_async_client_that_tries_again_proves_nothing(
    fake_resend, ledger_url, rows, monkeypatch
):
    """The last attempt of a user's own async client may not be the only one."""
    monkeypatch.setattr(resend, "default_async_http_client", TwiceAsync())
    fake_resend.inject(Fault("reset_after"))
    with keybrake.run("agent", cap=1), pytest.raises(ResendError):
        send("async")

    assert fake_resend.journal.total("email") == 1
    assert [row["state"] for row in rows()] == ["unknown"]


def test_without_an_async_client_nothing_is_sent(fake_resend, ledger_url, rows, monkeypatch):
    """An async call that finds no HTTP client is voided."""
    monkeypatch.setattr(resend, "default_async_http_client", None)
    with keybrake.run("agent", cap=1), pytest.raises(ResendError):
        send("async")

    assert [row["state"] for row in rows()] == ["voided"]


def test_own_http_client_is_used(fake_resend, ledger_url, rows, monkeypatch):
    """A user's own HTTP client makes the request, and the guard stands above it."""
    urls = []

    class Mine(resend.RequestsClient):
        def request(self, method, url, *args, **kwargs):
            urls.append(url)
            return super().request(method, url, *args, **kwargs)

    monkeypatch.setattr(resend, "default_http_client", Mine())
    with keybrake.run("agent", cap="0.0009"):
        resend.Emails.send(MAIL)
        with pytest.raises(keybrake.CapExceeded):
            resend.Emails.send(MAIL)

    assert urls == [f"{fake_resend.url}/emails"]


def test_a_call_made_by_an_http_client(fake_resend, ledger_url, rows, monkeypatch):
    """A call that a user's HTTP client makes while it carries another one is guarded too."""
    refusals = []

    class Nosy(resend.RequestsClient):
        def request(self, *args, **kwargs):
            monkeypatch.setattr(resend, "default_http_client", resend.RequestsClient())
            try:
                resend.Emails.send({**MAIL, "cc": "c@example.com"})
            except keybrake.CapExceeded as refusal:
                refusals.append(refusal)
            return super().request(*args, **kwargs)

    monkeypatch.setattr(resend, "default_http_client", Nosy())
    with keybrake.run("agent", cap="0.0018"):
        resend.Emails.send(MAIL)

    assert len(refusals) == 1
    assert fake_resend.journal.total("email") == 1
    assert sorted(row["state"] for row in rows()) == ["refused", "settled"]


class Interrupted(BaseException):
    """What a signal handler raises in the middle of a call."""


def test_an_interrupt_is_unknown(fake_resend, ledger_url, rows, monkeypatch):
    """An interrupt proves nothing about the call it interrupts."""

    class Interrupting(resend.RequestsClient):
        def request(self, *args, **kwargs):
            super().request(*args, **kwargs)
            raise Interrupted

    monkeypatch.setattr(resend, "default_http_client", Interrupting())
    with keybrake.run("agent", cap=1) as run, pytest.raises(Interrupted):
        resend.Emails.send(MAIL)

    assert [row["state"] for row in rows()] == ["unknown"]
    assert str(run.reserved) == "0.0009"


@pytest.mark.parametrize("surprise", [Interrupted, ArithmeticError])
def test_a_surprise_is_unknown(fake_resend, ledger_url, rows, monkeypatch, surprise):
    """What strikes while a connection is tried, or after the email went, proves nothing."""
    plain = requests.request

    def surprised(*args, **kwargs):
        plain(*args, **kwargs)
        if surprise is Interrupted:
            try:
                raise ConnectionRefusedError  # noqa: TRY301 -- what the signal strikes in
            except ConnectionRefusedError:
                raise Interrupted  # noqa: B904 -- chained by itself, as a signal's is
        raise surprise

    monkeypatch.setattr(requests, "request", surprised)
    with keybrake.run("agent", cap=1):
        try:
            raise ConnectionRefusedError  # noqa: TRY301 -- what the caller is in the middle of
        except ConnectionRefusedError:
            with pytest.raises((ResendError, Interrupted)):
                resend.Emails.send(MAIL)

    assert fake_resend.journal.total("email") == 1
    assert [row["state"] for row in rows()] == ["unknown"]


def test_cancelled_in_flight_is_unknown(fake_resend, ledger_url, rows):
    """A task that gives up on an answer keeps its reservation: the email may have gone."""
    fake_resend.inject(Fault("timeout_after", hang=5))

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(resend.Emails.send_async(MAIL), 0.5)

    with keybrake.run("agent", cap=1) as run:
        asyncio.run(main())

    assert fake_resend.journal.total("email") == 1
    assert [row["state"] for row in rows()] == ["unknown"]
    assert str(run.reserved) == "0.0009"


@pytest.mark.parametrize("context", ["the same", "another"])
def test_closed_in_flight_is_unknown(fake_resend, ledger_url, rows, monkeypatch, context):
    """A coroutine that is closed before its end, in whatever context, leaves its call unknown."""

    class SentAndWaiting(resend.HTTPXClient):
        async def request(self, *args, **kwargs):
            resend.RequestsClient().request(*args, **kwargs)
            await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(resend, "default_async_http_client", SentAndWaiting())

    async def main():
        call = resend.Emails.send_async(MAIL)
        around = contextvars.copy_context()
        around.run(call.send, None)
        if context == "another":
            call.close()
        else:
            around.run(call.close)

    with keybrake.run("agent", cap=1) as run:
        asyncio.run(main())

    assert fake_resend.journal.total("email") == 1
    assert [row["state"] for row in rows()] == ["unknown"]
    assert str(run.reserved) == "0.0009"


def test_many_tasks_on_one_run(fake_resend, ledger_url, rows):
    """Sixty tasks at once send exactly what the cap allows."""

    async def main():
        return await asyncio.gather(
            *(resend.Emails.send_async(MAIL) for _ in range(60)), return_exceptions=True
        )

    with keybrake.run("agent", cap="0.036") as run:
        ended = asyncio.run(main())

    assert sum(isinstance(end, keybrake.CapExceeded) for end in ended) == 20
    assert fake_resend.journal.total("email") == 40
    assert str(run.spent) == "0.036"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", ["send", "get"])
def test_redirects_are_not_followed(  # noqa: PLR0917
    wire, ledger_url, rows, monkeypatch, kind, status, call
):
    """A redirected call goes nowhere else, and is no proof that nothing happened."""
    monkeypatch.setattr(resend, "api_url", wire.url)
    monkeypatch.setattr(resend, "api_key", "re_fake")
    with FakeResend() as elsewhere:
        wire.otherwise = (status, {}, {"Location": f"{elsewhere.url}/emails"})
        with keybrake.run("agent", cap=1), pytest.raises(ResendError):
            send(kind) if call == "send" else do(kind, resend.Emails, "get", "e1")
        assert elsewhere.journal.entries == ()

    assert len(wire.seen) == 1
    assert [row["state"] for row in rows()] == ["unknown" if call == "send" else "settled"]
