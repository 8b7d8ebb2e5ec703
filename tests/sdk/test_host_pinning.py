"""Can an agent under a vault key have the real credential sent somewhere else?"""

import asyncio
import threading

import httpx
import pytest
import requests
import resend
import stripe
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

import keybrake
from keybrake.sdk import injection
from keybrake.testing.fake_twilio import clients
from keybrake.wire import hosts
from tests.conftest import ScriptedServer
from tests.sdk._vault_calls import ANSWERS, OLD_WAYS, SECRETS, SID, caller, operator

pytestmark = OLD_WAYS

ASK = {"amount": 500, "currency": "usd"}
FORM = {"To": "+15005550001", "From": "+15005550006", "Body": "Hi"}


@pytest.fixture
def elsewhere():
    """Start a server of the attacker's, which nothing of the vendor's may ever reach."""
    with ScriptedServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server(ledger_url, wire, monkeypatch):
    """Return a server that the operator has named for every vendor."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    operator(monkeypatch, stripe=wire.url, twilio=wire.url, resend=wire.url)
    return wire


@pytest.fixture
def key(server):
    """Return a vault key that is in no run."""
    return keybrake.issue_vault_key("session-7", cap=20)


@pytest.fixture
def refused(rows, elsewhere, server):
    """Return a check that a call was refused for one reason, and that no byte went anywhere."""

    def check(attack, reason="host_not_allowed", kind=keybrake.HostNotAllowed):
        with pytest.raises(kind) as caught:
            attack()
        assert caught.value.reason == reason
        assert elsewhere.seen == []
        assert server.seen == []
        assert [(row["state"], row["reason"]) for row in rows()] == [("refused", reason)]

    return check


def _stripe_client(key, url, **options):
    bases = dict.fromkeys(("api", "files", "connect", "meter_events"), url)
    return stripe.StripeClient(key, base_addresses=bases, max_network_retries=0, **options)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_stripe_api_base(refused, key, elsewhere, monkeypatch, way):
    """The address of the whole module is the agent's to set, and the credential does not go there."""
    refused(caller("stripe", way, key, elsewhere.url, monkeypatch).call)


def test_stripe_base_addresses(refused, key, elsewhere):
    """The same for the addresses of one client."""
    refused(lambda: _stripe_client(key, elsewhere.url).v1.payment_intents.create(ASK))


@pytest.mark.parametrize("base", ["https://api.stripe.com", "named"])
def test_stripe_raw_request_at_another_host(refused, key, server, elsewhere, base):
    """What stands after an @ would be the host, and what is before it a user."""
    base = server.url if base == "named" else base
    url = f"@{elsewhere.url.removeprefix('http://')}/v1/payment_intents"
    refused(lambda: _stripe_client(key, base).raw_request("post", url, **ASK))


@pytest.mark.parametrize("mode", ["enforce", "report"])
@pytest.mark.parametrize(
    "base",
    [
        "https://api.stripe.com.evil.test",
        "https://api.stripe.com@evil.test",
        "https://api.stripe.com\\@evil.test",
        "https://api.stripe.com#@evil.test",
        "https://API.stripe.com",
        "https://api.stripe.com.",
        "https://xapi.stripe.com",
        "https://api.stripe.com:8443",
        "http://api.stripe.com",
        "//api.stripe.com",
        "HTTPS://api.stripe.com",
        " https://api.stripe.com",
    ],
)
def test_almost_stripe(refused, server, base, mode):
    """Only the vendor's own hosts, to the letter, by https, are the vendor's."""
    with keybrake.run("agent", cap=20, mode=mode) as run:
        refused(lambda: _stripe_client(run.key, base).v1.payment_intents.create(ASK))


@pytest.mark.parametrize("path", ["/v1/x/../payment_intents", "/v1/payment%5Fintents"])
def test_odd_paths(refused, key, server, path):
    """A path that a server could read in another way is refused as before."""
    refused(
        lambda: _stripe_client(key, server.url).raw_request("post", path, **ASK),
        "path_not_canonical",
        keybrake.EndpointNotAllowed,
    )


