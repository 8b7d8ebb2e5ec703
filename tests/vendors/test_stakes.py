"""Does every call that is priced by a look-up name the object, and every call that raises one, too?"""

from fractions import Fraction
from typing import Any

import pytest

from keybrake.config import settings
from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Position, Request
from keybrake.vendors.resend.vendor import Resend
from keybrake.vendors.stripe.vendor import Stripe
from keybrake.vendors.twilio.vendor import Twilio
from tests._each import each
from tests.vendors._stripe_cases import COUNTED
from tests.vendors.test_stripe_table import ROWS

STRIPE, MONEY = Stripe(), Money()
URL = "https://api.stripe.com"
PI = "/v1/payment_intents/pi_1"
PAYOUT, AMOUNT = "/v2/money_management/payout_intents/pyi_1", {"value": 5, "currency": "usd"}


def _describe(path: str, params: Any, method: str = "POST") -> Call:
    return STRIPE.describe(Request("stripe", method, f"{URL}{path}", params), MONEY)


def _larger(body: Any) -> Any:
    """Return an object with every number in it doubled."""
    if isinstance(body, dict):
        return {name: _larger(value) for name, value in body.items()}
    if isinstance(body, list):
        return [_larger(value) for value in body]
    return 2 * body if type(body) is int else body


def _priced(case: Any, *, larger: bool = False) -> Call:
    method, path = case.call.split()
    call = _describe(path, case.params, method)
    for _, body in case.looks:
        call = call._replace(lookup=None)
        call = STRIPE.complete(call, _larger(body) if larger else body, MONEY)
    return call


@each(
    "case",
    [case for case in COUNTED if case.looks],
    ids=lambda case: case.endpoint,
)
def test_what_a_look_up_decides_is_named(case):
    """If a larger object makes a call dearer, the call says that it was priced by that object."""
    call, dearer = _priced(case), _priced(case, larger=True)

    if call.value_micros != dearer.value_micros:
        assert call.priced_by
        assert all(key.startswith("stripe::") for key in call.priced_by)


@each("row", [row for row in ROWS if row.get("raises")], ids=lambda row: row["endpoint"])
def test_what_a_row_raises_is_in_its_path_or_its_request(row):
    """Every place that the table names leads to one key, unless the request changes no amount."""
    named = [place.partition("#")[0] for place in row["raises"].split()]
    fields = {name: f"{name}_1" for name in named if name.isidentifier()}
    amounts = dict.fromkeys(("amount", "amount_to_capture", "amount_to_confirm"), 5)
    if row["path"].startswith("/v2/"):
        amounts = {"amount": AMOUNT}
    call = _describe(row["path"].replace("{}", "x_1"), {**amounts, **fields}, row["method"])

    assert row["method"] != "GET"
    assert {key.partition("#")[0] for key in call.may_raise} <= {
        *("stripe::x_1", "stripe::*refunds"),
        *(f"stripe::{name}" for name in fields.values()),
    }
    freed = row["effect"] == "money" and call.effect is Effect.FREE
    # What a call is told by a word of the request may raise one key more.
    assert len(call.may_raise) >= (0 if freed or call.refusal else len(named))


@each(
    ("path", "params", "raises"),
    [
        (PI, {"description": "tea"}, ()),
        (PI, {"amount": 5}, ("stripe::pi_1",)),
        (PI, {"currency": "eur"}, ("stripe::pi_1", "stripe::pi_1#currency")),
        (PAYOUT, {"description": "tea"}, ()),
        (PAYOUT, {"to": {"currency": "eur"}}, ("stripe::pyi_1",)),
        (PAYOUT, {"amount": AMOUNT}, ("stripe::pyi_1", "stripe::pyi_1#currency")),
        (f"{PI}/confirm", {}, ()),
        (f"{PI}/confirm", {"amount_to_confirm": 7}, ("stripe::pi_1",)),
        (f"{PI}/capture", {}, ()),
        (f"{PI}/capture", {"amount_to_capture": 7}, ("stripe::pi_1",)),
    ],
)
def test_a_call_that_leaves_the_amount_alone_raises_nothing(path, params, raises):
    """A new description is in nobody's way; an amount or a currency is."""
    assert _describe(path, params).may_raise == raises


