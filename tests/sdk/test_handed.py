"""Does an HTTP client of the user's send what was decided on: no other account, method, path, parameters or key?"""

import asyncio
import contextlib
import pickle
import urllib.request

import aiohttp
import httpx
import pytest
import requests
import stripe
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

import keybrake
from keybrake.sdk.handed import difference, handed
from tests._each import each
from tests.sdk._vault_calls import ANSWERS, OLD_WAYS, SID, operator

pytestmark = OLD_WAYS

ASK = {"amount": 500, "currency": "usd"}
SMS = {"to": "+15005550001", "from_": "+15005550006", "body": "Hi"}


@pytest.fixture
def key(ledger_url, wire, monkeypatch):
    """Return a vault key; the server is the vendors' own by the operator's word."""
    operator(monkeypatch, stripe=wire.url, twilio=wire.url)
    return keybrake.issue_vault_key("session-7", cap=20)


def session(**changes):
    """Return a session of requests' with something of its own in every request."""
    made = requests.Session()
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def with_header(name, value):
    """Return a session whose requests all have a header."""
    made = requests.Session()
    made.headers[name] = value
    return made


class Rewriting(requests.Session):
    """A session that sends what it is given somewhere else."""

    def request(self, method, url, *args, **kwargs):
        """See ``requests.Session``."""
        return super().request(method, url.replace("payment_intents", "topups"), *args, **kwargs)


class Reading(requests.Session):
    """A session that makes a look of everything."""

    def request(self, _method, url, *args, **kwargs):
        """See ``requests.Session``."""
        return super().request("GET", url, *args, **kwargs)


SESSIONS = {
    "account": (lambda: with_header("Stripe-Account", "acct_other"), "header 'stripe-account'"),
    "spelt oddly": (lambda: with_header("STRIPE-ACCOUNT", b"acct_other"), "'stripe-account'"),
    "context": (lambda: with_header("Stripe-Context", "acct_other"), "header 'stripe-context'"),
    "method": (lambda: with_header("X-HTTP-Method-Override", "GET"), "'x-http-method-override'"),
    "host": (lambda: with_header("Host", "files.stripe.com"), "header 'host'"),
    "credential": (lambda: session(auth=("x", "y")), "header 'authorization'"),
    "parameters": (lambda: session(params={"amount": "9999"}), "other parameters in its address"),
    "path": (Rewriting, "it would be POST '/v1/topups'"),
    "verb": (Reading, "it would be GET '/v1/payment_intents'"),
}


@pytest.mark.parametrize("what", SESSIONS)
def test_a_session_of_requests(key, wire, rows, what):
    """What a session puts into every request does not override what was decided on."""
    make, told = SESSIONS[what]
    http_client = stripe.RequestsClient(session=make())
    client = stripe.StripeClient(key, base_addresses={"api": wire.url}, http_client=http_client)

    with pytest.raises(keybrake.HostNotAllowed, match=told) as caught:
        client.v1.payment_intents.create(ASK)

    refusal = caught.value
    assert isinstance(refusal, stripe.PermissionError)
    assert (refusal.reason, refusal.label) == ("host_not_allowed", "session-7")
    assert refusal.run_id == key.run_id
    assert refusal.endpoint == "stripe.payment_intents.create"
    assert refusal.message.startswith("session-7: stripe.payment_intents.create stopped: it would")
    assert "Nothing was sent. Do not retry" in refusal.message
    assert type(pickle.loads(pickle.dumps(refusal))) is type(refusal)
    assert wire.seen == []
    (row,) = rows()
    assert (row["state"], row["cost"], row["reason"]) == ("voided", 0, "host_not_allowed")


