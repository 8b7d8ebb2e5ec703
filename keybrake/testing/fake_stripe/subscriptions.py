"""Serve the subscription endpoints; the invoice of each period is charged at once."""

from typing import Final

from keybrake.testing.fake_stripe import invoices, prices
from keybrake.testing.fake_stripe.errors import StripeFailure, missing
from keybrake.testing.fake_stripe.objects import blank, new
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import Params, choice, integer, metadata, subset
from keybrake.testing.fake_stripe.store import Object, Store
from keybrake.testing.fake_stripe.totals import bill, settle_balance, waiting

_GOOD_CARD: Final = "pm_card_visa"
_PRORATIONS: Final = ("create_prorations", "always_invoice", "none")


def create(store: Store, params: Params) -> Outcome:
    """Create a subscription and charge its first period, unless it starts with a trial."""
    if store.refer("customer", params) is None:
        raise missing(param="customer")
    lines = prices.lines_of(store, params, "items")
    if not lines:
        raise missing(param="items")
    subscription = store.add(_new_subscription(store, params, lines))
    for line in lines:
        subscription["items"]["data"].append(_item(store, subscription, line))
    if integer(params, "trial_period_days"):
        subscription["status"] = "trialing"
        return Outcome(subscription)
    return charged(store, subscription, params, prices.total(lines))


def _new_subscription(store: Store, params: Params, lines: list[Object]) -> Object:
    subscription_id = store.new_id("sub")
    return new(
        "subscription",
        subscription_id,
        params,
        cancel_at_period_end=False,
        collection_method=params.get("collection_method", "charge_automatically"),
        currency=prices.currency_of(lines, params),
        customer=params["customer"],
        items={"object": "list", "data": [], "has_more": False, "url": "/v1/subscription_items"},
        automatic_tax={"enabled": False},
        discount=None,
        status="active",
        **blank("canceled_at", "default_payment_method", "latest_invoice", "schedule"),
    )


def _item(store: Store, subscription: Object, line: Object) -> Object:
    return store.add(
        new(
            "subscription_item",
            store.new_id("si", 14),
            {},
            price=line["price"],
            quantity=line["quantity"],
            subscription=subscription["id"],
        )
    )


def charged(store: Store, subscription: Object, params: Params, amount: int) -> Outcome:
    """Invoice *amount* and the customer's pending items, and charge the total at once."""
    invoice = invoices.add(store, {"customer": subscription["customer"]})
    invoice |= {"subscription": subscription["id"], "currency": subscription["currency"]}
    invoice["billing_reason"] = "subscription_cycle"
    items = waiting(store, subscription["customer"])
    for item in items:
        item["invoice"] = invoice["id"]
    bill(store, invoice, amount + sum(item["amount"] for item in items))
    settle_balance(store, invoice)
    invoice["status"] = "open" if invoice["amount_due"] else "paid"
    subscription["latest_invoice"] = invoice["id"]
    if subscription["collection_method"] == "send_invoice" or not invoice["amount_due"]:
        return Outcome(subscription)
    token = str(params.get("default_payment_method") or _GOOD_CARD)
    return Outcome(subscription, invoices.collect(store, invoice, token).move)


def update(store: Store, params: Params, subscription_id: str) -> Outcome:
    """Update quantities and prices; with always_invoice, charge the difference now."""
    subscription = store.find("subscription", subscription_id)
    before = prices.total(subscription["items"]["data"])
    subscription["metadata"] = metadata(params, subscription["metadata"])
    subscription["collection_method"] = choice(
        params, "collection_method", invoices.METHODS, subscription["collection_method"]
    )
    _apply(store, subscription, params)
    more = prices.total(subscription["items"]["data"]) - before
    behavior = choice(params, "proration_behavior", _PRORATIONS, _PRORATIONS[0])
    # Nothing is prorated in a trial: when it ends, the first period is charged in full.
    if more > 0 and behavior == "always_invoice" and subscription["status"] != "trialing":
        return charged(store, subscription, params, more)
    return Outcome(subscription)


def _apply(store: Store, subscription: Object, params: Params) -> None:
    for row in params.get("items") or ():
        if row.get("id"):
            item = store.find("subscription_item", row["id"])
            item["quantity"] = prices.quantity_of(row, item["quantity"])
            item["price"] = store.refer("price", row) or item["price"]
        else:
            line = prices.line_of(store, row)
            subscription["items"]["data"].append(_item(store, subscription, line))


def create_item(store: Store, params: Params) -> Outcome:
    """Create an item of a subscription."""
    before = store.refer("subscription", params)
    if before is None:
        raise missing(param="subscription")
    row = {name: params[name] for name in ("price", "price_data", "quantity") if name in params}
    outcome = update(store, {**_proration(params), "items": [row]}, before["id"])
    return Outcome(before["items"]["data"][-1], outcome.move)


def _proration(params: Params) -> Params:
    return {name: params[name] for name in ("proration_behavior",) if name in params}


def update_item(store: Store, params: Params, item_id: str) -> Outcome:
    """Update an item of a subscription."""
    item = store.find("subscription_item", item_id)
    row = {name: params[name] for name in ("price", "quantity") if name in params}
    asked = {**_proration(params), "items": [{**row, "id": item_id}]}
    return Outcome(item, update(store, asked, item["subscription"]).move)


def cancel(store: Store, params: Params, subscription_id: str) -> Outcome:
    """Cancel a subscription at once."""
    del params
    subscription = store.find("subscription", subscription_id)
    if subscription["status"] == "canceled":
        raise StripeFailure(message="The subscription has been canceled already.", status=404)
    subscription["status"] = "canceled"
    return Outcome(subscription)


def preview(store: Store, params: Params) -> Outcome:
    """Return the invoice that a new or changed subscription would get; change nothing."""
    details = subset(params, "subscription_details")
    subscription = store.refer("subscription", params)
    before, lines, customer = 0, {}, params.get("customer")
    if subscription is not None:
        customer = subscription["customer"]
        lines = {item["id"]: dict(item) for item in subscription["items"]["data"]}
        before = prices.total(lines.values())
    for number, row in enumerate(details.get("items") or ()):
        known = lines.get(row.get("id"))
        if known is None:
            lines[str(number)] = prices.line_of(store, row)
            continue
        known["quantity"] = prices.quantity_of(row, known["quantity"])
        known["price"] = store.refer("price", row) or known["price"]
    total = prices.total(lines.values())
    if details.get("proration_behavior") == "always_invoice":
        in_trial = subscription is not None and subscription["status"] == "trialing"
        total = 0 if in_trial else total - before
    total += sum(item["amount"] for item in waiting(store, customer))
    owner = store.known("customer", customer)
    balance = owner["balance"] if owner else 0
    due = max(0, total + balance)
    currency = prices.currency_of(lines.values(), params)
    shown = {"object": "invoice", "status": "draft", "amount_due": due, "total": total}
    shown["starting_balance"] = balance
    return Outcome({**shown, "amount_remaining": due, "currency": currency, "customer": customer})
