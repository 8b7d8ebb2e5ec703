"""Is a guarded call the same call: equal bytes out, equal objects back?"""

import re

import pytest
import stripe

import keybrake

ASK = {
    "amount": 2999,
    "currency": "usd",
    "description": "Ünïcode & = ? / #",
    "metadata": {"order": "7", "list": ""},
    "payment_method_types": ["card", "link"],
    "automatic_payment_methods": {"enabled": False},
    "expand": ["latest_charge", "customer"],
}
INTENT = {
    "id": "pi_1",
    "object": "payment_intent",
    "amount": 2999,
    "amount_received": 0,
    "amount_capturable": 0,
    "currency": "usd",
    "status": "requires_payment_method",
    "metadata": {"order": "7"},
    "next_action": None,
    "created": 1_700_000_000,
}


@pytest.fixture(autouse=True)
def steady(monkeypatch):
    """Keep the SDK from telling Stripe how long its last call took."""
    monkeypatch.setattr(stripe, "enable_telemetry", False)


def _without_key(raw):
    cut, count = re.subn(rb"(?i)idempotency-key: [^\r]*\r\n", b"", raw)
    return cut, count


def _create(**more):
    return stripe.PaymentIntent.create(**ASK, **more)


def _raw(**more):
    client = stripe.StripeClient(
        "sk_test_fake",
        base_addresses={"api": stripe.api_base},
        http_client=stripe.default_http_client,
        max_network_retries=0,
    )
    return client.raw_request("post", "/v1/payment_intents", **ASK, **more)


@pytest.mark.parametrize("call", [_create, _raw])
@pytest.mark.parametrize(
    "options",
    [{}, {"stripe_account": "acct_1", "stripe_version": "2024-04-10", "headers": {"X-Mine": "1"}}],
)
def test_equal_bytes_and_objects(wire, ledger_url, call, options):
    """With and without the guard: equal bytes, save the idempotency key, and equal objects."""
    wire.otherwise = (200, INTENT, {"Request-Id": "req_1"})
    free = call(**options)
    with keybrake.run("agent", cap=200):
        guarded = call(**options)
    first, second = wire.seen

    assert _without_key(first)[0] == _without_key(second)[0]
    assert _without_key(first)[1] == _without_key(second)[1] == 1
    assert re.search(rb"(?i)idempotency-key: kb-[0-9a-f]{24}\r\n", second)
    if call is _create:
        assert guarded == free
        assert guarded.to_dict() == free.to_dict()
        assert guarded.last_response.headers == free.last_response.headers
        assert guarded.last_response.body == free.last_response.body
    assert type(guarded) is type(free)


def test_equal_to_the_last_byte_with_an_own_key(wire, ledger_url):
    """With the caller's own idempotency key nothing on the wire differs at all."""
    wire.otherwise = (200, INTENT, {})
    _create(idempotency_key="order-7")
    with keybrake.run("agent", cap=200):
        _create(idempotency_key="order-7")

    assert wire.seen[0] == wire.seen[1]


def test_equal_reads(wire, ledger_url):
    """A read is the same to the last byte."""
    wire.otherwise = (200, {"object": "list", "data": [], "has_more": False, "url": "/v1/x"}, {})
    query = {"limit": 3, "created": {"gte": 5}, "expand": ["data.customer"]}
    stripe.PaymentIntent.list(**query)
    with keybrake.run("agent", cap=0):
        stripe.PaymentIntent.list(**query)

    assert wire.seen[0] == wire.seen[1]


def _cancel_plainly(**options):
    return stripe.Subscription.cancel("sub_1", **options)


def _delete_by_client(**options):
    client = stripe.StripeClient(
        "sk_test_fake",
        base_addresses={"api": stripe.api_base},
        http_client=stripe.default_http_client,
        max_network_retries=0,
    )
    return client.raw_request("delete", "/v1/customers/cus_1", **options)


@pytest.mark.parametrize("call", [_cancel_plainly, _delete_by_client])
@pytest.mark.parametrize("options", [{}, {"idempotency_key": "order-7"}])
def test_equal_deletes(wire, ledger_url, call, options):
    """A DELETE of Stripe's v1 API is the same to the last byte: keybrake adds no key to it."""
    wire.otherwise = (200, {"id": "x_1", "object": "customer", "deleted": True}, {})
    call(**options)
    with keybrake.run("agent", cap=0):
        call(**options)

    assert wire.seen[0] == wire.seen[1]
    assert _without_key(wire.seen[1])[1] == len(options)


def test_a_delete_of_v2_has_a_key(wire, ledger_url):
    """A DELETE of Stripe's v2 API has a key, as the SDK gives it one."""
    wire.otherwise = (200, {"id": "ed_1", "object": "v2.core.event_destination"}, {})
    client = stripe.StripeClient(
        "sk_test_fake",
        base_addresses={"api": stripe.api_base},
        http_client=stripe.default_http_client,
        max_network_retries=0,
    )
    client.v2.core.event_destinations.delete("ed_1")
    with keybrake.run("agent", cap=0):
        client.v2.core.event_destinations.delete("ed_1")
    first, second = wire.seen

    assert _without_key(first)[0] == _without_key(second)[0]
    assert re.search(rb"(?i)idempotency-key: kb-[0-9a-f]{24}\r\n", second)


def test_an_object_in_the_place_of_an_id(wire, ledger_url):
    """An object given as a parameter is sent as it is without a guard."""
    wire.otherwise = (200, INTENT, {})
    customer = stripe.Customer.construct_from({"id": "cus_1", "object": "customer"}, "sk_test_x")
    stripe.PaymentIntent.create(amount=5, currency="usd", customer=customer, idempotency_key="k")
    with keybrake.run("agent", cap=200):
        stripe.PaymentIntent.create(
            amount=5, currency="usd", customer=customer, idempotency_key="k"
        )

    assert wire.seen[0] == wire.seen[1]


def test_equal_errors(wire, ledger_url):
    """An error of Stripe's is the same error, too."""
    declined = {"error": {"type": "card_error", "code": "card_declined", "message": "no"}}
    wire.otherwise = (402, declined, {"Request-Id": "req_1"})
    with pytest.raises(stripe.CardError) as free:
        _create()
    with keybrake.run("agent", cap=200), pytest.raises(stripe.CardError) as guarded:
        _create()

    assert type(guarded.value) is type(free.value)
    assert (str(guarded.value), guarded.value.code, guarded.value.http_body) == (
        str(free.value),
        free.value.code,
        free.value.http_body,
    )
    assert guarded.value.headers == free.value.headers


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_delete_has_the_headers_that_the_sdk_gives_it(wire, ledger_url, version):
    """Stripe's SDK makes a key for a DELETE of v2 and none for one of v1: so does the guard."""
    client = stripe.StripeClient(
        "sk_test_1", base_addresses={"api": wire.url}, max_network_retries=0
    )
    path = {"v1": "/v1/customers/cus_1", "v2": "/v2/core/event_destinations/ed_1"}[version]

    def delete():
        wire.answer(200, {"id": "x_1", "object": "customer", "deleted": True})
        client.raw_request("delete", path)

    delete()
    with keybrake.run("agent", cap=1):
        delete()

    plain, guarded = (b"idempotency-key" in raw.lower() for raw in wire.seen)
    assert (plain, guarded) == (version == "v2", version == "v2")
