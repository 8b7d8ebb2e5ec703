"""Compute the amount of an invoice: lines, discounts, shipping, taxes and customer balance."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from keybrake.testing.fake_stripe.store import Object, Store


def items_of(store: Store, invoice: Object) -> list[Object]:
    """Return the items on an invoice, oldest first."""
    return [item for item in reversed(store.all("invoiceitem")) if item["invoice"] == invoice["id"]]


def waiting(store: Store, customer: str | None) -> list[Object]:
    """Return the pending items of a customer: those without an invoice, oldest first."""
    return [
        item
        for item in reversed(store.all("invoiceitem"))
        if item["invoice"] is None and item["customer"] == customer
    ]


def line_id(item: Object) -> str:
    """Return the id of the invoice line that shows *item*."""
    return "il" + str(item["id"])[2:]


def recount(store: Store, invoice: Object) -> None:
    """Recompute the lines and the amount of a draft."""
    items = items_of(store, invoice)
    if items:
        invoice["currency"] = items[0]["currency"]
    invoice["lines"] = _list(f"/v1/invoices/{invoice['id']}/lines", map(_line, items))
    subtotal = sum(item["amount"] for item in items)
    off = _discounts(store, invoice, subtotal)
    taxes = _taxes(store, invoice, subtotal - sum(row["amount"] for row in off))
    shipping = (invoice.get("shipping_cost") or {}).get("amount_total", 0)
    total = subtotal - sum(row["amount"] for row in off) + sum(row["amount"] for row in taxes)
    invoice |= {"subtotal": subtotal, "total_discount_amounts": off, "total_taxes": taxes}
    bill(store, invoice, total + shipping)


def bill(store: Store, invoice: Object, total: int) -> None:
    """Set the total of an invoice, and the amount due including the customer's balance."""
    due = max(total + _balance(store, invoice), 0)
    invoice |= {"total": total, "amount_due": due}
    invoice["amount_remaining"] = due - invoice["amount_paid"]


def _balance(store: Store, invoice: Object) -> int:
    customer = store.known("customer", invoice["customer"])
    return int(customer["balance"]) if customer else 0


def settle_balance(store: Store, invoice: Object) -> None:
    """Apply the customer's balance to a finalized invoice."""
    customer = store.known("customer", invoice["customer"])
    if customer is None:
        return
    before = customer["balance"]
    customer["balance"] = min(0, before + invoice["total"])
    invoice |= {"starting_balance": before, "ending_balance": customer["balance"]}


def _line(item: Object) -> Object:
    return {
        "id": line_id(item),
        "object": "line_item",
        "amount": item["amount"],
        "currency": item["currency"],
        "description": item["description"],
        "discount_amounts": [],
        "invoice": item["invoice"],
        "parent": {
            "type": "invoice_item_details",
            "invoice_item_details": {"invoice_item": item["id"]},
        },
        "pricing": {"unit_amount_decimal": item["unit_amount_decimal"]},
        "quantity": item["quantity"],
        "taxes": [],
    }


def _discounts(store: Store, invoice: Object, subtotal: int) -> list[Object]:
    """Return the discount amounts: by the invoice's discounts, otherwise by the customer's."""
    customer = store.known("customer", invoice["customer"]) or {}
    inherited = [customer["discount"]["id"]] if customer.get("discount") else []
    left, rows = max(subtotal, 0), []
    for name in invoice.get("discounts") or inherited:
        coupon = store.find("discount", name)["coupon"]
        off = coupon["amount_off"] or int(left * Fraction(str(coupon["percent_off"] or 0)) / 100)
        rows.append({"amount": min(off, left), "discount": name})
        left -= min(off, left)
    return rows


def _taxes(store: Store, invoice: Object, taxable: int) -> list[Object]:
    rows = []
    for rate in invoice.get("default_tax_rates") or ():
        share = Fraction(str(rate["percentage"])) / 100
        rows.append({"amount": round(max(taxable, 0) * share), "tax_behavior": "exclusive"})
    del store
    return rows


def _list(url: str, rows: Iterable[Any]) -> Object:
    return {"object": "list", "data": list(rows), "has_more": False, "url": url}