@pytest.mark.parametrize("name", ["Authorization", "authorization", "Idempotency-Key", "Host"])
def test_header_overrides(refused, key, server, name):
    """No header of the agent's takes the place of what was decided on."""
    options = {"headers": {name: "x"}}
    refused(
        lambda: _stripe_client(key, server.url).v1.payment_intents.create(ASK, options),
        "header_override",
        keybrake.EndpointNotAllowed,
    )


@pytest.mark.parametrize("by", ["module", "client", "raw"])
def test_another_key_for_one_call(refused, key, server, monkeypatch, by):
    """Beside a vault key for all calls, one call brings no raw key of its own."""
    monkeypatch.setattr(stripe, "api_key", key)
    client, own = _stripe_client(key, server.url), {"api_key": "sk_test_own"}
    call = {
        "module": lambda: stripe.PaymentIntent.create(**ASK, **own),
        "client": lambda: client.v1.payment_intents.create(ASK, own),
        "raw": lambda: client.raw_request("post", "/v1/payment_intents", **ASK, **own),
    }[by]
    refused(
        call,
        "header_override",
        keybrake.EndpointNotAllowed,
    )


class Liar(str):
    """A text that says something else of itself than it is."""

    __slots__ = ()

    def __str__(self):
        return "x-harmless"

    def lower(self):
        return "x-harmless"


@pytest.mark.parametrize(
    "by", ["option", "header", "header_", "liar", "context", "context header", "client"]
)
def test_another_account(refused, key, server, by):
    """The credential acts for its own account, unless the operator names others."""
    client = _stripe_client(key, server.url)
    options = {
        "option": {"stripe_account": "acct_1Other"},
        "header": {"headers": {"Stripe-Account": "acct_1Other"}},
        "header_": {"headers": {"Stripe_Account": "acct_1Other"}},
        "liar": {"headers": {Liar("Stripe-Account"): "acct_1Other"}},
        "context header": {"headers": {"STRIPE_CONTEXT": "acct_1Other"}},
        "context": {"stripe_context": "acct_1Other"},
        "client": {},
    }[by]
    if by == "client":
        client = _stripe_client(key, server.url, stripe_account="acct_1Other")
    refused(
        lambda: client.v1.payment_intents.create(ASK, options),
        "account_not_allowed",
        keybrake.EndpointNotAllowed,
    )


def test_an_account_beside_one_that_was_named(refused, key, server):
    """Each of them has to be named."""
    keybrake.configure(accounts={"stripe": ["acct_1Other"]})
    options = {"stripe_account": "acct_1Other", "stripe_context": "acct_1Third"}
    refused(
        lambda: _stripe_client(key, server.url).v1.payment_intents.create(ASK, options),
        "account_not_allowed",
        keybrake.EndpointNotAllowed,
    )


def test_an_account_that_was_named(server, key):
    """The operator's word lets a credential act for another account."""
    keybrake.configure(accounts={"stripe": ["acct_1Other"], "twilio": ["AC2"]})
    server.answer(200, ANSWERS["stripe"])
    options = {"stripe_account": "acct_1Other"}
    _stripe_client(key, server.url).v1.payment_intents.create(ASK, options)
    assert b"stripe-account: acct_1other" in server.seen[0].lower()
    server.answer(200, ANSWERS["twilio"])
    client = Client("AC2", key, http_client=_to(server))
    client.messages.create(to=FORM["To"], from_=FORM["From"], body="Hi")
    assert b"/Accounts/AC2/Messages.json" in server.seen[1]


def _to(server):
    return clients.sync_client(server.url, pool_connections=False)


def test_another_pair_for_one_call(refused, key, server):
    """The same for Twilio."""
    client = Client(SID, key, http_client=_to(server))
    url = f"https://api.twilio.com/2010-04-01/Accounts/{SID}/Messages.json"
    refused(
        lambda: client.request("POST", url, data=FORM, auth=(SID, "own")),
        "header_override",
        keybrake.EndpointNotAllowed,
    )


