"""Does this version of stripe keep the guard's core promises? Run by tests/compat/run.py, unchanged, for each."""

import asyncio
import pickle

import pytest
import stripe
from stripe import _http_client

import keybrake
from keybrake import sdk
from keybrake.testing import FakeStripe, Fault

ASK = {"amount": 1000, "currency": "usd"}
HAS_ASYNC = hasattr(stripe.PaymentIntent, "create_async")


@pytest.fixture(autouse=True)
def ledger(monkeypatch, tmp_path):
    """Keep the books of each test in a ledger of its own."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("KEYBRAKE_LEDGER", url)
    keybrake.configure(ledger=url)
    return url


@pytest.fixture
def fake(monkeypatch):
    """Point the SDK at a fake Stripe, one attempt per call."""
    with FakeStripe() as running:
        monkeypatch.setattr(stripe, "api_base", running.url)
        monkeypatch.setattr(stripe, "api_key", "sk_test_fake")
        monkeypatch.setattr(stripe, "max_network_retries", 0)
        monkeypatch.setattr(stripe, "default_http_client", _http_client.RequestsClient())
        yield running
        stripe.default_http_client.close()


@pytest.fixture(params=["sync", "async"] if HAS_ASYNC else ["sync"])
def call(request, monkeypatch):
    """Return a caller of the SDK's methods, in the plain or in the async way."""
    if request.param == "sync":
        return lambda owner, name, *args, **params: getattr(owner, name)(*args, **params)

    def in_a_loop(owner, name, *args, **params):
        async def main():
            monkeypatch.setattr(stripe, "default_http_client", _http_client.HTTPXClient())
            try:
                return await getattr(owner, f"{name}_async")(*args, **params)
            finally:
                await stripe.default_http_client.close_async()

        return asyncio.run(main())

    return in_a_loop


def _styles():
    def module(url):
        del url
        return stripe.PaymentIntent.create(**ASK)

    def client(url):
        return _client(url).payment_intents.create(params=dict(ASK))

    def client_v1(url):
        return _client(url).v1.payment_intents.create(params=dict(ASK))

    def raw(url):
        return _client(url).raw_request("post", "/v1/payment_intents", **ASK)

    styles = [module]
    if hasattr(stripe, "StripeClient"):
        some = stripe.StripeClient("sk_test_fake")
        styles += [client] if hasattr(some, "payment_intents") else []
        styles += [client_v1] if hasattr(some, "v1") else []
        styles += [raw] if hasattr(some, "raw_request") else []
    return styles


def _client(url):
    return stripe.StripeClient(
        "sk_test_fake", base_addresses={"api": url}, http_client=_http_client.RequestsClient()
    )


@pytest.mark.parametrize("style", _styles())
def test_every_style_is_guarded(fake, style):
    """Each way of making a call is counted once, and refused at the cap."""
    with keybrake.run("agent", cap=10) as run:
        style(fake.url)
        with pytest.raises(keybrake.CapExceeded):
            style(fake.url)

    assert len(fake.journal.entries) == 1
    assert (str(run.spent), run.calls, run.refused) == ("10.00", 1, 1)


def test_the_life_of_an_intent(fake, call):
    """Create, confirm, capture of a part, and a refund count what they move, once."""
    manual = {"capture_method": "manual", "payment_method": "pm_card_visa"}
    with keybrake.run("agent", cap=100) as run:
        made = call(stripe.PaymentIntent, "create", **ASK, **manual)
        call(stripe.PaymentIntent, "confirm", made.id)
        assert str(run.spent) == "10.00"
        call(stripe.PaymentIntent, "capture", made.id, amount_to_capture=600)
        assert str(run.spent) == "6.00"
        call(stripe.Refund, "create", payment_intent=made.id, amount=100)

    assert str(run.spent) == "7.00"


def test_cancel_gives_back(fake, call):
    """A canceled intent counts nothing."""
    with keybrake.run("agent", cap=10) as run:
        made = call(stripe.PaymentIntent, "create", **ASK)
        call(stripe.PaymentIntent, "cancel", made.id)

    assert str(run.spent) == "0.00"


def test_a_refusal(fake, call):
    """A refusal sends nothing, is Stripe's own error too, and pickles."""
    with keybrake.run("agent", cap=5), pytest.raises(stripe.PermissionError) as caught:
        call(stripe.PaymentIntent, "create", **ASK)

    assert isinstance(caught.value, keybrake.CapExceeded)
    assert caught.value.http_status == 403
    assert pickle.loads(pickle.dumps(caught.value)).fields == caught.value.fields
    assert fake.journal.entries == ()


def test_the_key_on_the_wire(fake, call):
    """A call without an idempotency key gets one; a caller's own is kept."""
    with keybrake.run("agent", cap=100):
        call(stripe.PaymentIntent, "create", **ASK)
        call(stripe.PaymentIntent, "create", **ASK, idempotency_key="mine")

    given, own = [entry.idempotency_key for entry in fake.journal.entries]
    assert given.startswith("kb-")
    assert own == "mine"


