"""Is what the guard refuses at the Stripe door refused before a byte leaves, and said well?"""

import contextlib

import pytest
import stripe

import keybrake

ASK = {"amount": 2999, "currency": "usd"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/x/../charges",
        "/v1/./payment_intents",
        "/v1/payment_intents/..",
        "//v1/payment_intents",
        "/v1//payment_intents",
        "/v1/%2e%2e/v1/payment_intents",
        "/v1/pay%6Dent_intents",
        "/v1/payment_intents%2f",
        "/v1/payment_intents%2Fpi_1",
        "/v1/payment%5Fintents",
        "/v1/%252e%252e/payment_intents",
        "/v1\\payment_intents",
        "/v1/payment_intents%5c",
        "/v1/payment_intents;x=1",
        "/v1/payment_intents#x",
        "/v1/payment_intents/#",
        "/v1/payment_intents/",
        "/v1/payment_intents\n",
        "/v1/payment\t_intents",
        "/v1/\rpayment_intents",
        "/v1/payment_intents\0",
        "/v1/payment_intents%00",
        "/v1/payment intents",
        "/V1/payment_intents",
        "/v1/paymént_intents",
        "/v1/payment_intents\ud800",
        "/v1/" + "a" * 2100,
        "/v1/payment_intents?amount=1",
    ],
)
def test_an_odd_path_is_refused(fake, ledger_url, rows, client_of, path):
    """A path that two parsers could read differently sends nothing."""
    client = client_of(fake)
    with keybrake.run("agent", cap=200), pytest.raises(keybrake.EndpointNotAllowed):
        client.raw_request("post", path, **ASK)

    assert fake.journal.entries == ()
    assert [row["state"] for row in rows()] == ["refused"]


@pytest.mark.parametrize(
    "path",
    [
        "@evil.test/v1/payment_intents",
        ".evil.test/v1/payment_intents",
        "x:/v1/payment_intents",
        "http://evil.test/v1/payment_intents",
        "http://[/v1/payment_intents",
        "v1/payment_intents",
        "",
    ],
)
def test_a_path_with_a_host_is_refused(fake, ledger_url, rows, client_of, path):
    """A path that would name another host is a refusal of ours, whatever the SDK checks."""
    client = client_of(fake)
    with keybrake.run("agent", cap=200), pytest.raises(keybrake.CallRefused):
        client.raw_request("post", path, **ASK)

    assert fake.journal.entries == ()
    assert [row["state"] for row in rows()] == ["refused"]


@pytest.mark.parametrize("method", ["put", "patch", "head", "options", "trace"])
def test_other_methods_are_refused(fake, ledger_url, client_of, method):
    """A method Stripe has no use for sends nothing."""
    client = client_of(fake)
    with keybrake.run("agent", cap=200), pytest.raises(keybrake.EndpointNotAllowed):
        client.raw_request(method, "/v1/payment_intents/pi_1")

    assert fake.journal.entries == ()


@pytest.mark.parametrize("mode", ["enforce", "report"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer sk_test_other"},
        {"authorization": "Bearer sk_test_other"},
        {"AUTHORIZATION ": "Bearer sk_test_other"},
        {b"Authorization": b"Bearer sk_test_other"},
        {"Idempotency-Key": "mine"},
        {"idempotency_key": "mine"},
        {"iDEMPOTENCY-kEY": "mine"},
        {b"Idempotency-Key": b"mine"},
    ],
)
def test_header_overrides_are_refused(fake, ledger_url, headers, mode):
    """An extra header cannot take the place of the credential or the key that were decided on."""
    with (
        keybrake.run("agent", cap=200, mode=mode),
        pytest.raises(keybrake.CallRefused) as caught,
    ):
        stripe.PaymentIntent.create(**ASK, headers=headers)

    assert caught.value.reason == "header_override"
    assert fake.journal.entries == ()


@pytest.mark.parametrize("key", ["\ud800", "k\r\nX-Other: y", 5, ["k"]])
def test_a_bad_idempotency_key_is_refused(fake, ledger_url, rows, key):
    """A key that cannot be a header is told so before anything is reserved or sent."""
    with keybrake.run("agent", cap=200) as run, pytest.raises(keybrake.CallRefused) as caught:
        stripe.PaymentIntent.create(**ASK, idempotency_key=key)

    assert not isinstance(caught.value, keybrake.LedgerUnavailable)
    assert fake.journal.entries == ()
    assert [row["state"] for row in rows()] == ["refused"]
    assert str(run.reserved) == "0.00"