@pytest.mark.parametrize("read", [False, True])
def test_what_a_session_may_have(key, wire, rows, read):
    """Headers that steer nothing are the user's; the SDK's own are as they were."""
    made = with_header("X-Request-Source", "agent 7")
    made.headers["Accept-Language"] = "fr"
    http_client = stripe.RequestsClient(session=made)
    client = stripe.StripeClient(key, base_addresses={"api": wire.url}, http_client=http_client)
    wire.answer(200, {"object": "list", "data": []} if read else ANSWERS["stripe"])
    intents = client.v1.payment_intents
    if read:
        intents.list({"limit": 3, "expand": ["data.latest_charge"], "customer": "cus_é ü+&=/"})
    else:
        intents.create({**ASK, "description": "é ü+&=/"})
    assert b"x-request-source: agent 7" in wire.seen[0].lower()
    assert [row["state"] for row in rows()] == ["settled"]


ODD_IDS = ["gold:monthly", "a@b,c!d$e", "f'g(h)i*j", "k=l;m", "n&o+p", "é ü", "q%r", "s/t"]


@pytest.mark.parametrize("kind", ["RequestsClient", "UrllibClient", "HTTPXClient", "AIOHTTPClient"])
@pytest.mark.parametrize("verb", ["retrieve", "delete"])
def test_what_the_clients_write_in_their_own_way(key, wire, rows, kind, verb):
    """An id is escaped by one and not by another, and is the same call: as with a raw key."""
    wire.otherwise = (200, {"id": "x", "object": "plan"}, {})

    def ids_sent(api_key):
        async def main():
            http_client = getattr(stripe, kind)()
            client = stripe.StripeClient(
                api_key, base_addresses={"api": wire.url}, http_client=http_client
            )
            plans = client.v1.plans
            for one in ODD_IDS:
                with contextlib.suppress(keybrake.EndpointNotAllowed):
                    if kind in ("HTTPXClient", "AIOHTTPClient"):
                        await getattr(plans, f"{verb}_async")(one)
                    else:
                        getattr(plans, verb)(one)
            if kind in ("HTTPXClient", "AIOHTTPClient"):
                await http_client.close_async()

        before = len(wire.seen)
        asyncio.run(main())
        return [sent.split(b" ", 2)[1] for sent in wire.seen[before:]]

    with keybrake.run("raw", cap=1):
        raw = ids_sent("sk_test_raw")
    assert ids_sent(key) == raw
    assert len(raw) > 4
    assert {row["reason"] for row in rows()} <= {None, "path_not_canonical", "standing_authority"}


def test_a_client_behind_the_client_that_is_made_in_a_loop(key, wire, rows):
    """Where httpx is not installed Stripe's second client is aiohttp's; a plain call needs none of it."""
    http_client = stripe.RequestsClient(async_fallback_client=stripe.AIOHTTPClient())
    client = stripe.StripeClient(key, base_addresses={"api": wire.url}, http_client=http_client)
    wire.answer(200, ANSWERS["stripe"])
    client.v1.payment_intents.create(ASK)
    assert [row["state"] for row in rows()] == ["settled"]
    assert http_client._async_fallback_client._cached_session is None


def test_a_read_that_was_stopped(key, wire, rows):
    """It costs nothing either way; its row and its words say that it was not made."""
    http_client = stripe.RequestsClient(session=with_header("Stripe-Account", "acct_other"))
    client = stripe.StripeClient(key, base_addresses={"api": wire.url}, http_client=http_client)
    with pytest.raises(keybrake.HostNotAllowed, match="Nothing was sent"):
        client.v1.payment_intents.retrieve("pi_1")
    assert wire.seen == []
    assert [(row["state"], row["reason"]) for row in rows()] == [("voided", "host_not_allowed")]


def _move(request):
    request.url = httpx.URL("http://127.0.0.1:1/v1/payment_intents")


def _delete(request):
    request.method = "DELETE"


def _other_account(request):
    request.headers["Stripe-Account"] = "acct_other"


