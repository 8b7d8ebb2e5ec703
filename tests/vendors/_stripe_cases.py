"""One plausible request for each Stripe endpoint that is counted, and what it must come to."""

from typing import Any, NamedTuple

Body = dict[str, Any]


class Case(NamedTuple):
    """
    A call on an empty ledger.

    Attributes:
        looks: What has to be looked up first, in order: method and path, and what is found.
        reserve: In micros.
        counted: After the answer; None: the reservation.
        position: Id of the one position that it makes, where that is worth a look.
    """

    endpoint: str
    call: str
    params: Body
    looks: tuple[tuple[str, Body], ...]
    answer: Body
    reserve: int
    counted: int | None = None
    position: str | None = None


USD = {"currency": "usd"}
ASK = {"amount": 1000, "currency": "usd"}
CENT = 10_000

INTENT: Body = {
    "id": "pi_1",
    "object": "payment_intent",
    "amount": 1000,
    "amount_received": 0,
    "amount_capturable": 0,
    "status": "requires_confirmation",
    **USD,
}
HELD = INTENT | {"status": "requires_capture", "amount_capturable": 1000}
PAID = INTENT | {"status": "succeeded", "amount_received": 1000}
CHARGE: Body = {
    "id": "ch_1",
    "object": "charge",
    "amount": 1000,
    "amount_captured": 1000,
    "amount_refunded": 300,
    "captured": True,
    "status": "succeeded",
    **USD,
}
INVOICE: Body = {
    "id": "in_1",
    "object": "invoice",
    "status": "open",
    "amount_due": 1000,
    "amount_paid": 0,
    "amount_remaining": 1000,
    "total": 1000,
    "auto_advance": False,
    "collection_method": "charge_automatically",
    **USD,
}
INVOICE_PAID = INVOICE | {"status": "paid", "amount_paid": 1000, "amount_remaining": 0}
PRICE: Body = {"id": "price_1", "object": "price", "unit_amount": 2000, "type": "recurring", **USD}
SUBSCRIPTION: Body = {"id": "sub_1", "object": "subscription", "status": "active", **USD}
PREVIEW: Body = {"object": "invoice", "amount_due": 1500, **USD}
DRAFT = INVOICE | {"status": "draft", "auto_advance": True, "customer": "cus_1"}
ITEM: Body = {
    "id": "ii_1",
    "object": "invoiceitem",
    "amount": 500,
    "quantity": 1,
    "customer": "cus_1",
    "invoice": None,
    **USD,
}
QUOTE: Body = {
    "customer": "cus_1",
    "id": "qt_1",
    "object": "quote",
    "status": "open",
    "amount_total": 1000,
    "computed": {"upfront": {"amount_total": 1000}},
    **USD,
}
CUSTOMER: Body = {"id": "cus_1", "object": "customer", "balance": -200, **USD}
V2_ASK = {"amount": {"value": 1000, "currency": "usd"}}
READER: Body = {"id": "tmr_1", "object": "terminal.reader", "action": {"status": "in_progress"}}


def _thing(kind: str, **fields: Any) -> Body:
    return {"id": "x_1", "object": kind, "amount": 1000, **USD, **fields}


def _look(path: str, body: Body) -> tuple[tuple[str, Body], ...]:
    return ((f"GET {path}", body),)


def _list(path: str, *rows: Body) -> tuple[tuple[str, Body], ...]:
    return _look(path, {"object": "list", "has_more": False, "data": list(rows)})


def _lines(*rows: Body) -> Body:
    return {"lines": {"object": "list", "has_more": False, "data": list(rows)}}


_PI = "/v1/payment_intents/pi_1"
_CH = "/v1/charges/ch_1"
_IN = "/v1/invoices/in_1"
_TERMINAL = "POST /v1/terminal/readers/tmr_1"
_PREVIEWED = (("POST /v1/invoices/create_preview", PREVIEW),)
_PRICED = _look("/v1/prices/price_1", PRICE)

