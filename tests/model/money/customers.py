"""Customers of the stub: their balance, their discount, and the items that wait for an invoice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.model.money.routes import readable, route
from tests.model.money.world import Declined, Object, World, amount, entries, whole

Form = Mapping[str, Any]


@route("coupons.create", "POST", "/v1/coupons")
def create_coupon(world: World, form: Form) -> Object:
    """Make a coupon that takes an amount, or a part, off."""
    off = {"amount_off": None, "percent_off": None}
    off |= {name: whole(form[name]) for name in off if name in form}
    return world.new("co", "coupon", currency="usd", valid=True, duration="forever", **off)


@route("tax_rates.create", "POST", "/v1/tax_rates")
def create_tax_rate(world: World, form: Form) -> Object:
    """Make a tax that comes on top of a price."""
    percent = whole(form["percentage"])
    return world.new("txr", "tax_rate", percentage=percent, inclusive=False, active=True)


@route("customers.create", "POST", "/v1/customers")
def create_customer(world: World, form: Form) -> Object:
    """Make a customer; a balance below zero is money that is given away."""
    balance = whole(form.get("balance"))
    customer = world.new("cus", "customer", balance=balance, currency="usd", discount=None)
    customer["default_currency"] = "usd"
    if form.get("coupon"):
        customer["discount"] = discount_of(world, form["coupon"])
    world.move("credit", customer["id"], max(0, -balance))
    return customer


def discount_of(world: World, coupon: Any) -> Object:
    """Return a coupon that is redeemed."""
    found = world.get(coupon, "coupon")
    return world.new("di", "discount", coupon=found, source={"type": "coupon", "coupon": coupon})


@route("customers.update", "POST", "/v1/customers/{}")
def update_customer(world: World, form: Form, customer_id: str) -> Object:
    """Set the balance; what it is lowered by is given away."""
    customer = world.get(customer_id, "customer")
    if "balance" in form:
        _set_balance(world, customer, whole(form["balance"]))
    return customer


def _set_balance(world: World, customer: Object, balance: int) -> None:
    given = customer["balance"] - balance
    customer["balance"] = balance
    entry = world.new(
        "cbtxn",
        "customer_balance_transaction",
        amount=-given,
        currency="usd",
        customer=customer["id"],
        ending_balance=balance,
    )
    world.move("credit", entry["id"], max(0, given))


@route("customers.balance_transactions.create", "POST", "/v1/customers/{}/balance_transactions")
def create_balance_transaction(world: World, form: Form, customer_id: str) -> Object:
    """Add to the balance: above zero the customer owes it with the next invoice."""
    customer = world.get(customer_id, "customer")
    _set_balance(world, customer, customer["balance"] + whole(form["amount"]))
    return world.all("customer_balance_transaction", customer=customer_id)[-1]


@route("customers.delete_discount", "DELETE", "/v1/customers/{}/discount")
def delete_discount(world: World, form: Form, customer_id: str) -> Object:
    """Take a customer's discount away, from each draft too."""
    del form
    customer = world.get(customer_id, "customer")
    if customer["discount"] is None:
        raise Declined(404, "No active discount for customer")
    gone = customer["discount"]
    customer["discount"] = None
    return {"id": gone["id"], "object": "discount", "deleted": True}


@route("invoice_items.create", "POST", "/v1/invoiceitems")
def create_item(world: World, form: Form) -> Object:
    """Add an item to a draft, or let it wait for the customer's next invoice."""
    invoice = form.get("invoice")
    customer = form.get("customer")
    if invoice:
        customer = editable(world, invoice)["customer"]
    world.get(customer, "customer")
    item = new_item(world, str(customer), invoice)
    _set_price(world, item, form)
    item["tax_rates"] = tax_rates(world, form)
    return item


