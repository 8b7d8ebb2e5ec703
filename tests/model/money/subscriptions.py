"""Subscriptions and quotes of the stub, and the hour that passes after the last request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.model.money.customers import create_price, new_item, tax_rates, waiting
from tests.model.money.invoices import advance, discount_of, new_invoice, shown, sum_of
from tests.model.money.payments import confirm_what_is_open
from tests.model.money.routes import readable, route
from tests.model.money.world import Declined, Object, World, entries, flag, whole

Form = Mapping[str, Any]


@route("subscriptions.create", "POST", "/v1/subscriptions")
def create_subscription(world: World, form: Form) -> Object:
    """Begin a subscription: its first period and the items that wait are charged at once."""
    customer = world.get(form.get("customer"), "customer")
    rows = [_row(world, row) for row in entries(form.get("items"))]
    subscription = world.new("sub", "subscription", customer=customer["id"], status="active")
    subscription.update(currency="usd", collection_method="charge_automatically", _rows=rows)
    for row in rows:
        row["id"] = f"si_{subscription['id'][4:]}" if row is rows[0] else world.new("si", "x")["id"]
    added = [_row(world, row) for row in entries(form.get("add_invoice_items"))]
    bill = [(_unit(row), row["quantity"]) for row in rows + added]
    taxes = tax_rates(world, form, "default_tax_rates")
    subscription["latest_invoice"] = _bill(world, customer["id"], bill, "create", taxes)
    if "latest_invoice" in entries(form.get("expand")):
        latest = world.objects[subscription["latest_invoice"]]
        return {**subscribed(world, subscription), "latest_invoice": shown(world, latest)}
    return subscribed(world, subscription)


def _row(world: World, row: Form) -> Object:
    data = row.get("price_data")
    price = create_price(world, data) if data else world.get(row.get("price"), "price")
    return {"price": price, "quantity": whole(row.get("quantity"), 1)}


def _unit(row: Object) -> int:
    return row["price"]["unit_amount"]


def _bill(
    world: World, customer: str, bill: list[tuple[int, int]], why: str, taxes: Iterable[Object] = ()
) -> str:
    """Charge an invoice of a subscription; the items that wait go along."""
    reason = f"subscription_{why}"
    invoice = new_invoice(world, customer, automatic=True, reason=reason)
    invoice["default_tax_rates"] = list(taxes)
    for item in waiting(world, customer):
        item["invoice"] = invoice["id"]
    for unit, quantity in bill:
        new_item(world, customer, invoice["id"], unit, quantity)
    advance(world, invoice)
    return invoice["id"]


def subscribed(world: World, subscription: Object) -> Object:
    """Return a subscription as an answer shows it."""
    del world
    rows = [_subscription_item(subscription, row) for row in subscription["_rows"]]
    items = {"object": "list", "data": rows, "has_more": False, "url": "/v1/subscription_items"}
    return {**subscription, "items": items}


def _subscription_item(subscription: Object, row: Object) -> Object:
    kept = {"id": row["id"], "object": "subscription_item", "quantity": row["quantity"]}
    return {**kept, "price": row["price"], "subscription": subscription["id"]}


@route("subscriptions.update", "POST", "/v1/subscriptions/{}")
def update_subscription(world: World, form: Form, subscription_id: str) -> Object:
    """Change the items of a subscription, and bill the difference as the request says."""
    subscription = _active(world, subscription_id)
    _change(world, subscription, entries(form.get("items")), form)
    return subscribed(world, subscription)


def _active(world: World, subscription_id: Any) -> Object:
    subscription = world.get(subscription_id, "subscription")
    if subscription["status"] != "active":
        raise Declined(400, f"{subscription_id} is {subscription['status']}")
    return subscription


def _change(world: World, subscription: Object, rows: list[Any], form: Form) -> None:
    """Make the change; the proration waits for the next invoice, or is charged at once."""
    before = _period(subscription["_rows"])
    subscription["_rows"] = _changed(world, subscription["_rows"], rows)
    behavior = form.get("proration_behavior", "create_prorations")
    grown = _period(subscription["_rows"]) - before
    if behavior == "none" or not grown:
        return
    if grown < 0:
        raise Declined(400, "The stub bills no subscription that becomes cheaper")
    if behavior == "always_invoice":
        bill = [(grown, 1)]
        subscription["latest_invoice"] = _bill(world, subscription["customer"], bill, "update")
    else:
        new_item(world, subscription["customer"], None, grown)["proration"] = True


def _period(rows: list[Object]) -> int:
    return sum(_unit(row) * row["quantity"] for row in rows)


def _changed(world: World, rows: list[Object], asked: list[Any]) -> list[Object]:
    """Return rows as they are after a change: rows with an id change, the others are added."""
    changed = [dict(row) for row in rows]
    for one in asked:
        found = next((row for row in changed if row["id"] == one.get("id")), None)
        if one.get("id") and found is None:
            raise Declined(404, f"No such subscription item: '{one['id']}'")
        if found is None:
            changed.append({**_row(world, one), "id": world.new("si", "row")["id"]})
            continue
        found["quantity"] = whole(one.get("quantity"), found["quantity"])
        if one.get("price") or one.get("price_data"):
            found["price"] = _row(world, one)["price"]
    return changed


@route("subscription_items.create", "POST", "/v1/subscription_items")
def create_subscription_item(world: World, form: Form) -> Object:
    """Add an item to a subscription."""
    subscription = _active(world, form.get("subscription"))
    row = {name: form[name] for name in ("price", "price_data", "quantity") if name in form}
    _change(world, subscription, [row], form)
    return _subscription_item(subscription, subscription["_rows"][-1])


@route("subscription_items.update", "POST", "/v1/subscription_items/{}")
def update_subscription_item(world: World, form: Form, item_id: str) -> Object:
    """Change one item of a subscription."""
    subscription, _ = _found(world, item_id)
    _active(world, subscription["id"])
    row = {name: form[name] for name in ("price", "price_data", "quantity") if name in form}
    _change(world, subscription, [{**row, "id": item_id}], form)
    return retrieve_subscription_item(world, {}, item_id)


@route("subscription_items.retrieve", "GET", "/v1/subscription_items/{}")
def retrieve_subscription_item(world: World, form: Form, item_id: str) -> Object:
    """Show one item of a subscription."""
    del form
    return _subscription_item(*_found(world, item_id))


def _found(world: World, item_id: str) -> tuple[Object, Object]:
    for subscription in world.all("subscription"):
        for row in subscription["_rows"]:
            if row["id"] == item_id:
                return subscription, row
    raise Declined(404, f"No such subscription item: '{item_id}'")


@route("subscriptions.cancel", "DELETE", "/v1/subscriptions/{}")
def cancel_subscription(world: World, form: Form, subscription_id: str) -> Object:
    """End a subscription; with ``invoice_now`` the items that wait are charged."""
    subscription = _active(world, subscription_id)
    subscription["status"] = "canceled"
    if flag(form.get("invoice_now")):
        subscription["latest_invoice"] = _bill(world, subscription["customer"], [], "cancel")
    return subscribed(world, subscription)


@route("invoices.create_preview", "POST", "/v1/invoices/create_preview")
def create_preview(world: World, form: Form) -> Object:
    """Show what the next invoice would come to, and change nothing."""
    tried = world.copy()
    details = form.get("subscription_details") or {}
    bill, customer = _previewed(tried, form, details)
    invoice = new_invoice(tried, customer, automatic=True, reason="upcoming")
    taxes = {**form, **details}
    invoice["default_tax_rates"] = tax_rates(tried, taxes, "default_tax_rates")
    if "discounts" in form:
        named = entries(form["discounts"])
        invoice["discounts"] = [discount_of(tried, one.get("coupon")) for one in named]
    for item in waiting(tried, customer):
        item["invoice"] = invoice["id"]
    for unit, quantity in bill:
        new_item(tried, customer, invoice["id"], unit, quantity)
    return {**shown(tried, invoice), "id": "upcoming_in_1"}


def _previewed(
    world: World, form: Form, details: Mapping[str, Any]
) -> tuple[list[tuple[int, int]], str]:
    rows = entries(details.get("items"))
    added = [_row(world, row) for row in entries(form.get("invoice_items"))]
    bill = [(_unit(row), row["quantity"]) for row in added]
    if not form.get("subscription"):
        fresh = [_row(world, row) for row in rows]
        bill += [(_unit(row), row["quantity"]) for row in fresh]
        return bill, world.get(form.get("customer"), "customer")["id"]
    subscription = _active(world, form["subscription"])
    changed = _changed(world, subscription["_rows"], rows)
    grown = _period(changed) - _period(subscription["_rows"])
    behavior = details.get("proration_behavior", "create_prorations")
    if behavior != "none":
        bill.append((grown, 1))
    # Without an invoice at once, the next one is that of the whole next period.
    if behavior != "always_invoice" and not flag(details.get("cancel_now")):
        bill.append((_period(changed), 1))
    return bill, subscription["customer"]


@route("quotes.create", "POST", "/v1/quotes")
def create_quote(world: World, form: Form) -> Object:
    """Make a draft of an offer."""
    customer = world.get(form.get("customer"), "customer")["id"]
    quote = world.new(
        "qt", "quote", customer=customer, status="draft", currency="usd", invoice=None
    )
    quote.update(collection_method="charge_automatically", subscription=None, _taxes=[], _rows=[])
    return update_quote(world, form, quote["id"])


@route("quotes.update", "POST", "/v1/quotes/{}")
def update_quote(world: World, form: Form, quote_id: str) -> Object:
    """Change a draft."""
    quote = _quote(world, quote_id, "draft")
    if "line_items" in form:
        quote["_rows"] = [_row(world, row) for row in entries(form["line_items"])]
    if "default_tax_rates" in form:
        quote["_taxes"] = tax_rates(world, form, "default_tax_rates")
    return quoted(world, quote)


def _quote(world: World, quote_id: str, status: str) -> Object:
    quote = world.get(quote_id, "quote")
    if quote["status"] != status:
        raise Declined(400, f"{quote_id} is {quote['status']}")
    return quote


def quoted(world: World, quote: Object) -> Object:
    """Return a quote as an answer shows it."""
    del world
    lines = [{"amount": _unit(row) * row["quantity"]} for row in quote["_rows"]]
    added = sum_of(lines, [], quote["_taxes"])
    upfront = {"amount_subtotal": added.subtotal, "amount_total": added.total}
    return {**quote, **upfront, "computed": {"upfront": upfront, "recurring": None}}


@route("quotes.finalize_quote", "POST", "/v1/quotes/{}/finalize")
def finalize_quote(world: World, form: Form, quote_id: str) -> Object:
    """Fix an offer, so that it can be accepted."""
    del form
    quote = _quote(world, quote_id, "draft")
    quote["status"] = "open"
    return quoted(world, quote)


@route("quotes.accept", "POST", "/v1/quotes/{}/accept")
def accept_quote(world: World, form: Form, quote_id: str) -> Object:
    """Accept an offer: it becomes an invoice that advances by itself, or a subscription."""
    del form
    quote = _quote(world, quote_id, "open")
    quote["status"] = "accepted"
    rows = quote["_rows"]
    if any(row["price"]["recurring"] for row in rows):
        items = [{"price": row["price"]["id"], "quantity": row["quantity"]} for row in rows]
        begun = {"customer": quote["customer"], "items": items}
        quote["subscription"] = create_subscription(world, begun)["id"]
        quote["invoice"] = world.objects[quote["subscription"]]["latest_invoice"]
        return quoted(world, quote)
    invoice = new_invoice(world, quote["customer"], automatic=True, reason="quote_accept")
    invoice["default_tax_rates"] = quote["_taxes"]
    for row in rows:
        new_item(world, quote["customer"], invoice["id"], _unit(row), row["quantity"])
    quote["invoice"] = invoice["id"]
    return quoted(world, quote)


def pass_an_hour(world: World) -> None:
    """Do what Stripe and customers do without a further request of the agent's."""
    world.by_itself = True
    for invoice in world.all("invoice"):
        advance(world, invoice)
    confirm_what_is_open(world)
    for subscription in world.all("subscription", status="active"):
        _sweep(world, subscription)


def _sweep(world: World, subscription: Object) -> None:
    """
    Charge what the next invoice of a subscription comes to beyond its own period.

    The period itself is a renewal, which is outside of every run.
    """
    customer = world.objects[subscription["customer"]]
    items = waiting(world, customer["id"])
    period = [{"amount": _period(subscription["_rows"])}]
    discounts = [customer["discount"]] if customer["discount"] else []
    alone = max(0, sum_of(period, discounts, []).total)
    due = sum_of(period + items, discounts, []).total + customer["balance"]
    for item in items:
        item["invoice"] = f"{customer['id']} later"
    owed = min(max(0, due - alone), max(0, customer["balance"]))
    customer["balance"] = min(0, customer["balance"])
    world.move("charge", f"{customer['id']} balance", owed)
    world.move("charge", f"{customer['id']} later", max(0, due - alone) - owed)


readable("subscriptions", "/v1/subscriptions", "subscription", subscribed)
readable("quotes", "/v1/quotes", "quote", quoted)
