"""Map a method and path to the endpoint that answers it."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from keybrake.testing.fake_stripe import (
    charges,
    customers,
    events,
    intents,
    invoices,
    items,
    outflows,
    own_funds,
    prices,
    quotes,
    rates,
    sessions,
    subscriptions,
)
from keybrake.testing.fake_stripe.errors import unknown_url
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import Params
from keybrake.testing.fake_stripe.store import Store

Endpoint = Callable[..., Outcome]

_BY_CUSTOMER: Final = {"customer": "customer"}
_BY_PAYMENT: Final = {"charge": "charge", "payment_intent": "payment_intent"}


def _retrieve(kind: str, store: Store, params: Params, object_id: str) -> Outcome:
    del params
    return Outcome(store.find(kind, object_id))


def _list(kind: str, url: str, filters: Mapping[str, str], store: Store, params: Params) -> Outcome:
    return Outcome(store.page(kind, url, params, filters))


def _reads(kind: str, path: str, filters: Mapping[str, str]) -> dict[str, Endpoint]:
    return {
        f"GET {path}": partial(_list, kind, path, filters),
        f"GET {path}/*": partial(_retrieve, kind),
    }


_ROUTES: Final[Mapping[str, Endpoint]] = {
    **_reads("payment_intent", "/v1/payment_intents", _BY_CUSTOMER),
    "POST /v1/payment_intents": intents.create,
    "POST /v1/payment_intents/*": intents.update,
    "POST /v1/payment_intents/*/confirm": intents.confirm,
    "POST /v1/payment_intents/*/capture": intents.capture,
    "POST /v1/payment_intents/*/cancel": intents.cancel,
    "POST /v1/payment_intents/*/increment_authorization": intents.increment,
    **_reads("charge", "/v1/charges", _BY_CUSTOMER | {"payment_intent": "payment_intent"}),
    "POST /v1/charges": charges.create,
    "POST /v1/charges/*": charges.update,
    "POST /v1/charges/*/capture": charges.capture,
    **_reads("refund", "/v1/refunds", _BY_PAYMENT),
    "POST /v1/refunds": outflows.create_refund,
    "POST /v1/refunds/*": partial(outflows.update, "refund"),
    "POST /v1/refunds/*/cancel": outflows.cancel_refund,
    **_reads("transfer", "/v1/transfers", {"destination": "destination"}),
    "POST /v1/transfers": outflows.create_transfer,
    "POST /v1/transfers/*": partial(outflows.update, "transfer"),
    "POST /v1/transfers/*/reversals": own_funds.reverse_transfer,
    **_reads("payout", "/v1/payouts", {"status": "status"}),
    "POST /v1/payouts": outflows.create_payout,
    "POST /v1/payouts/*": partial(outflows.update, "payout"),
    "POST /v1/payouts/*/cancel": outflows.cancel_payout,
    "POST /v1/payouts/*/reverse": own_funds.reverse_payout,
    **_reads("topup", "/v1/topups", {"status": "status"}),
    "POST /v1/topups": own_funds.create_topup,
    "POST /v1/topups/*/cancel": own_funds.cancel_topup,
    **_reads("dispute", "/v1/disputes", {"charge": "charge"}),
    "POST /v1/disputes/*/close": own_funds.close_dispute,
    **_reads("price", "/v1/prices", {"product": "product"}),
    "POST /v1/prices": prices.create,
    **_reads("invoiceitem", "/v1/invoiceitems", _BY_CUSTOMER),
    "GET /v1/invoiceitems": invoices.list_items,
    "POST /v1/invoiceitems": items.create,
    "POST /v1/invoiceitems/*": items.update,
    "DELETE /v1/invoiceitems/*": items.delete,
    **_reads("invoice", "/v1/invoices", _BY_CUSTOMER | {"status": "status"}),
    "GET /v1/invoices/*": invoices.retrieve,
    "GET /v1/invoices/*/lines": items.list_lines,
    "POST /v1/invoices/*/lines/*": items.update_line,
    "POST /v1/invoices/*/add_lines": partial(items.change_lines, "add"),
    "POST /v1/invoices/*/update_lines": partial(items.change_lines, "update"),
    "POST /v1/invoices/*/remove_lines": partial(items.change_lines, "remove"),
    "POST /v1/invoices": invoices.create,
    "POST /v1/invoices/create_preview": subscriptions.preview,
    "POST /v1/invoices/*": invoices.update,
    "DELETE /v1/invoices/*": invoices.delete,
    "POST /v1/invoices/*/finalize": invoices.finalize,
    "POST /v1/invoices/*/pay": invoices.pay,
    "POST /v1/invoices/*/send": invoices.send,
    "POST /v1/invoices/*/void": partial(invoices.end, "void"),
    "POST /v1/invoices/*/mark_uncollectible": partial(invoices.end, "uncollectible"),
    **_reads("subscription", "/v1/subscriptions", _BY_CUSTOMER | {"status": "status"}),
    "POST /v1/subscriptions": subscriptions.create,
    "POST /v1/subscriptions/*": subscriptions.update,
    "DELETE /v1/subscriptions/*": subscriptions.cancel,
    "DELETE /v1/subscriptions/*/discount": partial(rates.delete_discount, "subscription"),
    "GET /v1/subscription_items/*": partial(_retrieve, "subscription_item"),
    "POST /v1/subscription_items": subscriptions.create_item,
    "POST /v1/subscription_items/*": subscriptions.update_item,
    "GET /v1/coupons/*": partial(_retrieve, "coupon"),
    "POST /v1/coupons": rates.create_coupon,
    "GET /v1/tax_rates/*": partial(_retrieve, "tax_rate"),
    "POST /v1/tax_rates": rates.create_tax_rate,
    **_reads("checkout.session", "/v1/checkout/sessions", _BY_CUSTOMER),
    "POST /v1/checkout/sessions": sessions.create,
    "POST /v1/checkout/sessions/*/expire": sessions.expire,
    **_reads("customer", "/v1/customers", {"email": "email"}),
    "POST /v1/customers": customers.create,
    "POST /v1/customers/*": customers.update,
    "DELETE /v1/customers/*": customers.delete,
    "POST /v1/customers/*/balance_transactions": customers.add_balance,
    "DELETE /v1/customers/*/discount": partial(rates.delete_discount, "customer"),
    "GET /v1/account": customers.account,
    "GET /v1/balance": customers.balance,
    "POST /v1/files": customers.create_file,
    **_reads("quote", "/v1/quotes", _BY_CUSTOMER | {"status": "status"}),
    "POST /v1/quotes": quotes.create,
    "POST /v1/quotes/*/finalize": quotes.finalize,
    "POST /v1/quotes/*/accept": quotes.accept,
    "POST /v1/quotes/*/cancel": quotes.cancel,
    "GET /v1/quotes/*/pdf": customers.quote_pdf,
    "GET /v1/events": events.listed,
    "GET /v2/core/events": customers.events,
}
_PATTERNS: Final = tuple(
    (re.compile(re.escape(route).replace(r"\*", "([^/]+)")), endpoint)
    for route, endpoint in _ROUTES.items()
)


def find(method: str, path: str) -> tuple[Endpoint, tuple[str, ...]]:
    """Return the endpoint for *method* and *path*, and the ids in the path."""
    for pattern, endpoint in _PATTERNS:
        match = pattern.fullmatch(f"{method} {path}")
        if match:
            return endpoint, match.groups()
    raise unknown_url(method, path)