@pytest.mark.parametrize(
    ("hook", "told"),
    [
        (_move, "header 'host'"),
        (_delete, "it would be DELETE '/v1/payment_intents'"),
        (_other_account, "header 'stripe-account'"),
    ],
)
@pytest.mark.parametrize("way", ["sync", "async"])
def test_an_event_hook_of_httpx(key, wire, rows, hook, told, way):
    """It has the request in its hands after the client's own ``send``."""

    async def later(request):
        hook(request)

    http_client = stripe.HTTPXClient(allow_sync_methods=True)
    http_client._client = httpx.Client(event_hooks={"request": [hook]})
    http_client._client_async = httpx.AsyncClient(event_hooks={"request": [later]})
    client = stripe.StripeClient(key, base_addresses={"api": wire.url}, http_client=http_client)
    intents = client.v1.payment_intents
    call = {
        "sync": lambda: intents.create(ASK),
        "async": lambda: asyncio.run(intents.create_async(ASK)),
    }[way]
    with pytest.raises(keybrake.HostNotAllowed, match=told):
        call()
    assert wire.seen == []
    assert [row["reason"] for row in rows()] == ["host_not_allowed"]


def test_a_client_that_asks_something_of_its_own_first(key, wire, rows):
    """Another method at the same address is none of the call's."""

    class Looks(requests.Session):
        def request(self, method, url, *args, **kwargs):
            super().request("HEAD", url)
            return super().request(method, url, *args, **kwargs)

    http_client = stripe.RequestsClient(session=Looks())
    client = stripe.StripeClient(key, base_addresses={"api": wire.url}, http_client=http_client)
    wire.answer(200, {})
    wire.answer(200, ANSWERS["stripe"])
    client.v1.payment_intents.create(ASK)
    assert [row["state"] for row in rows()] == ["settled"]


def test_a_gateway_of_the_operators_says_what_its_paths_mean(key, wire, rows):
    """A client may take the call to another host that the operator has named, below a path of its own."""

    class Gateway(requests.Session):
        def request(self, method, url, *args, **kwargs):
            url = url.replace("https://api.stripe.com", f"{wire.url}/stripe")
            return super().request(method, f"{url}?_cb=1", *args, **kwargs)

    http_client = stripe.RequestsClient(session=Gateway())
    client = stripe.StripeClient(key, http_client=http_client)
    wire.answer(200, ANSWERS["stripe"])
    client.v1.payment_intents.create(ASK)
    assert wire.seen[0].startswith(b"POST /stripe/v1/payment_intents?_cb=1 ")
    assert [row["state"] for row in rows()] == ["settled"]


@pytest.mark.parametrize("params", [{"a": {"1"}}, {"a": iter("12")}, (("a", 1),)])
def test_parameters_of_any_kind(key, wire, params):
    """What can be read only once is left for the client to read."""
    client = Client(SID, key, http_client=TwilioHttpClient(pool_connections=False))
    wire.answer(200, {})
    url = f"{wire.url}/2010-04-01/Accounts/{SID}/Messages.json"
    assert client.request("GET", url, params=params).status_code == 200
    assert b"Messages.json?a=" in wire.seen[0]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_session_of_twilios_client(key, wire, rows, way):
    """It, too, sends no more than it was handed."""
    rewrites = {"X-HTTP-Method-Override": "DELETE"}

    def moved(http_client):
        send = http_client.request
        http_client.request = lambda method, uri, *args, **facts: send(
            method, uri.replace("https://api.twilio.com", wire.url), *args, **facts
        )
        return Client(SID, key, http_client=http_client)

    async def main():
        http_client = AsyncTwilioHttpClient(pool_connections=False)
        http_client.session = aiohttp.ClientSession(headers=rewrites)
        try:
            await moved(http_client).messages.create_async(**SMS)
        finally:
            await http_client.session.close()

    plain = TwilioHttpClient(pool_connections=True)
    plain.session.headers.update(rewrites)
    call = {
        "sync": lambda: moved(plain).messages.create(**SMS),
        "async": lambda: asyncio.run(main()),
    }[way]
    with pytest.raises(keybrake.HostNotAllowed, match="'x-http-method-override'"):
        call()
    assert wire.seen == []
    assert [row["reason"] for row in rows()] == ["host_not_allowed"]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ({"headers": {"Stripe-Account": "acct_other"}}, "header 'stripe-account'"),
        ({"params": {"amount": "9999"}}, "other parameters in its address"),
        ({"auth": ("x", "y")}, None),
    ],
)
def test_a_client_of_httpx(key, wire, rows, what, told):
    """An auth of its own would go before the credential, and is left out."""
    http_client = stripe.HTTPXClient(allow_sync_methods=True)
    http_client._client = httpx.Client(**what)
    client = stripe.StripeClient(key, base_addresses={"api": wire.url}, http_client=http_client)
    wire.answer(200, ANSWERS["stripe"])
    if told is None:
        client.v1.payment_intents.create(ASK)
        assert b"authorization: bearer sk_live_" in wire.seen[0].lower()
        return
    with pytest.raises(keybrake.HostNotAllowed, match=told):
        client.v1.payment_intents.create(ASK)
    assert wire.seen == []
    assert [row["reason"] for row in rows()] == ["host_not_allowed"]