def test_pages(fake):
    """Autopaging works, a call per page."""
    for _ in range(5):
        stripe.PaymentIntent.create(**ASK)
    with keybrake.run("agent", cap=0) as run:
        assert len(list(stripe.PaymentIntent.list(limit=2).auto_paging_iter())) == 5

    assert (str(run.spent), run.calls) == ("0.00", 3)


def test_an_object_as_a_parameter(fake, call):
    """An object in the place of an id reaches the wire as it does without a guard."""
    customer = stripe.Customer.create(email="ada@example.com")
    call(stripe.PaymentIntent, "create", **ASK, customer=customer)
    with keybrake.run("agent", cap=100):
        call(stripe.PaymentIntent, "create", **ASK, customer=customer)

    free, guarded = [dict(entry.params) for entry in fake.journal.entries[1:]]
    assert guarded == free
    assert guarded["customer"] == customer.id


@pytest.mark.parametrize(
    ("kind", "reserved"),
    [("error_500_after", "10.00"), ("reset_after", "10.00"), ("rate_limit", "0.00")],
)
def test_outcomes(fake, call, kind, reserved):
    """Only proof voids a call; whatever may have charged counts in full."""
    fake.inject(Fault(kind))
    with keybrake.run("agent", cap=10) as run:
        with pytest.raises(stripe.StripeError):
            call(stripe.PaymentIntent, "create", **ASK)
        assert str(run.reserved) == reserved


def test_a_refused_connection_is_voided(fake, call):
    """Nothing can have happened at a vendor nobody could connect to."""
    fake.stop()
    with keybrake.run("agent", cap=10) as run:
        with pytest.raises(stripe.StripeError):
            call(stripe.PaymentIntent, "create", **ASK)
        assert str(run.remaining) == "10.00"


def test_retries_are_one_call(fake, call, monkeypatch):
    """The SDK's own retries are inside one call, under one key."""
    monkeypatch.setattr(stripe, "max_network_retries", 2)
    monkeypatch.setattr(_http_client.HTTPClient, "INITIAL_DELAY", 0.01)
    monkeypatch.setattr(_http_client.HTTPClient, "MAX_DELAY", 0.02)
    fake.inject(Fault("error_500_before"), 2)
    with keybrake.run("agent", cap=10) as run:
        call(stripe.PaymentIntent, "create", **ASK)

    assert [entry.http_status for entry in fake.journal.entries] == [500, 500, 200]
    assert len({entry.idempotency_key for entry in fake.journal.entries}) == 1
    assert run.calls == 1


@pytest.mark.parametrize("path", ["x:/v1/payment_intents", "@h/v1/payment_intents", "//h/v1/x"])
def test_no_path_names_a_host(fake, path):
    """A path that would carry the credential to another host is refused by the guard itself."""
    # What the SDK sets in motion below its clients, the same in every version.
    from stripe import _api_requestor

    requestor = _api_requestor._APIRequestor
    made = getattr(requestor, "_global_instance", requestor)()
    with keybrake.run("agent", cap=10), pytest.raises(keybrake.CallRefused):
        made.request_raw("post", path, dict(ASK), {}, base_address="api", api_mode="V1")

    assert fake.journal.entries == ()


def test_a_vault_key_is_never_sent(fake, call, monkeypatch):
    """The operator's credential goes out in its place; without one, or elsewhere, nothing does."""
    key = keybrake.issue_vault_key("agent", cap=100)
    monkeypatch.setattr(stripe, "api_key", key)
    with pytest.raises(keybrake.HostNotAllowed):
        call(stripe.PaymentIntent, "create", **ASK)
    keybrake.configure(credentials={"stripe": "env://MINE"}, extra_hosts={"stripe": [fake.url]})
    with pytest.raises(keybrake.CredentialUnavailable):
        call(stripe.PaymentIntent, "create", **ASK)
    assert fake.journal.entries == ()
    keybrake.configure(credentials={"stripe": "env://MINE_TOO"})
    monkeypatch.setenv("MINE_TOO", "rk_test_mine")
    made = call(stripe.PaymentIntent, "create", **ASK)
    with pytest.raises(keybrake.EndpointNotAllowed):
        call(stripe.PaymentIntent, "create", **ASK, api_key="sk_test_other")
    assert [entry.key_prefix for entry in fake.journal.entries] == ["rk_"]
    assert "rk_test_mine" not in repr(vars(made))


def test_hooks_in_place():
    """Every hook this version has room for is in, and uninstall() takes it out."""
    keybrake.install()
    states = {name: state for name, state in sdk.status() if name.startswith("stripe.")}
    assert set(states.values()) <= {"in place", "not in this version"}
    assert (states["stripe._api_requestor._APIRequestor.request_raw_async"] == "in place") is (
        HAS_ASYNC
    )
    keybrake.uninstall()
    assert "in place" not in dict(sdk.status()).values()