def test_another_account_of_twilio(refused, key, server):
    """A path under another account is another account."""
    client = Client("AC2", key, http_client=_to(server))
    refused(
        lambda: client.messages.create(to=FORM["To"], from_=FORM["From"], body="Hi"),
        "account_not_allowed",
        keybrake.EndpointNotAllowed,
    )


@pytest.mark.parametrize(
    "host",
    [
        "elsewhere",
        "https://evil.test",
        "https://api.twilio.com.evil.test",
        "https://api.twilio.com@evil.test",
        "https://a.b.c.d.twilio.com",
        "http://api.twilio.com",
        "https://evil.test/.twilio.com",
    ],
)
def test_an_absolute_url_of_twilio(refused, key, elsewhere, host):
    """The SDK sends to any address; the credential goes to Twilio's."""
    host = elsewhere.url if host == "elsewhere" else host
    client = Client(SID, key, http_client=TwilioHttpClient(pool_connections=False))
    url = f"{host}/2010-04-01/Accounts/{SID}/Messages.json"
    refused(lambda: client.request("POST", url, data=FORM))


@pytest.mark.parametrize("part", ["region", "edge"])
def test_region_and_edge_are_no_way_out(refused, key, part):
    """The client's region and edge become part of the host: a slash in them would end it."""
    client = Client(SID, key, **{part: "evil.test/"})
    url = f"https://api.twilio.com/2010-04-01/Accounts/{SID}/Messages.json"
    refused(lambda: client.request("POST", url, data=FORM))


@pytest.mark.parametrize("way", ["sync", "async"])
def test_resend_api_url(refused, key, elsewhere, monkeypatch, way):
    """The address of Resend is a global of the agent's, too."""
    refused(caller("resend", way, key, elsewhere.url, monkeypatch).call)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("vendor", list(SECRETS))
def test_a_proxy_of_the_environment(  # noqa: PLR0917
    refused, key, server, elsewhere, monkeypatch, vendor, name
):
    """A proxy that the operator has not named gets nothing."""
    monkeypatch.setenv(name, elsewhere.url)
    if vendor == "twilio":  # which judges by the address above its HTTP client: https
        monkeypatch.setenv("HTTPS_PROXY", elsewhere.url)
    refused(caller(vendor, "sync", key, server.url, monkeypatch).call)


def test_a_proxy_for_the_real_host(monkeypatch, ledger_url):
    """What counts is what HTTP clients would do with the address, no_proxy included."""
    url = "https://api.stripe.com/v1/charges"
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert hosts.objection("stripe", url) is None
    monkeypatch.setenv("HTTP_PROXY", "http://evil.test:3128")
    assert hosts.objection("stripe", url) is None
    monkeypatch.setenv("HTTPS_PROXY", "http://u:secret@evil.test:3128/")
    reason, words = hosts.objection("stripe", url)
    assert (reason, "secret" in words, "evil.test:3128" in words) == (
        "host_not_allowed",
        False,
        True,
    )
    keybrake.configure(proxies=["http://evil.test:3128"])
    assert hosts.objection("stripe", url) is None
    keybrake.configure(proxies=[])
    monkeypatch.setenv("NO_PROXY", "stripe.com")
    assert hosts.objection("stripe", url) is None
    monkeypatch.setenv("NO_PROXY", "other.test")
    assert hosts.objection("stripe", url) is not None