_INTENTS = (
    Case("payment_intents.create", "POST /v1/payment_intents", ASK, (), INTENT, 1000 * CENT),
    Case(
        "payment_intents.update",
        f"POST {_PI}",
        {"amount": 1200},
        _look(_PI, INTENT),
        INTENT | {"amount": 1200},
        1200 * CENT,
    ),
    Case("payment_intents.confirm", f"POST {_PI}/confirm", {}, _look(_PI, INTENT), PAID, 10**7),
    Case("payment_intents.capture", f"POST {_PI}/capture", {}, _look(_PI, HELD), PAID, 10**7),
    Case(
        "payment_intents.increment_authorization",
        f"POST {_PI}/increment_authorization",
        {"amount": 1500},
        _look(_PI, HELD),
        HELD | {"amount": 1500, "amount_capturable": 1500},
        1500 * CENT,
    ),
    Case(
        "payment_intents.apply_customer_balance",
        f"POST {_PI}/apply_customer_balance",
        {"amount": 100},
        _look(_PI, INTENT),
        PAID,
        10**7,
    ),
    Case(
        "payment_intents.verify_microdeposits",
        f"POST {_PI}/verify_microdeposits",
        {"amounts": [32, 45]},
        _look(_PI, INTENT),
        INTENT | {"status": "processing"},
        10**7,
    ),
    Case(
        "charges.create",
        "POST /v1/charges",
        {**ASK, "source": "tok_visa"},
        (),
        CHARGE | {"amount_refunded": 0},
        10**7,
    ),
    Case(
        "charges.capture",
        f"POST {_CH}/capture",
        {},
        _look(_CH, CHARGE | {"captured": False, "amount_captured": 0}),
        CHARGE,
        10**7,
    ),
    Case(
        "terminal.readers.process_payment_intent",
        f"{_TERMINAL}/process_payment_intent",
        {"payment_intent": "pi_1"},
        _look(_PI, INTENT),
        READER,
        10**7,
        position="pi_1",
    ),
    Case(
        "terminal.readers.confirm_payment_intent",
        f"{_TERMINAL}/confirm_payment_intent",
        {"payment_intent": "pi_1"},
        _look(_PI, INTENT),
        READER,
        10**7,
        position="pi_1",
    ),
)

_TAKEN = (
    Case(
        "refunds.create",
        "POST /v1/refunds",
        {"charge": "ch_1"},
        _look(_CH, CHARGE),
        _thing("refund", amount=700, status="succeeded"),
        700 * CENT,
    ),
    Case(
        "charges.refunds.create",
        f"POST {_CH}/refunds",
        {},
        _look(_CH, CHARGE),
        _thing("refund", amount=700, status="succeeded"),
        700 * CENT,
    ),
    Case(
        "charges.refund",
        f"POST {_CH}/refund",
        {},
        _look(_CH, CHARGE),
        CHARGE | {"amount_refunded": 1000, "refunded": True},
        700 * CENT,
    ),
    Case(
        "terminal.readers.refund_payment",
        f"{_TERMINAL}/refund_payment",
        {"payment_intent": "pi_1"},
        _look(_PI, PAID),
        READER,
        10**7,
    ),
    Case(
        "credit_notes.create",
        "POST /v1/credit_notes",
        {"invoice": "in_1", "refund_amount": 250, "credit_amount": 50, "amount": 300},
        _look(_IN, INVOICE_PAID),
        _thing("credit_note", total=300, status="issued"),
        300 * CENT,
    ),
    Case(
        "application_fees.refunds.create",
        "POST /v1/application_fees/fee_1/refunds",
        {},
        _look("/v1/application_fees/fee_1", _thing("application_fee", amount_refunded=400)),
        _thing("fee_refund", amount=600),
        600 * CENT,
    ),
    Case(
        "application_fees.refund",
        "POST /v1/application_fees/fee_1/refund",
        {},
        _look("/v1/application_fees/fee_1", _thing("application_fee", amount_refunded=400)),
        _thing("application_fee", amount_refunded=1000),
        600 * CENT,
    ),
    Case(
        "transfers.reversals.create",
        "POST /v1/transfers/tr_1/reversals",
        {},
        _look("/v1/transfers/tr_1", _thing("transfer", amount_reversed=100)),
        _thing("transfer_reversal", amount=900),
        900 * CENT,
    ),
    Case(
        "payouts.reverse",
        "POST /v1/payouts/po_1/reverse",
        {},
        _look("/v1/payouts/po_1", _thing("payout", status="paid")),
        _thing("payout", amount=-1000, original_payout="po_1", status="pending"),
        10**7,
    ),
    Case(
        "treasury.credit_reversals.create",
        "POST /v1/treasury/credit_reversals",
        {"received_credit": "rc_1"},
        _look("/v1/treasury/received_credits/rc_1", _thing("treasury.received_credit")),
        _thing("treasury.credit_reversal", status="processing"),
        10**7,
    ),
    Case(
        "treasury.debit_reversals.create",
        "POST /v1/treasury/debit_reversals",
        {"received_debit": "rd_1"},
        _look("/v1/treasury/received_debits/rd_1", _thing("treasury.received_debit")),
        _thing("treasury.debit_reversal", status="succeeded"),
        10**7,
    ),
    Case(
        "disputes.close",
        "POST /v1/disputes/dp_1/close",
        {},
        _look("/v1/disputes/dp_1", _thing("dispute", status="needs_response")),
        _thing("dispute", status="lost"),
        10**7,
    ),
    Case(
        "issuing.authorizations.approve",
        "POST /v1/issuing/authorizations/iauth_1/approve",
        {},
        _look(
            "/v1/issuing/authorizations/iauth_1",
            _thing("issuing.authorization", amount=0, pending_request={"amount": 700}),
        ),
        _thing("issuing.authorization", amount=700, approved=True, status="pending"),
        700 * CENT,
    ),
)


