"""Is a connection that no guarded call makes noticed, whoever makes it, and none that one makes?"""

import asyncio
import http.client
import json
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import requests
import resend
import stripe
import trio
import urllib3

import keybrake
from keybrake.guard import audit_hook, unguarded_connections
from keybrake.testing import FakeStripe
from keybrake.wire import hosts
from tests.vendors._twilio import SMS, price_all

# twilio and stripe hand things to aiohttp and httpx in ways that those have deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'auth' parameter:DeprecationWarning"),
]

HERE = Path(__file__)
MAIL = {
    "from": "Acme <a@example.com>",
    "to": ["b@example.com"],
    "subject": "Hi",
    "html": "<p>1</p>",
}


@pytest.fixture
def named(fake: FakeStripe, monkeypatch: pytest.MonkeyPatch, ledger_url: str) -> Iterator[str]:
    """Return the fake Stripe's address by a name that has to be looked up, as a host of Stripe's."""
    url = fake.url.replace("127.0.0.1", "localhost")
    for base in ("api_base", "upload_api_base", "connect_api_base", "meter_events_api_base"):
        monkeypatch.setattr(stripe, base, url, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    keybrake.configure(extra_hosts={"stripe": [url, fake.url]})
    unguarded_connections.forget()
    yield url
    unguarded_connections.flush()


@pytest.fixture
def noticed(rows: Callable[[], list[dict[str, Any]]]) -> Callable[[], list[dict[str, Any]]]:
    """Return a function that reads the rows of connections that no guarded call made."""

    def read() -> list[dict[str, Any]]:
        unguarded_connections.flush()
        return [row for row in rows() if row["state"] == "unguarded"]

    return read


def past(vendor: str = "stripe") -> int:
    """Return how many calls and connections went past the guard in this process."""
    return {one.vendor: one.past_the_guard for one in keybrake.status()}[vendor]


# Other ways to the vendor


def by_requests(url: str) -> None:
    requests.post(f"{url}/v1/customers", timeout=9).close()


def by_urllib(url: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(f"{url}/v1/customers", data=b"", timeout=9)
    answer.value.close()


def by_http_client(url: str) -> None:
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=9)) as connection:
        connection.request("GET", "/v1/customers")
        connection.getresponse().read()


def by_urllib3(url: str) -> None:
    with urllib3.PoolManager(timeout=9, retries=False) as pool:
        pool.request("GET", f"{url}/v1/customers")


def by_httpx(url: str) -> None:
    with httpx.Client(timeout=9, trust_env=False) as client:
        client.post(f"{url}/v1/customers")


def by_async_httpx(url: str) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(timeout=9, trust_env=False) as client:
            await client.post(f"{url}/v1/customers")

    asyncio.run(main())


def by_httpx_under_trio(url: str) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(timeout=9, trust_env=False) as client:
            await client.post(f"{url}/v1/customers")

    trio.run(main)


def by_aiohttp(url: str) -> None:
    async def main() -> None:
        async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/customers"):
            pass

    asyncio.run(main())


