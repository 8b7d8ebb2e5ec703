"""Invoices of the stub: what they come to, and when that is collected, with or without a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.model.money.customers import (
    change_item,
    create_item,
    discount_of,
    editable,
    tax_rates,
    waiting,
)
from tests.model.money.payments import new_charge
from tests.model.money.routes import page, readable, route
from tests.model.money.world import Declined, Object, World, entries, flag, whole

Form = Mapping[str, Any]


@route("invoices.create", "POST", "/v1/invoices")
def create_invoice(world: World, form: Form) -> Object:
    """Make a draft, of the items that wait if the request says so."""
    customer = world.get(form.get("customer"), "customer")
    invoice = new_invoice(world, customer["id"], automatic=flag(form.get("auto_advance")))
    _set(world, invoice, form)
    if form.get("pending_invoice_items_behavior") == "include":
        for item in waiting(world, customer["id"]):
            item["invoice"] = invoice["id"]
    return shown(world, invoice)


def new_invoice(world: World, customer: str, *, automatic: bool, reason: str = "manual") -> Object:
    """Make an empty draft."""
    return world.new(
        "in",
        "invoice",
        customer=customer,
        currency="usd",
        status="draft",
        auto_advance=automatic,
        collection_method="charge_automatically",
        billing_reason=reason,
        amount_paid=0,
        default_tax_rates=[],
        discounts=None,  # it has the discount of its customer
        shipping_cost=None,
        post_payment_credit_notes_amount=0,
        pre_payment_credit_notes_amount=0,
        automatic_tax={"enabled": False, "status": None},
        payment_settings={},
    )


def _set(world: World, invoice: Object, form: Form) -> None:
    """Set what the request names of the fields that change what an invoice comes to."""
    if "auto_advance" in form:
        invoice["auto_advance"] = flag(form["auto_advance"])
    if "collection_method" in form:
        invoice["collection_method"] = form["collection_method"]
    if "default_tax_rates" in form:
        invoice["default_tax_rates"] = tax_rates(world, form, "default_tax_rates")
    if "discounts" in form:
        named = entries(form["discounts"])
        invoice["discounts"] = [discount_of(world, one.get("coupon")) for one in named]
    if "shipping_cost" in form:
        invoice["shipping_cost"] = _shipping(form["shipping_cost"])


def _shipping(given: Any) -> Object | None:
    if not given:
        return None
    cents = whole(given["shipping_rate_data"]["fixed_amount"]["amount"])
    return {"amount_subtotal": cents, "amount_tax": 0, "amount_total": cents}


class Sum(NamedTuple):
    """What the lines of an invoice come to."""

    subtotal: int
    off: int
    tax: int
    shipping: int

    @property
    def total(self) -> int:
        """Return what it comes to in all, before the customer's balance."""
        return self.subtotal - self.off + self.tax + self.shipping


def sum_of(lines: list[Object], discounts: list[Object], taxes: list[Object], ship: int = 0) -> Sum:
    """Add up lines: discounts come off first, taxes come on top, then what shipping costs."""
    subtotal = sum(line["amount"] for line in lines)
    off = min(max(0, subtotal), sum(_off(one["coupon"], subtotal) for one in discounts))
    tax = max(0, subtotal - off) * sum(rate["percentage"] for rate in taxes) // 100
    for line in lines:
        percent = sum(rate["percentage"] for rate in line.get("tax_rates") or ())
        tax += max(0, line["amount"]) * percent // 100
    return Sum(subtotal, off, tax, ship)


def _off(coupon: Object, subtotal: int) -> int:
    percent = coupon["percent_off"]
    return coupon["amount_off"] or 0 if percent is None else max(0, subtotal) * percent // 100


def lines_of(world: World, invoice: Object) -> list[Object]:
    """Return the items that an invoice is made of."""
    return world.all("invoiceitem", invoice=invoice["id"])


def discounts_of(world: World, invoice: Object) -> list[Object]:
    """Return the discounts of an invoice: its own, or else the customer's."""
    if invoice["discounts"] is not None:
        return invoice["discounts"]
    inherited = world.objects[invoice["customer"]]["discount"]
    return [] if inherited is None else [inherited]


def shown(world: World, invoice: Object) -> Object:
    """Return an invoice as an answer shows it; a draft is added up anew each time."""
    view = dict(invoice)
    if invoice["status"] == "draft":
        view.update(_amounts(world, invoice))
    lines = [line_of(item) for item in lines_of(world, invoice)]
    url = f"/v1/invoices/{invoice['id']}/lines"
    view["lines"] = page(url, lines, {"limit": 10})
    view["discounts"] = [one["id"] for one in discounts_of(world, invoice)]
    return view


