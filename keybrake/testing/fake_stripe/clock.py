"""Advance the fake's time: collect the invoices that Stripe would collect by itself."""

from collections.abc import Iterator

from keybrake.testing.fake_stripe import invoices, prices, subscriptions
from keybrake.testing.fake_stripe.store import Object, Store
from keybrake.testing.fake_stripe.totals import waiting
from keybrake.testing.journal import Move


def advance(store: Store) -> Iterator[tuple[Object, Move]]:
    """
    Let an hour and a billing period pass; yield each collected invoice and its move.

    Drafts with ``auto_advance`` are finalized and charged. A subscription charges its first period
    when its trial ends, and the pending items of its customer. Ordinary renewals are left out,
    because no guarded call caused them.
    """
    for invoice in reversed(store.all("invoice")):
        if invoice.get("status") == "draft" and invoice["auto_advance"]:
            yield from _collected(store, invoice)
    for subscription in reversed(store.all("subscription")):
        yield from _period(store, subscription)


def _collected(store: Store, invoice: Object) -> Iterator[tuple[Object, Move]]:
    invoices.end_draft(store, invoice)
    if invoice["status"] != "open" or invoice["collection_method"] == "send_invoice":
        return
    move = invoices.collect(store, invoice, invoices.GOOD_CARD).move
    if move is not None:
        yield invoice, move


def _period(store: Store, subscription: Object) -> Iterator[tuple[Object, Move]]:
    first = subscription["status"] == "trialing"
    customer = store.known("customer", subscription["customer"]) or {}
    due = waiting(store, subscription["customer"]) or customer.get("balance", 0) > 0
    if subscription["status"] not in ("active", "trialing") or not (first or due):
        return
    subscription["status"] = "active"
    amount = prices.total(subscription["items"]["data"]) if first else 0
    move = subscriptions.charged(store, subscription, {}, amount).move
    if move is not None:
        yield store.find("invoice", subscription["latest_invoice"]), move
