"""What is a Stripe call, and what does it cost at most: the pure answers, without SDK and ledger."""

from fractions import Fraction

import pytest

from keybrake.config.settings import Money
from keybrake.model.call import Attempt, Effect, Lookup, Position, Reply, Request, State
from keybrake.vendors import VENDORS
from tests._each import each

STRIPE = VENDORS["stripe"]
MONEY = Money(usd_per={"eur": Fraction("1.1172"), "vnd": Fraction("0.000038")}, margin_bps=0)
API = "https://api.stripe.com"


def _describe(method, path, account="", **params):
    return STRIPE.describe(Request("stripe", method, f"{API}{path}", params, account), MONEY)


@each(
    ("method", "path", "endpoint", "effect"),
    [
        ("POST", "/v1/payment_intents", "stripe.payment_intents.create", Effect.MONEY),
        ("POST", "/v1/payment_intents/pi_1", "stripe.payment_intents.update", Effect.MONEY),
        (
            "POST",
            "/v1/payment_intents/pi_1/confirm",
            "stripe.payment_intents.confirm",
            Effect.MONEY,
        ),
        ("GET", "/v1/payment_intents/pi_1", "stripe.payment_intents.retrieve", Effect.READ),
        ("GET", "/v1/payment_intents", "stripe.payment_intents.list", Effect.READ),
        ("GET", "/v1/something/new", "stripe.unlisted.get", Effect.READ),
        ("POST", "/v1/something/new", "stripe.unlisted.post", Effect.UNCLASSIFIED),
        ("PATCH", "/v1/charges/ch_1", "stripe.unlisted.patch", Effect.UNCLASSIFIED),
        ("HEAD", "/v1/charges/ch_1", "stripe.unlisted.head", Effect.UNCLASSIFIED),
        ("POST", "/v1/customers", "stripe.customers.create", Effect.FREE),
        ("POST", "/v1/files", "stripe.files.create", Effect.FREE),
        ("DELETE", "/v1/customers/cus_1", "stripe.customers.delete", Effect.FREE),
        ("POST", "/v1/issuing/cards", "stripe.issuing.cards.create", Effect.AUTHORITY),
        ("POST", "/v1/charges/ch_1/refund", "stripe.charges.refund", Effect.MONEY),
        ("POST", "/v1/invoices/in_1/pay", "stripe.invoices.pay", Effect.MONEY),
        ("PUT", "/v1/invoices/in_1/pay", "stripe.unlisted.put", Effect.UNCLASSIFIED),
    ],
)
def test_endpoints(method, path, endpoint, effect):
    """Method and path say which endpoint it is, and what sort of thing that does."""
    call = _describe(method, path, amount=100, currency="usd")

    assert (call.endpoint, call.effect, call.path) == (endpoint, effect, path)


def test_new_money():
    """A create is worth its amount, at the rate of this moment."""
    call = _describe("POST", "/v1/payment_intents", amount=1001, currency="EUR")

    assert (call.amount, call.currency, call.value_micros) == (1001, "eur", 11_183_172)
    assert (call.usd_per_unit, call.refusal, call.lookup) == (Fraction("1.1172"), None, None)


@pytest.mark.parametrize(
    ("path", "params", "path_to_ask"),
    [
        ("/v1/payment_intents/pi_1/confirm", {}, "/v1/payment_intents/pi_1"),
        ("/v1/payment_intents/pi_1/capture", {"amount_to_capture": 5}, "/v1/payment_intents/pi_1"),
        ("/v1/payment_intents/pi_1", {"amount": 5}, "/v1/payment_intents/pi_1"),
        ("/v1/payment_intents/pi_1", {"description": "x"}, None),
        ("/v1/payment_intents/pi_1/cancel", {}, None),
        ("/v1/charges/ch_1/capture", {}, "/v1/charges/ch_1"),
    ],
)
def test_what_has_to_be_known_first(path, params, path_to_ask):
    """A call on an object asks the ledger first, and the vendor only where money depends on it."""
    object_id = path.split("/")[3]
    call = _describe("POST", path, **params)

    assert call.lookup == Lookup(f"stripe::{object_id}", path_to_ask)


def test_the_account_is_part_of_the_key():
    """Positions of two accounts are two, whatever their ids."""
    call = _describe("POST", "/v1/payment_intents/pi_1/cancel", account="acct_1")

    assert call.position == "stripe:acct_1:pi_1"


def test_a_known_position_keeps_its_rate():
    """What was counted at one rate is given back at that rate."""
    call = _describe("POST", "/v1/payment_intents/pi_1/confirm")
    known = Position("stripe::pi_1", "open", 11_183_172, "eur", Fraction(2))
    done = STRIPE.complete(call, known, MONEY)

    assert (done.value_micros, done.currency, done.usd_per_unit) == (11_183_172, "eur", 2)


@pytest.mark.parametrize("found", [{}, {"object": "payment_intent"}, {"object": "charge", "id": 5}])
def test_an_object_that_says_nothing_refuses(found):
    """A look-up without an amount leaves the amount unknown."""
    call = _describe("POST", "/v1/payment_intents/pi_1/confirm")

    assert STRIPE.complete(call, found, MONEY).refusal[0] == "unknown_amount"


@pytest.mark.parametrize("params", [{"charge": "ch_1"}, {"payment_intent": "pi_1"}])
def test_a_refund_whose_parent_cannot_be_read(params):
    """A refund of something nobody could look up has an unknown amount, not a missing rate."""
    call = _describe("POST", "/v1/refunds", **params)

    assert STRIPE.complete(call, {}, MONEY).refusal[0] == "unknown_amount"


@each("parent", ["../charges", "ch_1/capture", "ch_1?x=1", "", " ", "é", 5, None])
def test_a_refund_of_no_id(parent):
    """What stands in the place of an id never becomes a path of its own."""
    call = _describe("POST", "/v1/refunds", charge=parent)

    assert call.refusal is not None
    assert call.lookup is None


def test_a_currency_in_the_request_of_a_refund():
    """A refund that names its currency needs no look-up."""
    call = _describe("POST", "/v1/refunds", charge="ch_1", amount=4700, currency="eur")

    assert call.value_micros == 52_508_400
    assert call.lookup.path is None


def _reply(status, body=b"{}", **headers):
    return Reply(status, headers, body, (Attempt(status),))


@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_read_costs_nothing(status):
    """However a read ends, it cost nothing."""
    call = _describe("GET", "/v1/payment_intents/pi_1")
    outcome = STRIPE.outcome(call, _reply(status))

    assert (outcome.state, outcome.value_micros) == (State.SETTLED, None)


def test_an_outcome():
    """A success names the position, what it is worth now, and the object."""
    call = _describe("POST", "/v1/payment_intents", amount=5, currency="usd")
    body = (
        b'{"id":"pi_1","object":"payment_intent","status":"processing","amount":7,"currency":"usd"}'
    )
    outcome = STRIPE.outcome(call, _reply(200, body))

    assert (outcome.state, outcome.position) == (State.SETTLED, "stripe::pi_1")
    assert (outcome.value_micros, outcome.position_state) == (70_000, "in_flight")
    assert (outcome.object_id, outcome.http_status) == ("pi_1", 200)
