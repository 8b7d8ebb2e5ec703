"""Does a credential leave by another way than was looked at: a proxy, an unverified server, a client put in later?"""

import asyncio
import ssl
import threading
import urllib.request

import aiohttp
import httpx
import pytest
import requests
import resend
import stripe
import trustme
import urllib3
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

import keybrake
from keybrake.testing.fake_twilio import clients
from tests.conftest import ScriptedServer
from tests.sdk._resend_calls import MAIL
from tests.sdk._vault_calls import ANSWERS, OLD_WAYS, SECRETS, SID, caller, operator

pytestmark = OLD_WAYS

ASK = {"amount": 500, "currency": "usd"}
SMS = {"to": "+15005550001", "from_": "+15005550006", "body": "Hi"}
UNVERIFIED = "does not verify whom it talks to"


class TlsServer(ScriptedServer):
    """The same with a certificate of an authority that nobody trusts, unless a test does."""

    def __init__(self):
        super().__init__()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority = trustme.CA()
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def url(self):
        """Where it listens."""
        return f"https://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """A client that does not trust it hangs up, which is what is wanted."""


def _served(kind):
    with kind() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def elsewhere():
    """Start a proxy of the attacker's."""
    yield from _served(ScriptedServer)


@pytest.fixture
def untrusted():
    """Start a server that is an own host by name, and whose certificate is worth nothing."""
    yield from _served(TlsServer)


@pytest.fixture
def key(ledger_url, wire, untrusted, monkeypatch):
    """Return a vault key; both servers are the vendors' own by the operator's word."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    operator(monkeypatch)
    both = [wire.url, untrusted.url]
    keybrake.configure(extra_hosts=dict.fromkeys(SECRETS, both))
    return keybrake.issue_vault_key("session-7", cap=20)


@pytest.fixture
def stopped(rows, wire, untrusted, elsewhere):
    """Return a check that a call was stopped, that no byte of it left, and that it cost nothing."""

    def check(attack, told, state="voided"):
        with pytest.raises(keybrake.HostNotAllowed, match=told) as caught:
            attack()
        assert caught.value.reason == "host_not_allowed"
        assert elsewhere.seen == untrusted.seen == []
        assert not any(SECRETS["stripe"].encode() in sent for sent in wire.seen)
        assert rows()[-1]["state"] == state
        assert rows()[-1]["cost"] in (0, None)

    return check


class Deed:
    """Headers of an answer; something happens the moment they are sent."""

    def __init__(self, deed):
        self.deed = deed

    def keys(self):
        self.deed()
        return ["Content-Type"]

    def __getitem__(self, name):
        return "application/json"


def _client(key, url, http_client):
    bases = dict.fromkeys(("api", "files", "connect", "meter_events"), url)
    return stripe.StripeClient(
        key, base_addresses=bases, http_client=http_client, max_network_retries=1
    )


def _in_a_loop(make, key, url):
    async def main():
        http_client = make()
        try:
            await _client(key, url, http_client).v1.payment_intents.create_async(ASK)
        finally:
            await http_client.close_async()

    return lambda: asyncio.run(main())


@pytest.mark.parametrize("no", [False, 0, "", None])
@pytest.mark.parametrize("kind", ["RequestsClient", "UrllibClient", "HTTPXClient", "AIOHTTPClient"])
def test_whatever_stands_for_no(stopped, key, untrusted, kind, no):
    """A client that verifies nobody gets nothing, however its maker put it."""
    if kind in ("RequestsClient", "UrllibClient"):
        http_client = getattr(stripe, kind)(verify_ssl_certs=no)
        client = _client(key, untrusted.url, http_client)
        stopped(lambda: client.v1.payment_intents.create(ASK), UNVERIFIED, "refused")
    else:
        attack = _in_a_loop(lambda: getattr(stripe, kind)(verify_ssl_certs=no), key, untrusted.url)
        stopped(attack, UNVERIFIED, "refused")


@pytest.mark.parametrize("kind", ["HTTPXClient", "AIOHTTPClient"])
def test_the_client_behind_the_client(stopped, key, untrusted, kind):
    """Async calls of a plain client go through another one, which is looked at, too."""

    def make():
        behind = getattr(stripe, kind)(verify_ssl_certs=False)
        return stripe.RequestsClient(async_fallback_client=behind)

    stopped(_in_a_loop(make, key, untrusted.url), UNVERIFIED, "refused")


@pytest.fixture
def trusted(key, untrusted, monkeypatch, tmp_path):
    """Return the server once its authority is trusted, as a vendor's is, in whatever way a client asks."""
    file = str(tmp_path / "authority.pem")
    untrusted.authority.cert_pem.write_to_path(file)
    monkeypatch.setattr(stripe, "ca_bundle_path", file)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, file)
    return untrusted