@pytest.mark.parametrize(
    ("proxy", "place"),
    [
        ("evil.test:3128", "http://evil.test:3128"),
        ("http://evil.test", "http://evil.test"),
        ("https://EVIL.test:1/", "https://evil.test:1"),
        ("http://named.test:1#@evil.test", "?"),
        ("http://named.test:1/x?y", "?"),
        ("http://named.test\\@evil.test", "?"),
        ("http://me:pw@evil.test:1", "http://evil.test:1"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        ("socks5://evil.test", "socks5://evil.test"),
        ("http://evil.test:nope", "?"),
    ],
)
def test_a_proxy_is_named_by_where_it_is(ledger_url, proxy, place):
    """However it is written; who may use it is nobody's business."""
    reason, words = hosts.through([proxy])
    assert reason == "host_not_allowed"
    assert words == f"it would go through the proxy {place!r}, which the operator has not named"
    if place.startswith("http"):
        keybrake.configure(proxies=[place])
        assert hosts.through([proxy]) is None


def _session(**settings):
    session = requests.Session()
    for name, value in settings.items():
        setattr(session, name, value)
    return session


@pytest.mark.parametrize(
    "make",
    [
        lambda other: stripe.RequestsClient(proxy=other),
        lambda other: stripe.RequestsClient(proxy={"http": other}),
        lambda other: stripe.RequestsClient(session=_session(proxies={"http": other})),
        lambda other: stripe.RequestsClient(verify_ssl_certs=False),
        lambda other: stripe.UrllibClient(proxy={"http": other}),
        lambda other: stripe.UrllibClient(verify_ssl_certs=False),
        lambda other: stripe.HTTPXClient(proxy=other, allow_sync_methods=True),
        lambda other: stripe.HTTPXClient(verify_ssl_certs=False, allow_sync_methods=True),
    ],
    ids=[
        *("proxy", "proxies", "session", "no tls", "urllib proxy", "urllib no tls"),
        *("httpx proxy", "httpx no tls"),
    ],
)
def test_a_client_with_a_proxy_or_without_tls(refused, key, server, elsewhere, make):
    """A proxy in the agent's own HTTP client, or one that trusts anybody, gets nothing."""
    client = make(elsewhere.url)
    _, words = injection.objection(client)
    assert ("TLS certificates" in words) != (repr(elsewhere.url) in words)
    refused(
        lambda: _stripe_client(key, server.url, http_client=client).v1.payment_intents.create(ASK)
    )


@pytest.mark.parametrize("setting", ["proxy", "session proxies", "session verify"])
def test_twilios_client_with_a_proxy_or_without_tls(refused, key, elsewhere, server, setting):
    """The same for Twilio's."""
    http_client = _to(server)
    if setting == "proxy":
        http_client.proxy = {"https": elsewhere.url}
    elif setting == "session proxies":
        http_client.session = _session(proxies={"https": elsewhere.url})
    else:
        http_client.session = _session(verify=False)
    client = Client(SID, key, http_client=http_client)
    refused(lambda: client.messages.create(to=FORM["To"], from_=FORM["From"], body="Hi"))


@pytest.mark.parametrize("vendor", list(SECRETS))
@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_server_that_redirects(  # noqa: PLR0917
    server, key, rows, elsewhere, monkeypatch, vendor, way
):
    """An own host that sends the call on is not followed, and that is said; nobody knows what it did."""
    server.otherwise = (307, {}, {"Location": f"{elsewhere.url}/v1/payment_intents"})
    with pytest.raises(keybrake.CallStopped, match="the answer 307 leads on to") as caught:
        caller(vendor, way, key, server.url, monkeypatch).call()
    assert caught.value.reason == "host_not_allowed"
    assert (len(server.seen), elsewhere.seen) == (1, [])
    assert [row["state"] for row in rows()] == ["unknown"]


def test_the_address_changes_while_it_is_decided_on(server, key, rows, elsewhere, once_admitted):
    """Another thread moves a client's addresses before the wire: nothing is sent, nothing spent."""
    client = _stripe_client(key, server.url)
    addresses = client._requestor._options.base_addresses
    once_admitted(lambda: addresses.update(api=elsewhere.url))
    with pytest.raises(keybrake.HostNotAllowed) as caught:
        client.raw_request("post", "/v1/payment_intents", **ASK)

    assert isinstance(caught.value, stripe.PermissionError)
    assert caught.value.reason == "host_not_allowed"
    told = f"it would go to '{elsewhere.url}/v1/payment_intents', which is not what was decided on. Nothing was sent."
    assert told in str(caught.value)
    assert "while calls are under way" in caught.value.hint
    assert (server.seen, elsewhere.seen) == ([], [])
    assert [row["state"] for row in rows()] == ["voided"]


def test_a_region_that_changes_while_it_is_decided_on(server, key, rows, once_admitted):
    """The same for what Twilio's client makes a host of."""
    client = Client(SID, key)
    once_admitted(lambda: setattr(client, "region", "evil.test/"))
    with pytest.raises(keybrake.HostNotAllowed):
        client.messages.create(to=FORM["To"], from_=FORM["From"], body="Hi")
    assert [row["state"] for row in rows()] == ["voided"]


def test_a_look_up_goes_nowhere_else(server, key, rows, elsewhere, monkeypatch):
    """A question about an amount goes to the API's address, which may be another than the call's."""
    bases = {"api": elsewhere.url, "files": server.url}
    client = stripe.StripeClient(key, base_addresses=bases, max_network_retries=0)
    requestor = client._requestor
    with pytest.raises(keybrake.UnknownCost):
        requestor.request_raw(
            "post", "/v1/refunds", {"charge": "ch_1"}, base_address="files", api_mode="V1"
        )
    assert (server.seen, elsewhere.seen) == ([], [])


def test_an_http_client_used_by_hand_gets_no_credential(server, key, elsewhere):
    """Below the SDK's calls there is only the vault key to send."""
    http_client = stripe.RequestsClient()
    headers = {"Authorization": f"Bearer {key}"}
    http_client.request_with_retries("post", f"{elsewhere.url}/v1/x", headers, "a=1")
    http_client.close()
    assert SECRETS["stripe"].encode() not in elsewhere.seen[0]


def test_a_client_that_calls_elsewhere_in_the_middle(server, key, elsewhere):
    """Nor does a nested request of an agent's own HTTP client, while a call is on the wire."""

    class Twice(stripe.RequestsClient):
        def request(self, method, url, headers, post_data=None):
            given = {"Authorization": "Bearer mine"}
            stripe.RequestsClient().request_with_retries("post", f"{elsewhere.url}/v1/x", given, "")
            return super().request(method, url, headers, post_data)

    client = _stripe_client(key, server.url, http_client=Twice())
    with pytest.raises(keybrake.HostNotAllowed):
        client.v1.payment_intents.create(ASK)
    assert (server.seen, elsewhere.seen) == ([], [])


def test_httpx_that_follows_by_itself(server, key, rows, elsewhere):
    """An httpx client of the agent's own that follows redirects takes no credential along."""

    async def main():
        http_client = stripe.HTTPXClient()
        http_client._client_async = httpx.AsyncClient(follow_redirects=True, trust_env=False)
        client = _stripe_client(key, server.url, http_client=http_client)
        server.otherwise = (307, {}, {"Location": f"{elsewhere.url}/v1/payment_intents"})
        with pytest.raises(stripe.StripeError):
            await client.v1.payment_intents.create_async(ASK)
        await http_client.close_async()

    asyncio.run(main())
    assert all(SECRETS["stripe"].encode() not in sent for sent in elsewhere.seen)


@pytest.mark.parametrize("vendor", ["stripe", "resend"])
def test_a_global_moves_with_another_thread(  # noqa: PLR0917
    server, key, elsewhere, rows, monkeypatch, once_admitted, vendor
):
    """What is decided on is one address and one key, whatever the globals say by then."""
    done = caller(vendor, "sync", key, server.url, monkeypatch)
    server.answer(200, ANSWERS[vendor], {"Content-Type": "application/json"})
    module, name = {"stripe": (stripe, "api_base"), "resend": (resend, "api_url")}[vendor]
    once_admitted(lambda: setattr(module, name, elsewhere.url))
    done.call()
    assert (len(server.seen), elsewhere.seen) == (1, [])
    assert [row["state"] for row in rows()] == ["settled"]