@pytest.mark.parametrize(
    ("path", "params", "key"),
    [
        (f"{PI}/confirm", {}, ("stripe::pi_1",)),
        (f"{PI}/capture", {}, ("stripe::pi_1",)),
        (f"{PI}/apply_customer_balance", {"amount": 5}, ("stripe::pi_1",)),
        (f"{PI}/capture", {"amount_to_capture": 5}, ()),
        (PI, {"amount": 5}, ()),
        (PI, {"description": "tea"}, ()),
        (f"{PI}/cancel", {}, ()),
    ],
)
def test_a_price_out_of_the_ledger_has_to_hold_as_well(path, params, key):
    """A call that is worth what the ledger counts depends on the object; one with an amount does not."""
    counted = Position("stripe::pi_1", "held", 10_000_000, "usd", Fraction(1))
    call = STRIPE.complete(_describe(path, params)._replace(lookup=None), counted, MONEY)

    assert call.refusal is None
    assert call.priced_by == key


def test_a_capture_inside_of_what_is_counted_raises_nothing():
    """More than was held raises the intent; less than that is in nobody's way."""
    counted = Position("stripe::pi_1", "held", 10_000_000, "usd", Fraction(1))
    for cents, raises in ((1000, ()), (1001, ("stripe::pi_1",))):
        call = _describe(f"{PI}/capture", {"amount_to_capture": cents})._replace(lookup=None)
        assert STRIPE.complete(call, counted, MONEY).may_raise == raises


def _refund(found: dict[str, Any], **params: Any) -> Call:
    call = _describe("/v1/refunds", params)
    return STRIPE.complete(call._replace(lookup=None), found, MONEY)


INTENT = {"id": "pi_1", "object": "payment_intent", "currency": "usd", "latest_charge": "ch_1"}


@pytest.mark.parametrize(
    ("status", "received", "dollars"),
    [
        ("requires_capture", 0, 10),
        ("requires_capture", 400, 10),
        ("processing", 0, 10),
        ("requires_confirmation", 0, 10),
        ("succeeded", 400, 4),
        ("canceled", 400, 4),
        (None, 0, 10),
    ],
)
def test_a_refund_counts_all_that_an_intent_may_yet_take(status, received, dollars):
    """Until the intent has ended, a capture beside the refund makes more of it to be refunded."""
    found = {**INTENT, "amount": 1000, "amount_received": received, "status": status}

    assert _refund(found, payment_intent="pi_1").value_micros == dollars * 1_000_000


def test_a_refund_without_an_amount_depends_on_intent_charge_and_other_refunds():
    """An increment of the intent, and a refund that is canceled, leave more to be refunded."""
    charge = {"id": "ch_1", "object": "charge", "payment_intent": {"id": "pi_1"}, "amount": 1000}
    found = {**charge, "amount_refunded": 0, "currency": "usd"}

    assert _refund(found, charge="ch_1").priced_by == (
        "stripe::ch_1",
        "stripe::pi_1",
        "stripe::*refunds",
    )
    assert _describe("/v1/refunds/re_1/cancel", {}).may_raise == ("stripe::*refunds",)


def test_a_refund_that_names_its_amount_depends_on_nothing():
    """Its charge only says in which currency it is."""
    found = {"id": "ch_1", "object": "charge", "currency": "usd"}

    assert _refund(found, charge="ch_1", amount=5).priced_by == ()


def test_a_call_for_an_account_depends_on_that_accounts_objects():
    """The same id in another account is another object."""
    request = Request("stripe", "POST", f"{URL}{PI}/confirm", {}, account="acct_1")
    call = STRIPE.describe(request, MONEY)._replace(lookup=None)
    call = STRIPE.complete(call, {**INTENT, "amount": 5, "status": "requires_action"}, MONEY)

    assert call.priced_by == ("stripe:acct_1:pi_1", "stripe:acct_1:ch_1")