@pytest.mark.parametrize("kind", ["RequestsClient", "UrllibClient", "HTTPXClient"])
def test_verified_tls_carries_it(key, trusted, rows, kind):
    """The ordinary way: every client of the SDK, as it comes, over TLS that it verifies."""
    options = {"allow_sync_methods": True} if kind == "HTTPXClient" else {}
    trusted.answer(200, ANSWERS["stripe"])
    http_client = getattr(stripe, kind)(**options)
    _client(key, trusted.url, http_client).v1.payment_intents.create(ASK)
    http_client.close()
    assert SECRETS["stripe"].encode() in trusted.seen[0]
    assert [row["state"] for row in rows()] == ["settled"]


@pytest.mark.parametrize("kind", ["HTTPXClient", "AIOHTTPClient"])
def test_verified_tls_carries_it_in_a_task(key, trusted, rows, kind):
    """The same for async calls."""
    trusted.answer(200, ANSWERS["stripe"])
    _in_a_loop(getattr(stripe, kind), key, trusted.url)()
    assert SECRETS["stripe"].encode() in trusted.seen[0]
    assert [row["state"] for row in rows()] == ["settled"]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_verified_tls_carries_it_at_the_others(key, trusted, rows, monkeypatch, way):
    """The same for Resend, and for Twilio by its own clients, moved to the server's address."""
    trusted.answer(200, ANSWERS["resend"], {"Content-Type": "application/json"})
    caller("resend", way, key, trusted.url, monkeypatch).call()
    trusted.answer(200, ANSWERS["twilio"])
    context = ssl.create_default_context(cafile=stripe.ca_bundle_path)

    async def main():
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session:
            http_client = clients.async_client(trusted.url, pool_connections=False)
            http_client.session = session
            await Client(SID, key, http_client=http_client).messages.create_async(**SMS)

    if way == "sync":
        caller("twilio", way, key, trusted.url, monkeypatch).call()
    else:
        asyncio.run(main())
    assert SECRETS["resend"].encode() in trusted.seen[0]
    assert b"authorization: basic" in trusted.seen[1].lower()
    assert [row["state"] for row in rows()] == ["settled", "settled"]


@pytest.mark.parametrize("what", ["proxy", "verify"])
def test_httpx_in_the_plain_way(stopped, key, wire, untrusted, elsewhere, what):
    """Stripe's httpx client may be allowed sync calls: they are looked at as well."""
    http_client = stripe.HTTPXClient(allow_sync_methods=True)
    given = {"proxy": {"proxy": elsewhere.url}, "verify": {"verify": False}}[what]
    http_client._client = httpx.Client(**given)
    client = _client(key, wire.url if what == "proxy" else untrusted.url, http_client)
    told = "the proxy" if what == "proxy" else UNVERIFIED
    stopped(lambda: client.v1.payment_intents.create(ASK), told)


def test_a_certificate_nobody_trusts(key, untrusted, rows):
    """A client that verifies does so, and the call is voided: nothing left."""
    client = _client(key, untrusted.url, stripe.RequestsClient())
    with pytest.raises(stripe.APIConnectionError):
        client.v1.payment_intents.create(ASK)
    assert untrusted.seen == []
    assert rows()[-1]["reserved"] in (0, 5_000_000)


def _session(**settings):
    session = requests.Session()
    for name, value in settings.items():
        setattr(session, name, value)
    return session


def test_a_client_put_in_during_a_look_up(stopped, key, wire, elsewhere, monkeypatch):
    """What is looked at before the decision is looked at again when it is used."""
    charge = {"id": "ch_1", "object": "charge", "amount": 900, "amount_refunded": 0}
    answer = {**charge, "currency": "usd", "status": "succeeded", "refunded": False}

    def deed():
        stripe.default_http_client = stripe.RequestsClient(proxy=elsewhere.url)

    wire.script.append((200, answer, Deed(deed)))
    monkeypatch.setattr(stripe, "api_key", key)
    with pytest.raises(keybrake.HostNotAllowed, match="the proxy"):
        stripe.Refund.create(charge="ch_1")
    assert elsewhere.seen == []


