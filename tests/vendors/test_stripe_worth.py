"""Is each Stripe object read as worth what it can still take?"""

from hypothesis import given
from hypothesis import strategies as st

from keybrake.vendors.stripe.money import MOST_MINOR
from keybrake.vendors.stripe.worth import worth
from tests._each import each

_PI = {"object": "payment_intent", "id": "pi_1", "currency": "usd", "amount": 9}
_CH = {"object": "charge", "id": "ch_1", "currency": "usd", "amount": 9}


@each(
    ("body", "state", "minor"),
    [
        (_PI | {"status": "succeeded", "amount_received": 7}, "settled", 7),
        (
            _PI | {"status": "requires_capture", "amount_capturable": 5, "amount_received": 2},
            "held",
            7,
        ),
        (_PI | {"status": "requires_capture", "amount_capturable": 5}, "held", None),
        (_PI | {"status": "processing"}, "in_flight", 9),
        (_PI | {"status": "canceled", "amount_received": 0}, "released", 0),
        (_PI | {"status": "canceled", "amount_received": 3}, "released", 3),
        (_PI | {"status": "requires_action"}, "open", 9),
        (_PI | {"status": "a status of tomorrow"}, "open", 9),
        (_PI | {"status": "succeeded"}, "settled", None),
        (_PI | {"status": "succeeded", "amount_received": -1}, "settled", None),
        (_CH | {"status": "succeeded", "captured": True, "amount_captured": 4}, "settled", 4),
        (_CH | {"status": "succeeded", "captured": True}, "settled", 9),
        (_CH | {"status": "succeeded", "captured": False}, "held", 9),
        (_CH | {"status": "pending"}, "in_flight", 9),
        (_CH | {"status": "failed"}, "released", 0),
        (_CH | {"object": "refund", "status": "succeeded"}, "settled", 9),
        (_CH | {"object": "refund", "status": "pending"}, "in_flight", 9),
        (_CH | {"object": "refund", "status": "failed"}, "released", 0),
        (_CH | {"object": "payout", "status": "in_transit"}, "settled", 9),
        (_CH | {"object": "payout", "status": "pending"}, "in_flight", 9),
        (_CH | {"object": "payout", "status": "canceled"}, "released", 0),
        (_CH | {"object": "transfer"}, "settled", 9),
    ],
)
def test_worth(body, state, minor):
    """Each status of each object is worth the most it can still take."""
    found = worth(body)

    assert (found.state, found.minor, found.currency) == (state, minor, "usd")


_V2 = {"id": "x_1", "amount": {"value": "9", "currency": "usd"}}
_IN = {"object": "invoice", "id": "in_1", "currency": "usd", "amount_due": 9, "amount_paid": 4}
_AUTH = {"object": "issuing.authorization", "id": "iauth_1", "currency": "usd", "amount": 9}
_QT = {"object": "quote", "id": "qt_1", "currency": "usd", "amount_total": 9}
_CS = {"object": "checkout.session", "id": "cs_1", "currency": "usd", "amount_total": 9}


@each(
    ("body", "state", "minor", "contingent"),
    [
        (_CH | {"object": "topup", "status": "pending"}, "in_flight", 9, None),
        (_CH | {"object": "topup", "status": "reversed"}, "released", 0, None),
        (_CH | {"object": "payout", "original_payout": "po_1", "amount": -9}, "in_flight", 9, None),
        (_CH | {"object": "payout", "amount": -9}, "in_flight", None, None),
        (_CH | {"object": "dispute", "status": "lost"}, "settled", 9, None),
        (_CH | {"object": "dispute", "status": "won"}, "released", 0, None),
        (_CH | {"object": "credit_note", "total": 7, "status": "void"}, "settled", 7, None),
        (_CH | {"object": "treasury.debit_reversal", "status": "succeeded"}, "settled", 9, None),
        (_CH | {"object": "treasury.outbound_payment", "status": "returned"}, "released", 0, None),
        (_V2 | {"object": "v2.money_management.payout_intent"}, "in_flight", 9, None),
        (
            _CH | {"object": "climate.order", "amount_total": 12, "status": "open"},
            "in_flight",
            12,
            None,
        ),
        (_CH | {"object": "customer_balance_transaction", "amount": -9}, "settled", 9, None),
        (_CH | {"object": "customer_balance_transaction", "amount": 9}, "settled", 9, None),
        (_CH | {"object": "customer_balance_transaction", "amount": "9"}, "settled", None, None),
        (_IN | {"status": "paid"}, "settled", 4, None),
        (_IN | {"status": "open"}, "in_flight", 9, None),
        (_IN | {"status": "open", "collection_method": "send_invoice"}, "in_flight", 9, None),
        (_IN | {"status": "draft", "auto_advance": True}, "open", 9, None),
        (_IN | {"status": "draft", "auto_advance": False}, "needs_human", 0, 9),
        (_IN | {"status": "void", "amount_paid": 0}, "released", 0, None),
        (_IN | {"status": "uncollectible", "amount_paid": 4}, "settled", 4, None),
        (_IN | {"deleted": True}, "released", 0, None),
        (_AUTH | {"status": "pending"}, "held", 9, None),
        (_AUTH | {"status": "pending", "pending_request": {"amount": 11}}, "held", 11, None),
        (_AUTH | {"status": "closed"}, "settled", 9, None),
        (_AUTH | {"status": "reversed"}, "released", 0, None),
        (_AUTH | {"status": "closed", "approved": False}, "released", 0, None),
        (_QT | {"status": "open"}, "needs_human", 0, 9),
        (_QT | {"status": "accepted"}, "settled", 9, None),
        (_QT | {"status": "canceled"}, "released", 0, None),
        (_CS | {"status": "open"}, "needs_human", 0, 9),
        (_CS | {"status": "complete", "payment_status": "paid"}, "settled", 0, None),
        (_CS | {"status": "expired"}, "released", 0, None),
        (_CH | {"object": "payment_link"}, "needs_human", 0, None),
    ],
)
def test_worth_of_the_rest(body, state, minor, contingent):
    """Every kind of object that Stripe answers with is worth the most it can still take."""
    found = worth(body)

    assert (found.state, found.minor, found.contingent) == (state, minor, contingent)


def test_a_payment_of_an_invoice_is_the_invoices_event():
    """An intent or charge that names its invoice speaks of a part of that invoice."""
    for body in (_PI | {"invoice": "in_1"}, _CH | {"invoice": {"id": "in_1"}}):
        found = worth(body | {"status": "succeeded"})

        assert (found.object_id, found.partial) == ("in_1", True)


def test_a_charge_of_an_intent_is_the_intents_event():
    """The charge and the intent it was made for are one position."""
    body = _CH | {"status": "succeeded", "captured": True, "payment_intent": "pi_1"}

    assert worth(body).object_id == "pi_1"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "object": st.sampled_from(["payment_intent", "charge", "refund", "payout"]) | _JSON,
            "id": st.just("x_1") | _JSON,
            "status": st.sampled_from(["succeeded", "requires_capture", "canceled"]) | _JSON,
            "currency": st.just("usd") | _JSON,
            "captured": _JSON,
            **dict.fromkeys(
                ("amount", "amount_received", "amount_capturable", "amount_captured"),
                st.integers() | _JSON,
            ),
        },
    )
)
def test_worth_never_raises(body):
    """Any JSON object is worth something, or nothing anybody can read."""
    found = worth(body)

    assert found is None or found.minor is None or 0 <= found.minor <= MOST_MINOR