def new_item(
    world: World, customer: str, invoice: str | None, unit: int = 0, by: int = 1
) -> Object:
    """Make an invoice item that is worth a unit amount times a quantity."""
    return world.new(
        "ii",
        "invoiceitem",
        customer=customer,
        invoice=invoice,
        currency="usd",
        discountable=True,
        discounts=[],
        amount=unit * by,
        quantity=by,
        pricing={"unit_amount_decimal": str(unit)},
        proration=False,
        parent=None,
        tax_rates=[],
    )


def editable(world: World, invoice_id: Any) -> Object:
    """Return an invoice that is still a draft."""
    invoice = world.get(invoice_id, "invoice")
    if invoice["status"] != "draft":
        raise Declined(400, f"{invoice_id} is {invoice['status']}, and can no longer be edited")
    return invoice


def _set_price(world: World, item: Object, form: Form) -> None:
    """Give an item the amount, or the unit amount and quantity, that a form names."""
    data = form.get("price_data") or {}
    if named := (form.get("pricing") or {}).get("price"):
        data = world.get(named, "price")
    unit = form.get("unit_amount_decimal", data.get("unit_amount_decimal", data.get("unit_amount")))
    if "amount" in form:
        unit, by = form["amount"], 1
    else:
        by = whole(form.get("quantity"), item["quantity"])
    price = whole(unit, whole(item["pricing"]["unit_amount_decimal"]))
    item.update(quantity=by, amount=price * by, pricing={"unit_amount_decimal": str(price)})


def change_item(world: World, item: Object, form: Form) -> None:
    """Change an item, while its invoice is a draft or it waits for one."""
    if item["invoice"]:
        editable(world, item["invoice"])
    _set_price(world, item, form)
    if "tax_rates" in form:
        item["tax_rates"] = tax_rates(world, form)


def tax_rates(world: World, form: Form, name: str = "tax_rates") -> list[Object]:
    """Return the taxes that a form names."""
    return [world.get(rate, "tax_rate") for rate in entries(form.get(name))]


@route("invoice_items.update", "POST", "/v1/invoiceitems/{}")
def update_item(world: World, form: Form, item_id: str) -> Object:
    """Change amount, quantity or taxes of an item."""
    item = world.get(item_id, "invoiceitem")
    change_item(world, item, form)
    return item


@route("invoice_items.delete", "DELETE", "/v1/invoiceitems/{}")
def delete_item(world: World, form: Form, item_id: str) -> Object:
    """Take an item away; one below zero made its invoice cheaper."""
    del form
    item = world.get(item_id, "invoiceitem")
    if item["invoice"]:
        editable(world, item["invoice"])
    del world.objects[item_id]
    return {"id": item_id, "object": "invoiceitem", "deleted": True}


def waiting(world: World, customer: str) -> list[Object]:
    """Return the items of a customer that wait for an invoice."""
    return world.all("invoiceitem", customer=customer, invoice=None)


@route("prices.create", "POST", "/v1/prices")
def create_price(world: World, form: Form) -> Object:
    """Make a price, monthly or for once."""
    unit = amount(form, "unit_amount")
    recurring = {"interval": "month", "interval_count": 1, "usage_type": "licensed"}
    return world.new(
        "price",
        "price",
        active=True,
        billing_scheme="per_unit",
        currency="usd",
        unit_amount=unit,
        unit_amount_decimal=str(unit),
        recurring=recurring if form.get("recurring") else None,
        type="recurring" if form.get("recurring") else "one_time",
        transform_quantity=None,
        tiers_mode=None,
    )


def _as_it_is(world: World, made: Object) -> Object:
    del world
    return made


readable("customers", "/v1/customers", "customer", _as_it_is)
readable("coupons", "/v1/coupons", "coupon", _as_it_is)
readable("tax_rates", "/v1/tax_rates", "tax_rate", _as_it_is)
readable("invoice_items", "/v1/invoiceitems", "invoiceitem", _as_it_is)
readable("prices", "/v1/prices", "price", _as_it_is)