@pytest.mark.parametrize("what", ["session proxies", "session verify", "proxy", "environment"])
def test_a_client_that_changes_once_it_is_admitted(  # noqa: PLR0917
    stopped, key, wire, untrusted, elsewhere, once_admitted, monkeypatch, what
):
    """The same for its settings, and for the environment."""
    session = _session()
    http_client = stripe.RequestsClient(session=session)
    deeds = {
        "session proxies": lambda: session.proxies.update(http=elsewhere.url),
        "session verify": lambda: setattr(http_client, "_verify_ssl_certs", False),
        "proxy": lambda: setattr(http_client, "_proxy", {"http": elsewhere.url}),
        "environment": lambda: monkeypatch.setenv("HTTP_PROXY", elsewhere.url),
    }
    once_admitted(deeds[what])
    url = untrusted.url if what == "session verify" else wire.url
    client = _client(key, url, http_client)
    told = UNVERIFIED if what == "session verify" else "the proxy"
    stopped(lambda: client.v1.payment_intents.create(ASK), told)


def test_a_proxy_that_comes_between_two_attempts(key, wire, elsewhere, rows, monkeypatch):
    """The SDK's second attempt is looked at like the first; the first may have been carried out."""
    client = _client(key, wire.url, stripe.RequestsClient())

    deed = Deed(lambda: monkeypatch.setenv("HTTP_PROXY", elsewhere.url))
    wire.script.append((500, {"error": {"message": "no"}}, deed))
    with pytest.raises(keybrake.CallStopped, match="the proxy"):
        client.v1.payment_intents.create(ASK)
    assert (len(wire.seen), elsewhere.seen) == (1, [])
    assert [row["state"] for row in rows()] == ["unknown"]


@pytest.mark.parametrize("when", ["built", "called"])
def test_an_httpx_client_that_took_a_proxy_from_the_environment(
    stopped, key, wire, elsewhere, monkeypatch, when
):
    """What it took when it was built it has still, whatever the environment says by now."""

    def make():
        with monkeypatch.context() as then:
            then.setenv("HTTP_PROXY", elsewhere.url)
            if when == "built":
                return stripe.HTTPXClient()
        http_client = stripe.HTTPXClient()
        http_client._client_async = httpx.AsyncClient(proxy=elsewhere.url)
        return http_client

    stopped(_in_a_loop(make, key, wire.url), "the proxy")


def test_httpx_reads_no_proxy_in_its_own_way(stopped, key, wire, elsewhere, monkeypatch):
    """Where two programs read the same variable differently, what is used is what counts."""
    monkeypatch.setattr(resend, "api_key", key)
    monkeypatch.setattr(resend, "api_url", wire.url)
    monkeypatch.setenv("HTTP_PROXY", elsewhere.url)
    monkeypatch.setenv("NO_PROXY", "..0.0.1")  # for urllib; to httpx it is another host
    stopped(lambda: asyncio.run(resend.Emails.send_async(MAIL)), "the proxy")


def test_an_opener_that_somebody_installed(stopped, key, wire, elsewhere):
    """Urllib asks it for every request of the process."""
    urllib.request.install_opener(
        urllib.request.build_opener(urllib.request.ProxyHandler({"http": elsewhere.url}))
    )
    try:
        client = _client(key, wire.url, stripe.UrllibClient())
        stopped(lambda: client.v1.payment_intents.create(ASK), "the proxy")
    finally:
        urllib.request.install_opener(None)


def test_an_opener_that_trusts_anybody(stopped, key, untrusted):
    """The same for a handler of TLS."""
    handler = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
    urllib.request.install_opener(urllib.request.build_opener(handler))
    try:
        client = _client(key, untrusted.url, stripe.UrllibClient())
        stopped(lambda: client.v1.payment_intents.create(ASK), UNVERIFIED)
    finally:
        urllib.request.install_opener(None)


@pytest.mark.parametrize("how", ["connector", "fingerprint", "unix", "proxy", "trust_env"])
def test_an_aiohttp_session_of_ones_own(  # noqa: PLR0917
    stopped, key, wire, untrusted, elsewhere, monkeypatch, how
):
    """Twilio's async client takes any session: it is looked at when it is used."""

    async def main():
        if how == "trust_env":
            monkeypatch.setenv("HTTP_PROXY", elsewhere.url)
        session = {
            "connector": lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)),
            "fingerprint": lambda: aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=aiohttp.Fingerprint(b"0" * 32))
            ),
            "unix": lambda: aiohttp.ClientSession(connector=aiohttp.UnixConnector("/nowhere")),
            "proxy": lambda: aiohttp.ClientSession(proxy=elsewhere.url),
            "trust_env": lambda: aiohttp.ClientSession(trust_env=True),
        }[how]()
        http_client = AsyncTwilioHttpClient(pool_connections=False)
        http_client.session = session
        url = wire.url if how in ("proxy", "trust_env") else untrusted.url
        send = http_client.request

        async def moved(method, uri, **facts):
            return await send(method, uri.replace("https://api.twilio.com", url), **facts)

        http_client.request = moved
        client = Client(SID, key, http_client=http_client)
        try:
            await client.messages.create_async(**SMS)
        finally:
            await session.close()

    told = {"connector": UNVERIFIED, "fingerprint": UNVERIFIED, "unix": "a UnixConnector"}
    stopped(lambda: asyncio.run(main()), told.get(how, "the proxy"))