def _new(endpoint: str, path: str, kind: str, status: str | None = None) -> Case:
    fields = {} if status is None else {"status": status}
    return Case(endpoint, f"POST {path}", ASK, (), _thing(kind, **fields), 10**7)


def _new_v2(endpoint: str, path: str, kind: str, status: str) -> Case:
    answer = _thing(kind, **V2_ASK, status=status)
    return Case(endpoint, f"POST {path}", V2_ASK, (), answer, 10**7)


_TREASURY = "/v1/treasury/"
_V2 = "/v2/money_management/"
PAYOUT_INTENT = _thing("v2.money_management.payout_intent", **V2_ASK) | {"id": "pyi_1"}
_NEW = (
    _new("transfers.create", "/v1/transfers", "transfer"),
    _new("payouts.create", "/v1/payouts", "payout", "pending"),
    _new("topups.create", "/v1/topups", "topup", "pending"),
    _new(
        "treasury.outbound_payments.create",
        f"{_TREASURY}outbound_payments",
        "treasury.outbound_payment",
        "processing",
    ),
    _new(
        "treasury.outbound_transfers.create",
        f"{_TREASURY}outbound_transfers",
        "treasury.outbound_transfer",
        "posted",
    ),
    _new(
        "treasury.inbound_transfers.create",
        f"{_TREASURY}inbound_transfers",
        "treasury.inbound_transfer",
        "processing",
    ),
    _new_v2(
        "v2.money_management.outbound_payments.create",
        f"{_V2}outbound_payments",
        "v2.money_management.outbound_payment",
        "processing",
    ),
    _new_v2(
        "v2.money_management.payout_intents.create",
        f"{_V2}payout_intents",
        "v2.money_management.payout_intent",
        "pending",
    ),
    _new_v2(
        "v2.money_management.inbound_transfers.create",
        f"{_V2}inbound_transfers",
        "v2.money_management.inbound_transfer",
        "processing",
    ),
    Case(
        "v2.money_management.payout_intents.update",
        f"POST {_V2}payout_intents/pyi_1",
        {"amount": {"value": 1200, "currency": "usd"}},
        _look(f"{_V2}payout_intents/pyi_1", PAYOUT_INTENT | {"status": "pending"}),
        PAYOUT_INTENT | {"status": "pending", "amount": {"value": 1200, "currency": "usd"}},
        1200 * CENT,
    ),
    Case(
        "v2.money_management.payout_intents.confirm",
        f"POST {_V2}payout_intents/pyi_1/confirm",
        {},
        _look(f"{_V2}payout_intents/pyi_1", PAYOUT_INTENT | {"status": "pending"}),
        PAYOUT_INTENT | {"status": "processing"},
        10**7,
    ),
    Case(
        "climate.orders.create",
        "POST /v1/climate/orders",
        {"metric_tons": "1.5", "currency": "usd", "product": "climsku_1"},
        _look(
            "/v1/climate/products/climsku_1",
            {
                "id": "climsku_1",
                "object": "climate.product",
                "current_prices_per_metric_ton": {"usd": {"amount_total": 56_650}},
            },
        ),
        _thing("climate.order", amount_total=84_975, status="open"),
        84_975 * CENT,
    ),
)

