"""Does the real credential go out in the vault key's place, and nothing of it stay behind?"""

import asyncio
import base64

import pytest
import stripe
from twilio.rest import Client

import keybrake
from keybrake import credentials
from keybrake.testing.fake_twilio import clients
from tests.sdk._vault_calls import ANSWERS, KINDS, OLD_WAYS, SECRETS, SID, caller, operator

pytestmark = OLD_WAYS


def header(vendor, secret=None):
    """Return the line of a request that carries a vendor's secret."""
    secret = secret or SECRETS[vendor]
    if vendor != "twilio":
        return f"authorization: bearer {secret}".lower().encode()
    pair = base64.b64encode(f"{SID}:{secret}".encode())
    return b"authorization: basic " + pair.lower()


@pytest.fixture
def server(ledger_url, wire, monkeypatch):
    """Return a server that the operator has named for every vendor."""
    operator(monkeypatch, stripe=wire.url, twilio=wire.url, resend=wire.url)
    return wire


@pytest.fixture
def key(server):
    """Return a vault key with a cap of twenty dollars; its run is open in no process."""
    return keybrake.issue_vault_key("session-7", cap=20)


def answer(server, vendor):
    """Have the server say that it did what it was asked."""
    server.answer(200, ANSWERS[vendor], {"Content-Type": "application/json"})


@pytest.mark.parametrize(("vendor", "way"), KINDS)
def test_the_real_credential_is_on_the_wire(server, key, rows, monkeypatch, vendor, way):
    """The vendor sees its own credential, the SDK goes on holding the vault key, the row has its run."""
    answer(server, vendor)
    done = caller(vendor, way, key, server.url, monkeypatch)
    assert done.call() is not None

    (sent,) = server.seen
    assert header(vendor) in sent.lower()
    assert b"kb_live" not in sent
    (row,) = rows()
    assert (row["state"], row["endpoint"].partition(".")[0]) == ("settled", vendor)
    assert row["owner"] == credentials.current().get(vendor).fingerprint
    assert row["run"] is not None


@pytest.mark.parametrize("slot", ["module", "client", "call"])
def test_every_slot_of_stripe(server, key, client_of, monkeypatch, slot):
    """A vault key is one wherever the SDK takes a key."""
    answer(server, "stripe")
    monkeypatch.setattr(stripe, "api_key", key if slot == "module" else None)
    ask = {"amount": 500, "currency": "usd"}
    made = {
        "module": lambda: stripe.PaymentIntent.create(**ask),
        "client": lambda: client_of(server, key).v1.payment_intents.create(ask),
        "call": lambda: stripe.PaymentIntent.create(**ask, api_key=key),
    }[slot]()
    assert header("stripe") in server.seen[0].lower()
    # What was made can go on: it holds the vault key, as the SDK would the real one.
    answer(server, "stripe")
    made.refresh()
    assert header("stripe") in server.seen[1].lower()


@pytest.mark.parametrize("slot", ["password", "api key", "auth"])
def test_every_slot_of_twilio(server, key, slot):
    """The operator's pair goes out whole, whatever stands beside the vault key."""
    answer(server, "twilio")
    pairs = {"password": (SID, key), "api key": ("SK1", key, SID), "auth": (SID, "mine")}
    http_client = clients.sync_client(server.url, pool_connections=False)
    client = Client(*pairs[slot], http_client=http_client)
    auth = (SID, key) if slot == "auth" else None
    form = {"To": "+15005550001", "From": "+15005550006", "Body": "Hi"}
    url = f"https://api.twilio.com/2010-04-01/Accounts/{SID}/Messages.json"
    assert client.request("POST", url, data=form, auth=auth).status_code == 200
    assert header("twilio") in server.seen[0].lower()