class Prepares(stripe.RequestsClient):
    """An HTTP client that prepares its requests itself, and leaves the settings to the session."""

    def __init__(self, mine):
        super().__init__()
        self.mine = mine

    def request(self, method, url, headers, post_data=None):
        request = self.mine.prepare_request(requests.Request(method, url, headers, data=post_data))
        answer = self.mine.send(request)
        return answer.content, answer.status_code, answer.headers


def _mounted(**changes):
    session = requests.Session()
    adapter = requests.adapters.HTTPAdapter()
    adapter.poolmanager.connection_pool_kw.update(changes)
    session.mount("https://", adapter)
    return session


def _through(proxy):
    session = requests.Session()
    adapter = requests.adapters.HTTPAdapter()
    adapter.poolmanager = urllib3.ProxyManager(proxy)
    session.mount("http://", adapter)
    return session


@pytest.mark.parametrize("what", ["verify", "proxies", "names", "pool"])
def test_what_requests_would_do_by_itself(stopped, key, wire, untrusted, elsewhere, what):
    """Settings of a session, of the environment and of an adapter are looked at where they take effect."""
    mine = {
        "verify": lambda: _session(verify=False),
        "proxies": lambda: _session(proxies={"http": elsewhere.url}),
        "names": lambda: _mounted(assert_hostname=False),
        "pool": lambda: _through(elsewhere.url),
    }[what]()
    url = untrusted.url if what in ("verify", "names") else wire.url
    http_client = Prepares(mine)
    client = _client(key, url, http_client)
    told = UNVERIFIED if what in ("verify", "names") else "the proxy"
    stopped(lambda: client.v1.payment_intents.create(ASK), told)


def test_a_handler_that_checks_no_names(stopped, key, untrusted):
    """urllib's, too."""
    handler = urllib.request.HTTPSHandler(check_hostname=False)
    urllib.request.install_opener(urllib.request.build_opener(handler))
    try:
        client = _client(key, untrusted.url, stripe.UrllibClient())
        stopped(lambda: client.v1.payment_intents.create(ASK), UNVERIFIED)
    finally:
        urllib.request.install_opener(None)


def test_a_netrc_file_does_not_take_the_credentials_place(key, wire, monkeypatch, tmp_path):
    """Requests would send what stands there instead, to the vendor of all."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wire.answer(200, ANSWERS["stripe"])
    _client(key, wire.url, stripe.RequestsClient()).v1.payment_intents.create(ASK)
    assert f"bearer {SECRETS['stripe']}".lower().encode() in wire.seen[0].lower()


def test_a_named_proxy_may_carry_it(key, wire, elsewhere, monkeypatch):
    """By the operator's word."""
    keybrake.configure(proxies=[elsewhere.url])
    monkeypatch.setenv("HTTP_PROXY", elsewhere.url)
    elsewhere.answer(200, ANSWERS["stripe"])
    _client(key, wire.url, stripe.RequestsClient()).v1.payment_intents.create(ASK)
    assert SECRETS["stripe"].encode() in elsewhere.seen[0]


@pytest.mark.parametrize("slot", [" {}", "\t{}", "{} "])
def test_a_key_with_something_around_it_is_no_raw_key(key, wire, rows, slot):
    """Nobody made such a key, and nothing of it goes out."""
    with pytest.raises(keybrake.CredentialUnavailable):
        stripe.PaymentIntent.create(**ASK, api_key=slot.format(key))
    assert wire.seen == []


def test_what_is_left_of_a_streamed_answer(key, wire, monkeypatch):
    """The request that hangs on to a response has no credential, also while the body is still read."""
    seen = []

    async def main():
        http_client = stripe.HTTPXClient()
        send = http_client._client_async.send

        async def kept(request, **facts):
            response = await send(request, **facts)
            seen.append(response.request.headers["Authorization"])
            return response

        http_client._client_async.send = kept
        wire.answer(200, ANSWERS["stripe"])
        client = _client(key, wire.url, http_client)
        await client.v1.payment_intents.create_async(ASK)
        await http_client.close_async()

    asyncio.run(main())
    assert seen == ["<credential>"]
    assert SECRETS["stripe"].encode() in wire.seen[0]