def test_a_draft_is_sent_to_whom_it_names():
    """Sending a draft is priced by the draft, and a change of the draft raises it."""
    resend = Resend()
    draft = "https://api.resend.com/inboxes/me@x.dev/drafts/d_1"
    sent = resend.describe(Request("resend", "POST", f"{draft}/send", {}), MONEY)
    changed = resend.describe(Request("resend", "PATCH", draft, {"to": "b@x.dev"}), MONEY)

    assert sent.lookup is not None
    assert sent.priced_by == changed.may_raise == ("resend::d_1",)


def test_a_live_call_is_priced_by_where_it_goes():
    """What a call may cost for longer depends on the call that was looked up."""
    twilio = Twilio()
    path = "/2010-04-01/Accounts/AC1/Calls/CA1.json"
    request = Request("twilio", "POST", f"https://api.twilio.com{path}", {"TimeLimit": 60})
    given = {"prices": {"twilio": {"voice_minute": {"+1": "0.014"}}}}
    money = settings.parse(given, source="t", default=settings.Config("sqlite:///x")).money
    asked = twilio.describe(request, money)
    found = {"sid": "CA1", "to": "+12125550100", "direction": "outbound-api"}

    assert asked.lookup is not None
    assert twilio.complete(asked._replace(lookup=None), found, money).priced_by == (
        "twilio:AC1:CA1",
    )


def _case(endpoint: str) -> Any:
    return next(case for case in COUNTED if case.endpoint == endpoint)


_IN = "/v1/invoices/in_1"


@each(
    ("endpoint", "path", "params"),
    [
        ("quotes.accept", "/v1/quotes/qt_1", {"line_items": [{"price": "price_1"}]}),
        ("quotes.accept", "/v1/quotes/qt_1/finalize", {}),
        ("invoices.pay", f"{_IN}/add_lines", {"lines": [{"amount": 5}]}),
        ("invoices.finalize", f"{_IN}/lines/il_1", {"amount": 5}),
        ("invoices.update", "/v1/invoiceitems", {"invoice": "in_1", "amount": 5}),
        ("credit_notes.create", f"{_IN}/update_lines", {"lines": [{"id": "il_1", "amount": 5}]}),
        ("credit_notes.create", "/v1/credit_notes/cn_1/void", {}),
        ("invoices.create", "/v1/invoiceitems", {"customer": "cus_1", "amount": 5}),
        ("invoices.create", "/v1/customers/cus_1", {"balance": 5}),
        ("subscriptions.create", "/v1/invoiceitems", {"customer": "cus_1", "amount": 5}),
        ("invoiceitems.create", "/v1/subscriptions", {"customer": "cus_1"}),
        ("invoiceitems.create", "/v1/quotes/qt_1/accept", {}),
        ("subscriptions.update", "/v1/subscription_items", {"subscription": "sub_1"}),
        ("subscription_items.update", "/v1/subscriptions/sub_1", {"items": [{"quantity": 5}]}),
        ("subscriptions.cancel", "/v1/subscriptions/sub_1/resume", {}),
    ],
)
def test_what_raises_a_bill_and_what_is_priced_by_it_have_an_object_in_common(
    endpoint, path, params
):
    """Of two calls on one bill, one names as raised what the other one names as read."""
    case = _case(endpoint)
    if endpoint == "credit_notes.create":
        case = case._replace(params={"invoice": "in_1"})  # one that names no amount
    raised = set(_describe(path, params).may_raise)
    looked = [other for other in COUNTED if other.call == f"POST {path}"]
    raised.update(key for other in looked for key in _priced(other).may_raise)

    assert raised & set(_priced(case).priced_by)


@pytest.mark.parametrize(("due", "stake"), [(5, ("stripe::cus_1#balance",)), (10, ())])
def test_a_preview_that_credit_pays_for_has_a_stake_in_the_credit(due, stake):
    """Of two changes that are invoiced at once, only one is priced by the same credit."""
    call = _describe("/v1/subscriptions/sub_1", {"items": [{"quantity": 5}]})
    preview = {"object": "invoice", "amount_due": due, "total": 10, "currency": "usd"}
    call = STRIPE.complete(call._replace(lookup=None), {**preview, "customer": "cus_1"}, MONEY)

    for keys in (call.priced_by, call.may_raise):
        assert tuple(key for key in keys if key.endswith("#balance")) == stake