def by_a_socket(url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.socket() as plain:
        plain.connect((host, int(port)))


def by_a_socket_of_the_event_loop(url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")

    async def main() -> None:
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()

    asyncio.run(main())


def by_a_thread(url: str) -> None:
    thread = threading.Thread(target=by_requests, args=(url,))
    thread.start()
    thread.join()


def by_a_name(url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    socket.getaddrinfo(host, int(port))


WAYS = [
    by_requests, by_urllib, by_http_client, by_urllib3, by_httpx, by_async_httpx, by_httpx_under_trio, by_aiohttp,
    by_a_socket, by_a_socket_of_the_event_loop, by_a_thread,
]  # fmt: skip


@pytest.mark.parametrize("numeric", [False, True], ids=["by name", "by address"])
@pytest.mark.parametrize("way", WAYS)
def test_a_connection_past_the_guard_is_noticed(named, fake, noticed, caplog, way, numeric):
    """Each way to the vendor that is not its SDK is warned of and has a row, in every library."""
    before = past()
    with keybrake.run("agent", cap=5) as run:
        way(fake.url if numeric else named)

    (row,) = noticed()
    host = (fake.url if numeric else named).removeprefix("http://")
    assert (row["vendor"], row["endpoint"], row["path"]) == ("stripe", "stripe.connection", host)
    assert (row["run"], row["cost"], row["method"]) == (1, None, "CONNECT")
    assert row["reason"].startswith("connection past the guard; from ")
    assert f"agent: a connection to {host} was made by no guarded call" in caplog.text
    assert past() > before
    assert run.calls == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_refused_connection_does_not_happen(named, fake, noticed, way):
    """Under ``unguarded = "refuse"`` the caller gets a CallRefused, and the vendor hears nothing."""
    keybrake.configure(unguarded="refuse")
    with keybrake.run("agent", cap=5) as run:
        errors = _errors_of(way, named)

    (refused,) = errors
    assert type(refused) is keybrake.EndpointNotAllowed
    assert (refused.reason, refused.run_id) == ("past_the_guard", run.id)
    assert named.removeprefix("http://") in str(refused)
    assert "through stripe's SDK, or write keybrake.unguarded(reason)" in str(refused)
    assert fake.journal.entries == ()
    assert noticed()[0]["reason"].startswith("connection past the guard, refused; from ")


def _errors_of(way: Callable[[str], None], url: str) -> list[BaseException]:
    """Return what came out of a way, also out of its thread or its nursery."""
    found: list[BaseException] = []
    hook, threading.excepthook = threading.excepthook, lambda said: found.append(said.exc_value)
    try:
        way(url)
    except BaseExceptionGroup as group:
        found.extend(group.exceptions)
    except keybrake.CallRefused as refused:
        found.append(refused)
    finally:
        threading.excepthook = hook
    return found


def test_where_nothing_is_to_be_said_there_is_only_the_row(named, noticed, caplog):
    """Under ``unguarded = "ignore"`` the connection is written down without a word."""
    keybrake.configure(unguarded="ignore")
    with keybrake.run("agent", cap=5):
        by_requests(named)

    assert len(noticed()) == 1
    assert caplog.text == ""


def test_a_place_is_warned_of_once(named, noticed, recwarn, caplog):
    """A loop that connects again and again from one line has one warning and, for each run, one row."""
    for _ in range(2):
        with keybrake.run("agent", cap=5):
            for _ in range(3):
                by_a_name(named)
            by_http_client(named)

    said = [record for record in caplog.records if "no guarded call" in record.message]
    assert len(said) == 2
    assert all(f"({HERE}:" in record.message for record in said)
    assert [row["run"] for row in noticed()] == [1, 1, 2, 2]


def test_the_warning_stands_at_the_line_that_connects(named, monkeypatch):
    """Python's own warning names the file and the line, as for any other."""
    import warnings

    with warnings.catch_warnings(record=True) as caught, keybrake.run("agent", cap=5):
        warnings.simplefilter("always")
        by_a_name(named)

    (warning,) = [one for one in caught if one.category is RuntimeWarning]
    assert (warning.filename, warning.lineno) == (str(HERE), by_a_name.__code__.co_firstlineno + 2)


def test_a_warning_that_is_an_error_ends_nothing(named, noticed, caplog):
    """Where warnings are errors, as in this test suite, the connection is made all the same."""
    with keybrake.run("agent", cap=5):
        by_requests(named)

    assert len(noticed()) == 1


def test_the_row_is_there_before_the_run_ends(named, rows):
    """A run that goes on for hours does not keep its rows to itself."""
    import time

    with keybrake.run("agent", cap=5):
        by_a_name(named)
        until = time.monotonic() + 10
        while not rows() and time.monotonic() < until:
            time.sleep(0.01)
        assert [row["state"] for row in rows()] == ["unguarded"]


def test_a_tool_is_named(named, noticed):
    """A connection inside a tool stands under that tool's name."""

    @keybrake.tool(name="payer")
    def pay() -> None:
        by_requests(named)

    with keybrake.run("agent", cap=5):
        pay()

    assert noticed()[0]["tool"] == "payer"


def test_a_tool_outside_of_every_run_is_noticed(named, noticed):
    """Whoever decorates a tool wants a guard, so its connections are noticed without a run."""
    keybrake.install()
    keybrake.configure(unguarded="refuse")

    @keybrake.tool
    def pay() -> None:
        by_requests(named)

    with pytest.raises(keybrake.EndpointNotAllowed):
        pay()
    assert [(row["run"], row["tool"]) for row in noticed()] == [(None, "pay")]


def test_a_connection_outside_of_the_run_is_noticed(named, noticed):
    """A thread that no run follows into is noticed while a run is open in the process."""
    import contextvars

    with keybrake.run("agent", cap=5):
        contextvars.Context().run(by_requests, named)

    assert [row["run"] for row in noticed()] == [None]


def test_a_process_without_a_run_is_left_alone(named, caplog):
    """Where no run is open, and no vault key binds the process, nothing is noticed."""
    keybrake.install()
    before = past()
    by_requests(named)

    assert past() == before
    assert caplog.text == ""


def test_a_process_under_a_vault_key_is_noticed(named, noticed, monkeypatch):
    """Under ``KEYBRAKE_VAULT_KEY`` the row belongs to the run of the key, also without a block."""
    key = keybrake.issue_vault_key("operator", cap=5)
    monkeypatch.setenv("KEYBRAKE_VAULT_KEY", key)
    keybrake.install()
    by_requests(named)

    assert [row["run"] for row in noticed()] == [1]


def test_in_writing_it_is_allowed(named, noticed, caplog):
    """Inside ``unguarded(reason)`` the connection is made, and its row says the reason."""
    keybrake.configure(unguarded="refuse")
    with keybrake.run("agent", cap=5), keybrake.unguarded("a webhook test"):
        by_requests(named)

    assert [(row["run"], row["reason"]) for row in noticed()] == [(1, "a webhook test")]
    assert caplog.text == ""


def test_uninstall_switches_it_off(named, caplog):
    """After ``uninstall()`` the hook, which Python cannot take out, says nothing any more."""
    with keybrake.run("agent", cap=5):
        pass
    keybrake.uninstall()
    key = keybrake.issue_vault_key  # which would install again
    before = past()
    by_requests(named)

    assert (past(), caplog.text) == (before, "")
    assert callable(key)


# Names that mean the vendor


@pytest.mark.parametrize(
    ("event", "args", "host"),
    [
        ("socket.getaddrinfo", ("api.stripe.com", 443, 0, 1, 0), "api.stripe.com:443"),
        ("socket.getaddrinfo", (b"api.stripe.com", "https", 0, 1, 0), "api.stripe.com:https"),
        ("socket.getaddrinfo", ("API.Stripe.com.", None, 0, 1, 0), "API.Stripe.com."),
        ("socket.getaddrinfo", ("\uff41pi.stripe.com", 443, 0, 0, 0), "\uff41pi.stripe.com:443"),
        ("socket.gethostbyname", ("files.stripe.com",), "files.stripe.com"),
        ("socket.connect", (None, ("api.twilio.com", 443)), "api.twilio.com:443"),
        ("socket.connect", (None, ("api.resend.com", 443, 0, 0)), "api.resend.com:443"),
        ("socket.getaddrinfo", ("api.dublin.ie1.twilio.com", 443, 0, 1, 0), "api.dublin.ie1.twilio.com:443"),
    ],
)  # fmt: skip
def test_every_spelling_of_a_host_is_refused(ledger_url, event, args, host):
    """However a program spells the vendor's host, and by whatever call, it is the vendor's."""
    keybrake.configure(unguarded="refuse")
    with keybrake.run("agent", cap=5), pytest.raises(keybrake.EndpointNotAllowed) as refused:
        sys.audit(event, *args)

    assert host in str(refused.value)


@pytest.mark.parametrize(
    ("event", "args"),
    [
        ("socket.getaddrinfo", ("api.stripe.com.evil.example", 443, 0, 1, 0)),
        ("socket.getaddrinfo", ("docs.stripe.com", 443, 0, 1, 0)),
        ("socket.getaddrinfo", ("www.twilio.com", 443, 0, 1, 0)),
        ("socket.getaddrinfo", (None, 443, 0, 1, 0)),
        ("socket.getaddrinfo", ("xn--a\u0301.\ud800", 443, 0, 1, 0)),
        ("socket.connect", (None, "/run/stripe.sock")),
        ("socket.connect", (None, b"\0api.stripe.com")),
        ("socket.connect", (None, (1, 2))),
        ("socket.connect", (None, ("127.0.0.1", 12112))),
        ("http.client.connect", (None, "api.stripe.com", 443)),
    ],
)
def test_other_hosts_are_left_alone(ledger_url, event, args):
    """Sites for people, other services at an address that was named, and odd values are not meant."""
    keybrake.configure(unguarded="refuse", extra_hosts={"stripe": ["http://127.0.0.1:12111"]})
    with keybrake.run("agent", cap=5):
        sys.audit(event, *args)


# urllib3 leaves the socket to the collector when its proxy's tunnel is refused.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", ["requests", "http.client", "urllib"])
def test_a_tunnel_through_a_proxy_is_seen(ledger_url, way):
    """A client that asks an HTTP proxy to go on to the vendor names the vendor to this process too."""
    keybrake.configure(unguarded="refuse")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        at = f"http://127.0.0.1:{proxy.getsockname()[1]}"

        def go() -> None:
            if way == "requests":
                requests.get("https://api.stripe.com/v1", proxies={"https": at}, timeout=9)
            elif way == "urllib":
                handler = urllib.request.ProxyHandler({"https": at})
                urllib.request.build_opener(handler).open("https://api.stripe.com/v1", timeout=9)
            else:
                tunnel = http.client.HTTPSConnection(at.removeprefix("http://"), timeout=9)
                tunnel.set_tunnel("api.stripe.com", 443)
                tunnel.connect()

        with keybrake.run("agent", cap=5), pytest.raises(keybrake.EndpointNotAllowed):
            go()


def test_a_mistake_of_the_hook_is_none_of_the_programs(named, monkeypatch, caplog):
    """A configuration that is broken meanwhile does not break connections to anywhere."""
    with keybrake.run("agent", cap=5):
        monkeypatch.setattr(hosts, "_OWN", None)
        by_requests(named)

    assert "a connection could not be judged" in caplog.text


# Guarded calls make connections too, and none of them is noticed


def pay(**options: Any) -> None:
    stripe.PaymentIntent.create(amount=100, currency="usd", **options)


@pytest.fixture
def silent(named: str, noticed: Any, caplog: Any) -> Iterator[None]:
    """Refuse connections past the guard, and see that none was noticed in the end."""
    keybrake.configure(unguarded="refuse")
    before = sum(one.past_the_guard for one in keybrake.status())
    yield
    assert noticed() == []
    assert sum(one.past_the_guard for one in keybrake.status()) == before
    assert "no guarded call" not in caplog.text


@pytest.mark.parametrize("kind", [stripe.RequestsClient, stripe.UrllibClient, stripe.HTTPXClient])
def test_stripe_is_silent(silent, monkeypatch, kind):
    """Each HTTP client of stripe's connects for a guarded call, and a second time when it was closed."""
    for _ in range(2):
        client = (
            stripe.HTTPXClient(allow_sync_methods=True) if kind is stripe.HTTPXClient else kind()
        )
        monkeypatch.setattr(stripe, "default_http_client", client)
        with keybrake.run("agent", cap=5) as run:
            pay()
            stripe.Customer.list()
        client.close()

    assert run.calls == 2


@pytest.mark.parametrize(
    ("under", "kind"),
    [
        (asyncio.run, stripe.HTTPXClient),
        (asyncio.run, stripe.AIOHTTPClient),
        (trio.run, stripe.HTTPXClient),
    ],
)
def test_async_stripe_is_silent(silent, monkeypatch, kind, under):
    """Names are looked up in threads there, which belong to the guarded call."""

    async def main() -> None:
        client = kind()
        monkeypatch.setattr(stripe, "default_http_client", client)
        try:
            async with keybrake.run("agent", cap=5) as run:
                await stripe.PaymentIntent.create_async(amount=100, currency="usd")
                await stripe.Customer.list_async()
            assert run.calls == 2
        finally:
            await client.close_async()

    under(main()) if under is asyncio.run else under(main)


def test_look_ups_of_the_guard_are_silent(silent):
    """A refund without an amount has keybrake ask the vendor first; that is its own connection."""
    with keybrake.run("agent", cap=50):
        intent = stripe.PaymentIntent.create(
            amount=100, currency="usd", payment_method="pm_card_visa", confirm=True
        )
    with keybrake.run("refunds", cap=50):
        stripe.Refund.create(payment_intent=intent.id)


def test_resend_is_silent(silent, fake_resend, monkeypatch):
    """Resend's plain and async calls are not noticed."""
    url = fake_resend.url.replace("127.0.0.1", "localhost")
    monkeypatch.setattr(resend, "api_url", url)
    keybrake.configure(
        extra_hosts={"resend": [url]}, prices={"resend": {"per_recipient": "0.0009"}}
    )

    async def main() -> None:
        await resend.Emails.send_async(MAIL)

    with keybrake.run("agent", cap=5) as run:
        resend.Emails.send(MAIL)
        asyncio.run(main())
        trio.run(main)
    assert run.calls == 3


def test_twilio_is_silent(silent, fake_twilio, monkeypatch):
    """Twilio's plain and async calls are not noticed."""
    price_all()
    fake_twilio_url = fake_twilio.url.replace("127.0.0.1", "localhost")
    keybrake.configure(extra_hosts={"twilio": [fake_twilio_url, fake_twilio.url]})

    async def main() -> None:
        async with fake_twilio.async_http_client() as http_client:
            http_client.fake_url = fake_twilio_url
            await fake_twilio.client(http_client=http_client).messages.create_async(**SMS)

    with keybrake.run("agent", cap=5) as run:
        client = fake_twilio.client()
        client.http_client.fake_url = fake_twilio_url
        client.messages.create(**SMS)
        asyncio.run(main())
    assert run.calls == 2


def test_calls_outside_of_a_run_and_unguarded_ones_have_one_row(named, noticed):
    """An SDK's call inside ``unguarded`` has the guard's row, and none for its connection."""
    keybrake.configure(unguarded="refuse")
    with keybrake.run("agent", cap=5), keybrake.unguarded("by hand"):
        pay()

    assert [row["endpoint"] for row in noticed()] == ["stripe.payment_intents.create"]


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_greenlets_are_silent(fake, ledger_url, tmp_path, library):
    """Gevent and eventlet look names up in threads that no context reaches; those are not noticed."""
    patch = "from gevent import monkey; monkey.patch_all()"
    if library == "eventlet":
        patch = "import eventlet; eventlet.monkey_patch()"
    url = fake.url.replace("127.0.0.1", "localhost")
    code = f"""
        {patch}
        import requests, stripe, keybrake
        stripe.api_base, stripe.api_key = {url!r}, "sk_test_fake"
        stripe.default_http_client = stripe.RequestsClient()
        keybrake.configure(ledger={ledger_url!r}, extra_hosts={{"stripe": [{url!r}]}}, unguarded="refuse")
        with keybrake.run("agent", cap=5) as run:
            stripe.PaymentIntent.create(amount=100, currency="usd")
            try:
                requests.get({url!r} + "/v1/customers", timeout=9)
            except keybrake.EndpointNotAllowed as refused:
                print(refused.reason)
        print(run.calls, keybrake.status()[0].past_the_guard)
    """
    ran = run_python(code, tmp_path, EVENTLET_NO_GREENDNS="yes")

    assert ran.stdout.splitlines() == ["past_the_guard", "1 1"], ran.stderr


def run_python(code: str, folder: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a program in a process of its own."""
    import os

    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# The row is written whatever the thread is in the middle of


def test_a_connection_amid_a_transaction_waits_for_no_lock(named, ledger_url, noticed):
    """A signal that makes a connection while its thread holds the ledger's lock does not stand still."""
    ledger = keybrake.open_ledger()
    with keybrake.run("agent", cap=5), ledger.together(durable=False, wait=True):
        by_a_name(named)

    assert len(noticed()) == 1


def test_rows_are_written_at_the_end_of_the_process(fake, ledger_url, tmp_path):
    """A process under a vault key that ends right after its connection leaves the row behind."""
    key = keybrake.issue_vault_key("operator", cap=5)
    code = f"""
        import keybrake, requests
        keybrake.configure(extra_hosts={{"stripe": [{fake.url!r}]}}, unguarded="ignore")
        keybrake.install()
        requests.post({fake.url!r} + "/v1/customers", timeout=9)
    """
    ran = run_python(code, tmp_path, KEYBRAKE_VAULT_KEY=key)
    path = ledger_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        found = db.execute("SELECT state, run FROM call").fetchall()

    assert (found, ran.stderr) == ([("unguarded", 1)], "")


def test_the_ledger_with_such_rows_is_sound(named, ledger_url):
    """Rows of connections stand in the chain like all others."""
    with keybrake.run("agent", cap=5):
        by_requests(named)
    ran = subprocess.run(
        [sys.executable, "-m", "keybrake", "--ledger", ledger_url, "verify", "--json"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert (ran.returncode, json.loads(ran.stdout)["ok"]) == (0, True)


def test_the_hook_is_added_once():
    """However often keybrake is installed, Python has one hook more."""
    audit_hook.add()
    added = audit_hook._added
    keybrake.install()
    keybrake.install()

    assert added
    assert audit_hook._added