def _amounts(world: World, invoice: Object) -> Object:
    shipping = (invoice["shipping_cost"] or {}).get("amount_total", 0)
    taxes, lines = invoice["default_tax_rates"], lines_of(world, invoice)
    added = sum_of(lines, discounts_of(world, invoice), taxes, shipping)
    balance = world.objects[invoice["customer"]]["balance"]
    due = max(0, added.total + balance)
    return {
        "subtotal": added.subtotal,
        "total": added.total,
        "amount_shipping": added.shipping,
        "total_discount_amounts": [{"amount": added.off}] if added.off else [],
        "total_taxes": [{"amount": added.tax}] if added.tax else [],
        "starting_balance": balance,
        "ending_balance": None,
        "amount_due": due,
        "amount_remaining": due,
    }


def line_of(item: Object) -> Object:
    """Return an invoice item as a line of its invoice."""
    details = {"invoice_item": item["id"], "proration": item["proration"], "subscription": None}
    kept = ("amount", "currency", "quantity", "pricing", "invoice", "discountable", "livemode")
    return {
        **{name: item[name] for name in kept},
        "id": f"il_{item['id'][3:]}",
        "object": "line_item",
        "subtotal": item["amount"],
        "parent": {"type": "invoice_item_details", "invoice_item_details": details},
        "discount_amounts": [],
        "taxes": [],
    }


def finalize(world: World, invoice: Object, *, asked_for: bool = True) -> None:
    """
    Fix what an invoice comes to: the customer's balance is used up, or grows by what is left.

    A credit counts where a call asked for it. The one that comes of a draft that advances by itself
    below zero is a hole that docs/reference/endpoints.md names.
    """
    editable(world, invoice["id"])
    invoice.update(_amounts(world, invoice))
    customer, total = world.objects[invoice["customer"]], invoice["total"]
    if total < 0 and asked_for:
        world.move("credit", invoice["id"], -total)
    customer["balance"] = min(0, total + customer["balance"])
    invoice.update(status="open", ending_balance=customer["balance"])
    invoice["discounts"] = discounts_of(world, invoice)
    if invoice["amount_due"] == 0:
        invoice.update(status="paid")


def collect(world: World, invoice: Object) -> None:
    """Charge the customer what remains of an invoice that is open."""
    if invoice["status"] != "open":
        return
    cents = invoice["amount_remaining"]
    new_charge(world, invoice["id"], cents)
    # What the customer owed before is one event, whichever invoice collects it.
    owed = min(cents, max(0, invoice["starting_balance"]))
    world.move("charge", f"{invoice['customer']} balance", owed)
    world.move("charge", invoice["id"], cents - owed)
    invoice.update(status="paid", amount_paid=cents, amount_remaining=0)


def advance(world: World, invoice: Object) -> None:
    """Do what Stripe does by itself with an invoice that advances."""
    if not invoice["auto_advance"]:
        return
    if invoice["status"] == "draft":
        finalize(world, invoice, asked_for=False)
    if invoice["collection_method"] == "charge_automatically":
        collect(world, invoice)


@route("invoices.update", "POST", "/v1/invoices/{}")
def update_invoice(world: World, form: Form, invoice_id: str) -> Object:
    """Change a draft; of an open invoice, only whether it advances by itself."""
    invoice = world.get(invoice_id, "invoice")
    if invoice["status"] != "open" or set(form) - {"auto_advance"}:
        editable(world, invoice_id)
    _set(world, invoice, form)
    return shown(world, invoice)


@route("invoices.finalize_invoice", "POST", "/v1/invoices/{}/finalize")
def finalize_invoice(world: World, form: Form, invoice_id: str) -> Object:
    """Finalize a draft; one that advances by itself is collected at once."""
    invoice = editable(world, invoice_id)
    finalize(world, invoice)
    _set(world, invoice, {name: form[name] for name in ("auto_advance",) if name in form})
    advance(world, invoice)
    return shown(world, invoice)


@route("invoices.pay", "POST", "/v1/invoices/{}/pay")
def pay_invoice(world: World, form: Form, invoice_id: str) -> Object:
    """Collect an invoice out of turn; a draft is finalized first."""
    invoice = world.get(invoice_id, "invoice")
    if invoice["status"] == "draft":
        finalize(world, invoice)
    elif invoice["status"] != "open":
        raise Declined(400, f"Invoice is already {invoice['status']}")
    if flag(form.get("paid_out_of_band")):
        invoice.update(status="paid", amount_paid=invoice["amount_due"], amount_remaining=0)
    collect(world, invoice)
    return shown(world, invoice)


@route("invoices.void_invoice", "POST", "/v1/invoices/{}/void")
def void_invoice(world: World, form: Form, invoice_id: str) -> Object:
    """Give up what an open invoice would have collected."""
    del form
    invoice = world.get(invoice_id, "invoice")
    if invoice["status"] != "open":
        raise Declined(400, f"{invoice_id} is {invoice['status']}, and cannot be voided")
    invoice["status"] = "void"
    return shown(world, invoice)


