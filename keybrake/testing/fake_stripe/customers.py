"""Serve endpoints that move no money: customers, the balance, files and quotes."""

from collections import Counter
from typing import Final

from keybrake.testing.fake_stripe import objects, rates
from keybrake.testing.fake_stripe.errors import missing
from keybrake.testing.fake_stripe.objects import new
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import (
    Params,
    as_sent,
    integer,
    metadata,
    required,
    required_currency,
)
from keybrake.testing.fake_stripe.store import Object, Store

_PDF: Final = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


def create(store: Store, params: Params) -> Outcome:
    """Create a customer."""
    made = store.add(objects.customer(store, params))
    made["balance"] = integer(params, "balance") or 0
    _apply_coupon(store, made, params)
    return Outcome(made)


def _apply_coupon(store: Store, customer: Object, params: Params) -> None:
    """Apply the coupon that API versions before 2025 accept on a customer."""
    if params.get("coupon"):
        customer["discount"] = rates.discount(store, params["coupon"])


def update(store: Store, params: Params, customer_id: str) -> Outcome:
    """Update a customer."""
    customer = store.find("customer", customer_id)
    customer |= as_sent(params, objects.CUSTOMER_TEXTS)
    balance = integer(params, "balance")
    customer["balance"] = customer["balance"] if balance is None else balance
    _apply_coupon(store, customer, params)
    customer["metadata"] = metadata(params, customer["metadata"])
    return Outcome(customer)


def account(store: Store, params: Params) -> Outcome:
    """Return the account."""
    del store, params
    return Outcome({"id": "acct_fake", "object": "account", "default_currency": "usd"})


def add_balance(store: Store, params: Params, customer_id: str) -> Outcome:
    """Add an amount to a customer's balance: debt is positive, credit is negative."""
    customer = store.find("customer", customer_id)
    amount = integer(params, "amount")
    if amount is None:
        raise missing(param="amount")
    customer["balance"] += amount
    entry = new(
        "customer_balance_transaction",
        store.new_id("cbtxn"),
        params,
        amount=amount,
        currency=required_currency(params),
        customer=customer_id,
        ending_balance=customer["balance"],
        type="adjustment",
    )
    return Outcome(store.add(entry))


def delete(store: Store, params: Params, customer_id: str) -> Outcome:
    """Delete a customer; a GET of its id then shows it as deleted."""
    del params
    store.find("customer", customer_id)
    gone = {"id": customer_id, "object": "customer", "deleted": True}
    return Outcome(store.add(gone))


def balance(store: Store, params: Params) -> Outcome:
    """Return the account balance: the sum of all balance transactions by currency."""
    del params
    totals: Counter[str] = Counter(usd=0)
    for entry in store.all("balance_transaction"):
        totals[entry["currency"]] += entry["net"]
    available = [
        {"amount": amount, "currency": currency, "source_types": {"card": amount}}
        for currency, amount in sorted(totals.items())
    ]
    pending = [{**row, "amount": 0, "source_types": {"card": 0}} for row in available]
    return Outcome(
        {"object": "balance", "available": available, "livemode": False, "pending": pending}
    )


def create_file(store: Store, params: Params) -> Outcome:
    """Accept an upload."""
    required(params, "purpose")
    if not isinstance(params.get("file"), dict):
        raise missing(param="file")
    return Outcome(store.add(objects.file(store, params)))


def quote_pdf(store: Store, params: Params, quote_id: str) -> Outcome:
    """Return a quote as a PDF; all quotes share one."""
    del store, params, quote_id
    return Outcome(_PDF, content_type="application/pdf")


def events(store: Store, params: Params) -> Outcome:
    """Return an empty list of v2 events."""
    del store, params
    return Outcome({"data": [], "next_page_url": None, "previous_page_url": None})