_CREDITED = (
    Case(
        "customers.balance_transactions.create",
        "POST /v1/customers/cus_1/balance_transactions",
        {"amount": -500, "currency": "usd"},
        (),
        _thing("customer_balance_transaction", amount=-500),
        500 * CENT,
    ),
    Case(
        "customers.create",
        "POST /v1/customers",
        {"balance": -500},
        _look("/v1/account", {"id": "acct_1", "object": "account", "default_currency": "usd"}),
        CUSTOMER | {"balance": -500},
        500 * CENT,
    ),
    Case(
        "customers.update",
        "POST /v1/customers/cus_1",
        {"balance": -500},
        _look("/v1/customers/cus_1", CUSTOMER),
        CUSTOMER | {"balance": -500},
        500 * CENT,
    ),
    Case(
        "billing.credit_grants.create",
        "POST /v1/billing/credit_grants",
        {"amount": {"type": "monetary", "monetary": {"value": 1000, "currency": "usd"}}},
        (),
        _thing("billing.credit_grant", amount={"monetary": {"value": 1000, "currency": "usd"}}),
        10**7,
    ),
)

_INVOICED = (
    Case("invoices.pay", f"POST {_IN}/pay", {}, _look(_IN, INVOICE), INVOICE_PAID, 10**7),
    Case("invoices.finalize", f"POST {_IN}/finalize", {}, _look(_IN, INVOICE), INVOICE, 10**7),
    Case(
        "invoices.update",
        f"POST {_IN}",
        {"auto_advance": True},
        _look(_IN, INVOICE | {"status": "draft"}),
        INVOICE | {"status": "draft", "auto_advance": True},
        10**7,
    ),
    Case(
        "invoices.create",
        "POST /v1/invoices",
        {"customer": "cus_1", "auto_advance": True},
        (
            *_list("/v1/invoiceitems", {"amount": 1200, **USD}, {"amount": -200, **USD}),
            *_look("/v1/customers/cus_1", CUSTOMER),
        ),
        INVOICE | {"status": "draft", "auto_advance": True},
        10**7,
    ),
    Case(
        "invoices.add_lines",
        f"POST {_IN}/add_lines",
        {"lines": [{"amount": 200, **USD}]},
        _look(_IN, DRAFT),
        DRAFT,
        1200 * CENT,
        position="in_1",
    ),
    Case(
        "invoices.update_lines",
        f"POST {_IN}/update_lines",
        {"lines": [{"id": "il_1", "amount": 700}]},
        _look(_IN, DRAFT | _lines({"id": "il_1", "amount": 400, "quantity": 1})),
        DRAFT | {"amount_due": 1300, "total": 1300},
        1300 * CENT,
        position="in_1",
    ),
    Case(
        "invoices.remove_lines",
        f"POST {_IN}/remove_lines",
        {"lines": [{"id": "il_1", "behavior": "delete"}]},
        (
            *_look(_IN, DRAFT | _lines()),
            *_list(f"{_IN}/lines", {"id": "il_1", "amount": -300}),
        ),
        DRAFT | {"amount_due": 1300, "total": 1300},
        1300 * CENT,
        position="in_1",
    ),
    Case(
        "invoices.lines.update",
        f"POST {_IN}/lines/il_1",
        {"quantity": 5},
        _look(_IN, DRAFT | _lines({"id": "il_1", "amount": 400, "quantity": 2})),
        {"id": "il_1", "object": "line_item", "amount": 1000},
        1600 * CENT,
        position="in_1",
    ),
    Case(
        "invoiceitems.create",
        "POST /v1/invoiceitems",
        {"customer": "cus_1", "amount": 500, **USD},
        _list("/v1/subscriptions", {"id": "sub_1", "customer": "cus_1", "status": "active"}),
        ITEM,
        500 * CENT,
        position="ii_1",
    ),
    Case(
        "invoiceitems.update",
        "POST /v1/invoiceitems/ii_1",
        {"amount": 900},
        (*_look("/v1/invoiceitems/ii_1", ITEM | {"invoice": "in_1"}), *_look(_IN, DRAFT)),
        ITEM | {"invoice": "in_1", "amount": 900},
        1400 * CENT,
        position="in_1",
    ),
    Case(
        "invoiceitems.delete",
        "DELETE /v1/invoiceitems/ii_1",
        {},
        (
            *_look("/v1/invoiceitems/ii_1", ITEM | {"invoice": "in_1", "amount": -500}),
            *_look(_IN, DRAFT),
        ),
        {"id": "ii_1", "object": "invoiceitem", "deleted": True},
        1500 * CENT,
        position="in_1",
    ),
    Case(
        "credit_notes.void",
        "POST /v1/credit_notes/cn_1/void",
        {},
        (
            *_look("/v1/credit_notes/cn_1", _thing("credit_note", total=300, invoice="in_1")),
            *_look(_IN, INVOICE),
        ),
        _thing("credit_note", total=300, status="void"),
        1300 * CENT,
        position="in_1",
    ),
    Case("quotes.accept", "POST /v1/quotes/qt_1/accept", {}, _look("/v1/quotes/qt_1", QUOTE),
         QUOTE | {"status": "accepted", "invoice": "in_1"}, 10**7, position="in_1"),
)  # fmt: skip