def test_a_look_up_has_the_credential_too(server, key, rows, monkeypatch):
    """What has to be asked before a call can be priced is asked with the same credential."""
    charge = {"id": "ch_1", "object": "charge", "amount": 900, "amount_refunded": 0}
    server.answer(200, {**charge, "currency": "usd", "status": "succeeded", "refunded": False})
    refund = {"id": "re_1", "object": "refund", "amount": 900, "currency": "usd"}
    server.answer(200, {**refund, "status": "succeeded", "charge": "ch_1"})
    caller("stripe", "sync", key, server.url, monkeypatch)
    stripe.Refund.create(charge="ch_1")

    assert [header("stripe") in sent.lower() for sent in server.seen] == [True, True]
    assert [row["reason"] for row in rows()] == ["lookup", None]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_look_up_that_is_refused_has_it_fetched_anew(server, key, rows, monkeypatch, way):
    """Rotated before the first question: it is asked once more, and the call goes out with the new one."""
    assert credentials.current().get("stripe")
    monkeypatch.setenv("REAL_STRIPE", "the_new_one")
    charge = {"id": "ch_1", "object": "charge", "amount": 900, "amount_refunded": 0}
    server.answer(401, {"error": {"message": "no"}})
    server.answer(200, {**charge, "currency": "usd", "status": "succeeded", "refunded": False})
    refund = {"id": "re_1", "object": "refund", "amount": 900, "currency": "usd"}
    server.answer(200, {**refund, "status": "succeeded", "charge": "ch_1"})
    caller("stripe", way, key, server.url, monkeypatch)
    if way == "sync":
        stripe.Refund.create(charge="ch_1")
    else:

        async def main():
            stripe.default_http_client = stripe.HTTPXClient()
            await stripe.Refund.create_async(charge="ch_1")
            await stripe.default_http_client.close_async()

        asyncio.run(main())

    assert [header("stripe", "the_new_one") in sent.lower() for sent in server.seen] == [
        *(False, True, True)
    ]
    assert [(row["reason"], row["http_status"]) for row in rows()] == [("lookup", 200), (None, 200)]


@pytest.mark.parametrize(("vendor", "way"), KINDS)
def test_without_a_credential_nothing_is_sent(server, key, rows, monkeypatch, vendor, way):
    """A place that does not have it is named, and the refusal is in the ledger."""
    monkeypatch.delenv(f"REAL_{vendor.upper()}")
    done = caller(vendor, way, key, server.url, monkeypatch)
    with pytest.raises(keybrake.CredentialUnavailable) as caught:
        done.call()

    assert f"env://REAL_{vendor.upper()}" in str(caught.value)
    assert caught.value.run_id == key.run_id
    assert server.seen == []
    assert [(row["state"], row["reason"]) for row in rows()] == [
        ("refused", "credential_unavailable")
    ]


@pytest.mark.parametrize(("vendor", "way"), KINDS)
def test_a_rotated_credential_is_fetched_once_more(server, key, rows, monkeypatch, vendor, way):
    """A 401 has it fetched anew and the call sent once more, as the same call."""
    done = caller(vendor, way, key, server.url, monkeypatch)
    assert credentials.current().get(vendor).secret == SECRETS[vendor]
    monkeypatch.setenv(f"REAL_{vendor.upper()}", "the_new_one")
    server.answer(
        401, {"message": "no", "error": {"message": "no"}, "name": "x", "statusCode": 401}
    )
    answer(server, vendor)
    assert done.call() is not None

    first, second = (sent.lower() for sent in server.seen)
    assert header(vendor) in first
    assert header(vendor, "the_new_one") in second
    assert [row["state"] for row in rows()] == ["settled"]
    keys = [
        [line for line in sent.split(b"\r\n") if b"idempotency" in line] for sent in (first, second)
    ]
    assert keys[0] == keys[1]


@pytest.mark.parametrize(("vendor", "way"), KINDS)
def test_a_credential_that_is_no_good_is_no_loop(server, key, rows, monkeypatch, vendor, way):
    """If the place has nothing newer, the vendor's 401 is the answer, and nothing was spent."""
    done = caller(vendor, way, key, server.url, monkeypatch)
    body = {"message": "no", "error": {"message": "no"}, "statusCode": 401}
    server.otherwise = (401, body, {"Content-Type": "application/json"})
    for _ in range(2):
        with pytest.raises(Exception, match=r"(?i)no|401") as caught:
            done.call()
        assert not isinstance(caught.value, keybrake.CallRefused)

    assert len(server.seen) == 2
    assert [row["state"] for row in rows()] == ["voided", "voided"]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_an_attempt_before_the_401_is_not_repeated(server, key, monkeypatch, way):
    """What may have been done already is not sent again under another credential."""
    done = caller("stripe", way, key, server.url, monkeypatch)
    monkeypatch.setattr(stripe, "max_network_retries", 1)
    assert credentials.current().get("stripe")
    monkeypatch.setenv("REAL_STRIPE", "the_new_one")
    server.answer(500, {"error": {"message": "oh"}})
    server.answer(401, {"error": {"message": "no"}})
    with pytest.raises(stripe.AuthenticationError):
        done.call()
    assert len(server.seen) == 2


def test_the_cap_of_a_key_binds(server, key, rows, monkeypatch):
    """Four calls of five dollars fit, whoever makes them."""
    for _ in range(5):
        answer(server, "stripe")
    server.script = [
        (200, {**body, "id": f"pi_{n}"}, names) for n, (_, body, names) in enumerate(server.script)
    ]
    done = caller("stripe", "sync", key, server.url, monkeypatch)
    for _ in range(4):
        done.call()
    with pytest.raises(keybrake.CapExceeded):
        done.call()
    assert len(server.seen) == 4
    assert [row["state"] for row in rows()] == ["settled"] * 4 + ["refused"]