@pytest.mark.parametrize(
    "amount",
    [-5, True, 10.5, "\uff11\uff12", "1_0", " 5", "", None, 10**20, {"value": 5}, [5], b"5"],
)
def test_bad_amounts_are_refused(fake, ledger_url, rows, amount):
    """An amount that is no plain whole number sends nothing."""
    with keybrake.run("agent", cap=200), pytest.raises(keybrake.UnknownCost):
        stripe.PaymentIntent.create(amount=amount, currency="usd")

    assert fake.journal.entries == ()
    assert [row["state"] for row in rows()] == ["refused"]


@pytest.mark.parametrize(
    "currency", ["", None, "us", "usdd", "usd ", "\uff35\uff33\uff24", 840, ["usd"], "xxx"]
)
def test_bad_currencies_are_refused(fake, ledger_url, currency):
    """A currency that is none, or has no rate, sends nothing."""
    with keybrake.run("agent", cap=200), pytest.raises(keybrake.UnknownCost):
        stripe.PaymentIntent.create(amount=100, currency=currency)

    assert fake.journal.entries == ()


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", b"x-method-override", "Host"])
def test_a_header_that_would_name_another_method_or_place_is_refused(
    fake, ledger_url, client_of, header
):
    """A read that a server could take for a write by a header sends nothing."""
    client = client_of(fake)
    with keybrake.run("agent", cap=5), pytest.raises(keybrake.EndpointNotAllowed) as caught:
        client._requestor.request_raw(
            "get",
            "/v1/payment_intents",
            {"amount": 100},
            {"headers": {header: "POST"}},
            base_address="api",
            api_mode="V1",
        )

    assert caught.value.reason == "header_override"
    assert fake.journal.entries == ()


class _Alike(str):
    """A text that is another one to a dictionary, and the same on the wire."""

    __slots__ = ()

    def __hash__(self):
        return 7

    def __eq__(self, other):
        return self is other


@pytest.mark.parametrize(
    "second",
    [
        *("amount[]", "amount[0]", "amount]", "[amount", "[]amount", "amount]]", "currency[]"),
        *("currency]", b"amount", b"currency", "amount\0", "Amount", _Alike("amount")),
    ],
)
def test_a_second_amount_is_never_counted_as_the_first(fake, ledger_url, client_of, second):
    """What could be read as another amount is refused, or counted for what was sent."""
    client = client_of(fake)
    with keybrake.run("agent", cap=5) as run, contextlib.suppress(keybrake.CallRefused):
        client._requestor.request_raw(
            "post",
            "/v1/payment_intents",
            {"amount": 100, "currency": "usd", second: 40_000},
            base_address="api",
            api_mode="V1",
        )

    assert fake.journal.total(currency="usd") * 10_000 <= run.spent * 1_000_000
    assert run.spent <= 5


def test_a_second_amount_deep_inside_is_refused(fake, ledger_url, client_of):
    """An amount that is named twice in a nested parameter sends nothing."""
    item = {"price_data": {"currency": "usd", "unit_amount": 1, "unit_amount]": 90_000}}
    with keybrake.run("agent", cap=5), pytest.raises(keybrake.UnknownCost) as caught:
        stripe.Subscription.create(customer="cus_1", items=[item])

    assert caught.value.reason == "invalid_amount"
    assert fake.journal.entries == ()


def test_metadata_may_be_named_as_one_likes(fake, ledger_url):
    """What money does not depend on is sent as it is."""
    with keybrake.run("agent", cap=5):
        intent = stripe.PaymentIntent.create(**{**ASK, "amount": 100}, metadata={"a b.c": "[x]"})

    assert intent.metadata["a b.c"] == "[x]"


@pytest.mark.parametrize(
    "stop",
    [
        lambda run: run.revoke(),
        lambda run: run.pause(),
    ],
)
def test_a_stopped_run_does_not_even_look_up(fake, ledger_url, stop):
    """A refund whose amount would have to be looked up sends no GET once its run is stopped."""
    charge = stripe.Charge.create(**ASK, source="tok_visa")
    before = len(fake.journal.entries)
    with keybrake.run("agent", cap=200) as run:
        stop(run)
        with pytest.raises(keybrake.CallRefused):
            stripe.Refund.create(charge=charge.id)

    assert len(fake.journal.entries) == before


def test_what_is_not_allowed_is_not_looked_up(fake, ledger_url):
    """An endpoint that is not on the allowlist sends no GET to find out its amount."""
    charge = stripe.Charge.create(**ASK, source="tok_visa")
    before = len(fake.journal.entries)
    with (
        keybrake.run("agent", cap=200, allow=["stripe.charges.*"]),
        pytest.raises(keybrake.EndpointNotAllowed),
    ):
        stripe.Refund.create(charge=charge.id)

    assert len(fake.journal.entries) == before