def test_an_opener_with_headers_of_its_own(key, wire, rows):
    """Whoever installed it may have meant another account for everything."""
    opener = urllib.request.build_opener()
    opener.addheaders = [("Stripe-Account", "acct_other")]
    urllib.request.install_opener(opener)
    http_client = stripe.UrllibClient()
    client = stripe.StripeClient(key, base_addresses={"api": wire.url}, http_client=http_client)
    try:
        with pytest.raises(keybrake.HostNotAllowed, match="header 'stripe-account'"):
            client.v1.payment_intents.create(ASK)
    finally:
        urllib.request.install_opener(None)
    assert wire.seen == []


@each(
    ("one", "other"),
    [
        (("get", "https://h/a?b=1&a=2", {}), ("GET", "https://h/a?a=2&b=1", {"Accept": "x"})),
        (("POST", "https://h/a b", {}), ("POST", "https://h/a%20b", {"Host": "h"})),
        (("GET", "https://h/", {}, {"a": [1, "x y"], "b": None}), ("GET", "https://h/?a=1&a=x+y", {})),
        (("GET", "https://h/a:b", {}), ("GET", "https://h/%61%3Ab", {})),
        (("GET", "https://h/", {}, "a=1"), ("GET", "https://h/?a=1", {})),
        (("GET", "https://h/", {}, {"a": iter("1")}), ("GET", "https://h/?a=2", {})),
        (("GET", "https://h/a", {}), ("GET", "https://gateway/h/a?b", {})),
        (("GET", "https://h/", {}, b"a=1"), ("GET", "https://h/", {}, [("a", 1)])),
        (("GET", "https://h/", {"Idempotency-Key": b"k"}), ("GET", "https://h/", {"idempotency-key": "k"})),
    ],
)  # fmt: skip
def test_what_is_the_same(one, other):
    """Written differently, read alike."""
    assert difference(handed(*one), handed(*other)) is None


@each(
    ("other", "told"),
    [
        (("POST", "https://h/a", {}), "it would be POST '/a'"),
        (("GET", "https://h/a%2Fb", {}), "it would be GET '/a%2Fb'"),
        (("GET", "https://gateway/a", {"Stripe-Account": "a"}), "it would have another header 'stripe-account'"),
        (("GET", "https://h/a%2525", {}), "it would be GET '/a%2525'"),
        (("GET", "https://h/a?b=", {}), "it would have other parameters in its address"),
        (("GET", "https://h/a", {}, {"b": "1"}), "it would have other parameters in its address"),
        (("GET", "https://h/a", {"host": "other"}), "it would have another header 'host'"),
        (("GET", "https://h/a", {"stripe_account": "a"}), "it would have another header 'stripe-account'"),
        (("GET", "https://h/a", {"Stripe-Account": ""}), "it would have another header 'stripe-account'"),
    ],
)  # fmt: skip
def test_what_is_another(other, told):
    """The first thing that differs is said."""
    assert difference(handed("GET", "https://h/a", {}), handed(*other)) == told