def test_a_key_and_a_run_both_bind(server, key, rows, monkeypatch):
    """A run around a call with a key in its slot binds it as well."""
    done = caller("stripe", "sync", key, server.url, monkeypatch)
    with keybrake.run("narrow", cap=1), pytest.raises(keybrake.CapExceeded) as caught:
        done.call()
    assert "narrow" in str(caught.value)
    assert server.seen == []


def test_a_credential_provider_is_told_apart(server, key):
    """Twilio's OAuth clients take no vault key, and say so."""
    from twilio.credential.client_credential_provider import ClientCredentialProvider

    client = Client(account_sid=SID, http_client=clients.sync_client(server.url))
    client.credential_provider = ClientCredentialProvider("id", key)
    with pytest.raises(keybrake.CredentialUnavailable, match="credential provider"):
        client.messages.create(to="+15005550001", from_="+15005550006", body="Hi")
    assert server.seen == []


def test_an_unlisted_read_is_allowed_by_what_the_refusal_says(server, rows):
    """Twilio's answers may have a token in them wherever no row says otherwise; a person can allow one."""

    def ask(**policy):
        key = keybrake.issue_vault_key("curious", cap=1, **policy)
        http_client = clients.sync_client(server.url, pool_connections=False)
        return Client(SID, key, http_client=http_client).request(
            "GET", f"{server.url}/2010-04-01/Odd.json"
        )

    with pytest.raises(keybrake.EndpointNotAllowed) as caught:
        ask()
    named = caught.value.hint.split("'")[1]
    server.answer(200, {})
    assert ask(allow=[named]).status_code == 200
    assert [row["state"] for row in rows()] == ["refused", "settled"]


ACCOUNT = {"sid": SID, "friendly_name": "x", "status": "active", "auth_token": SECRETS["twilio"]}


@pytest.mark.parametrize("how", ["fetch", "list"])
def test_no_answer_hands_out_the_credential(server, rows, how):
    """Twilio's account object has the auth token in it: only who names that endpoint may have it."""

    def ask(key):
        http_client = clients.sync_client(server.url, pool_connections=False)
        accounts = Client(SID, key, http_client=http_client).api.v2010.accounts
        return accounts(SID).fetch() if how == "fetch" else accounts.list(limit=1)

    with pytest.raises(keybrake.EndpointNotAllowed) as caught:
        ask(keybrake.issue_vault_key("curious", cap=1))
    assert caught.value.reason == "standing_authority"
    assert server.seen == []
    server.answer(200, ACCOUNT if how == "fetch" else {"accounts": [ACCOUNT]})
    named = "twilio.accounts.retrieve" if how == "fetch" else "twilio.accounts.list"
    assert ask(keybrake.issue_vault_key("trusted", cap=1, allow=[named]))
    assert [row["state"] for row in rows()] == ["refused", "settled"]


@pytest.mark.parametrize(
    "path",
    [
        f"2010-04-01/Accounts/{SID}",
        "2010-04-01/Accounts",
        f"2010-04-01/Accounts/{SID}.xml",
        f"2010-04-01/accounts/{SID}.json",
        f"2008-08-01/Accounts/{SID}.json",
    ],
)
@pytest.mark.parametrize("allow", [None, ["twilio.*.*"], ["twilio.*.*.*"]])
def test_nor_under_another_spelling(server, path, allow):
    """What has no row may be the same object in another format: it is nobody's by a wildcard."""
    key = keybrake.issue_vault_key("curious", cap=1, allow=allow)
    http_client = clients.sync_client(server.url, pool_connections=False)
    with pytest.raises(keybrake.EndpointNotAllowed):
        Client(SID, key, http_client=http_client).request("GET", f"https://api.twilio.com/{path}")
    assert server.seen == []


def test_whoever_has_the_key_anyway_may_read_the_account(server, rows):
    """With the raw token in the client it tells nothing new, and is a read like any other."""
    server.answer(200, ACCOUNT)
    http_client = clients.sync_client(server.url, pool_connections=False)
    client = Client(SID, SECRETS["twilio"], http_client=http_client)
    with keybrake.run("agent", cap=1):
        assert client.api.v2010.accounts(SID).fetch().sid == SID
    assert [row["state"] for row in rows()] == ["settled"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.v1.ephemeral_keys.create(
            {"customer": "cus_1"}, {"stripe_version": "2025-01-27.acacia"}
        ),
        lambda client: client.v1.terminal.connection_tokens.create(),
    ],
)
def test_nor_one_of_stripes(server, key, client_of, ask):
    """Keys that Stripe makes for somebody else are the operator's to give."""
    with pytest.raises(keybrake.EndpointNotAllowed):
        ask(client_of(server, key))
    assert server.seen == []