@route("invoices.delete", "DELETE", "/v1/invoices/{}")
def delete_invoice(world: World, form: Form, invoice_id: str) -> Object:
    """Throw a draft and its items away."""
    del form
    for item in lines_of(world, editable(world, invoice_id)):
        del world.objects[item["id"]]
    del world.objects[invoice_id]
    return {"id": invoice_id, "object": "invoice", "deleted": True}


@route("invoices.add_lines", "POST", "/v1/invoices/{}/add_lines")
def add_lines(world: World, form: Form, invoice_id: str) -> Object:
    """Add lines to a draft: new ones, or items that wait."""
    invoice = editable(world, invoice_id)
    for line in entries(form.get("lines")):
        if line.get("invoice_item"):
            item = world.get(line["invoice_item"], "invoiceitem")
            if item["invoice"]:
                raise Declined(400, f"{item['id']} belongs to an invoice already")
            item["invoice"] = invoice_id
        else:
            create_item(world, {**line, "invoice": invoice_id})
    return shown(world, invoice)


@route("invoices.update_lines", "POST", "/v1/invoices/{}/update_lines")
def update_lines(world: World, form: Form, invoice_id: str) -> Object:
    """Change several lines of a draft."""
    invoice = editable(world, invoice_id)
    for line in entries(form.get("lines")):
        change_item(world, _item_of(world, invoice_id, line.get("id")), line)
    return shown(world, invoice)


@route("invoices.remove_lines", "POST", "/v1/invoices/{}/remove_lines")
def remove_lines(world: World, form: Form, invoice_id: str) -> Object:
    """Take lines out of a draft; their items are deleted, or wait again."""
    invoice = editable(world, invoice_id)
    for line in entries(form.get("lines")):
        item = _item_of(world, invoice_id, line.get("id"))
        if line.get("behavior") == "unassign":
            item["invoice"] = None
        else:
            del world.objects[item["id"]]
    return shown(world, invoice)


@route("invoices.line_items.update", "POST", "/v1/invoices/{}/lines/{}")
def update_line(world: World, form: Form, invoice_id: str, line_id: str) -> Object:
    """Change one line of a draft."""
    item = _item_of(world, invoice_id, line_id)
    change_item(world, item, form)
    return line_of(item)


@route("invoices.line_items.list", "GET", "/v1/invoices/{}/lines")
def list_lines(world: World, form: Form, invoice_id: str) -> Object:
    """List the lines of an invoice."""
    lines = [line_of(item) for item in lines_of(world, world.get(invoice_id, "invoice"))]
    return page(f"/v1/invoices/{invoice_id}/lines", lines, form)


def _item_of(world: World, invoice_id: str, line_id: Any) -> Object:
    item = world.get(f"ii_{str(line_id)[3:]}", "invoiceitem")
    if item["invoice"] != invoice_id:
        raise Declined(404, f"No such line item: '{line_id}'")
    return item


@route("credit_notes.create", "POST", "/v1/credit_notes")
def create_credit_note(world: World, form: Form) -> Object:
    """Take an amount off an open invoice, or give it back of one that was paid."""
    invoice = world.get(form.get("invoice"), "invoice")
    total = whole(form.get("amount"))
    for line in entries(form.get("lines")):
        total += whole(line.get("unit_amount")) * whole(line.get("quantity"), 1)
    note = world.new("cn", "credit_note", invoice=invoice["id"], total=total, amount=total)
    note.update(currency="usd", status="issued", customer=invoice["customer"])
    if invoice["status"] == "open" and 0 < total <= invoice["amount_remaining"]:
        invoice["amount_remaining"] -= total
        invoice["pre_payment_credit_notes_amount"] += total
    elif invoice["status"] == "paid" and total > 0:
        _give_back(world, invoice, note, form)
    else:
        del world.objects[note["id"]]
        raise Declined(400, f"{invoice['id']} is {invoice['status']}: no credit note of {total}")
    return note


def _give_back(world: World, invoice: Object, note: Object, form: Form) -> None:
    parts = ("refund_amount", "credit_amount", "out_of_band_amount")
    refund, credit, elsewhere = (whole(form.get(part)) for part in parts)
    left = invoice["amount_paid"] - invoice["post_payment_credit_notes_amount"]
    if refund + credit + elsewhere != note["total"] or not 0 < note["total"] <= left:
        del world.objects[note["id"]]
        raise Declined(400, "The parts of the credit note are not its total, or more than was paid")
    invoice["post_payment_credit_notes_amount"] += note["total"]
    world.move("refund", note["id"], refund)
    world.move("credit", note["id"], credit)
    world.objects[invoice["customer"]]["balance"] -= credit


readable("invoices", "/v1/invoices", "invoice", shown)
readable("credit_notes", "/v1/credit_notes", "credit_note", lambda _, made: made)