_SUBSCRIBED = (
    Case(
        "subscriptions.create",
        "POST /v1/subscriptions",
        {"customer": "cus_1", "items": [{"price": "price_1", "quantity": 3}]},
        _PRICED,
        SUBSCRIPTION | {"latest_invoice": "in_1"},
        6000 * CENT,
        position="in_1",
    ),
    Case(
        "subscription_schedules.create",
        "POST /v1/subscription_schedules",
        {"customer": "cus_1", "phases": [{"items": [{"price": "price_1"}]}]},
        _PRICED,
        {"id": "sub_sched_1", "object": "subscription_schedule"},
        2000 * CENT,
    ),
    Case(
        "subscriptions.update",
        "POST /v1/subscriptions/sub_1",
        {"items": [{"id": "si_1", "quantity": 4}], "proration_behavior": "always_invoice"},
        (*_look("/v1/subscriptions/sub_1", SUBSCRIPTION), *_PREVIEWED),
        SUBSCRIPTION,
        1500 * CENT,
    ),
    Case(
        "subscriptions.resume",
        "POST /v1/subscriptions/sub_1/resume",
        {},
        _PREVIEWED,
        SUBSCRIPTION,
        1500 * CENT,
    ),
    Case(
        "subscriptions.cancel",
        "DELETE /v1/subscriptions/sub_1",
        {"invoice_now": True},
        _PREVIEWED,
        SUBSCRIPTION | {"status": "canceled"},
        1500 * CENT,
    ),
    Case(
        "subscription_items.create",
        "POST /v1/subscription_items",
        {"subscription": "sub_1", "price": "price_1"},
        _PREVIEWED,
        {"id": "si_1", "object": "subscription_item"},
        1500 * CENT,
    ),
    Case(
        "subscription_items.update",
        "POST /v1/subscription_items/si_1",
        {"quantity": 5},
        (
            (
                "GET /v1/subscription_items/si_1",
                {"id": "si_1", "object": "subscription_item", "subscription": "sub_1"},
            ),
            *_PREVIEWED,
        ),
        {"id": "si_1", "object": "subscription_item"},
        1500 * CENT,
    ),
    Case(
        "subscription_items.delete",
        "DELETE /v1/subscription_items/si_1",
        {"proration_behavior": "always_invoice"},
        (
            (
                "GET /v1/subscription_items/si_1",
                {"id": "si_1", "object": "subscription_item", "subscription": "sub_1"},
            ),
            *_PREVIEWED,
        ),
        {"id": "si_1", "object": "subscription_item", "deleted": True},
        1500 * CENT,
    ),
    Case(
        "subscription_schedules.cancel",
        "POST /v1/subscription_schedules/sub_sched_1/cancel",
        {},
        (
            (
                "GET /v1/subscription_schedules/sub_sched_1",
                {"id": "sub_sched_1", "object": "subscription_schedule", "subscription": "sub_1"},
            ),
            *_PREVIEWED,
        ),
        {"id": "sub_sched_1", "object": "subscription_schedule", "status": "canceled"},
        1500 * CENT,
    ),
    Case(
        "subscription_schedules.update",
        "POST /v1/subscription_schedules/sub_sched_1",
        {"phases": [{"items": [{"price": "price_1"}]}]},
        _PREVIEWED,
        {"id": "sub_sched_1", "object": "subscription_schedule"},
        1500 * CENT,
    ),
)

COUNTED = (*_INTENTS, *_TAKEN, *_NEW, *_CREDITED, *_INVOICED, *_SUBSCRIBED)
"""Every endpoint whose call moves an amount, by itself."""
