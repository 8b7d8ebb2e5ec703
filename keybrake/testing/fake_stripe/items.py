"""Serve the endpoints for invoice items and invoice lines."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from keybrake.testing.fake_stripe.errors import StripeFailure, missing, not_found
from keybrake.testing.fake_stripe.invoices import committed, only
from keybrake.testing.fake_stripe.objects import new
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import Params, integer, metadata, required_currency
from keybrake.testing.fake_stripe.prices import line_of
from keybrake.testing.fake_stripe.store import Object, Store
from keybrake.testing.fake_stripe.totals import items_of, line_id, recount


def create(store: Store, params: Params) -> Outcome:
    """Create an item on an invoice, or for the customer's next invoice."""
    customer = store.refer("customer", params)
    invoice = store.refer("invoice", params)
    if customer is None and invoice is None:
        raise missing(param="customer")
    if invoice is not None:
        only(invoice, "draft", "add an item to")
    item = add(store, params, invoice)
    return Outcome(item, _recounted(store, invoice))


def add(store: Store, params: Params, invoice: Object | None) -> Object:
    """Store an item on an invoice, or for the customer's next invoice."""
    amount, unit, quantity, currency = _line_amounts(store, params)
    return store.add(
        new(
            "invoiceitem",
            store.new_id("ii"),
            params,
            amount=amount,
            currency=currency,
            customer=invoice["customer"] if invoice else params["customer"],
            description=params.get("description") or None,
            invoice=invoice["id"] if invoice else None,
            quantity=quantity,
            subscription=params.get("subscription") or None,
            tax_rates=[],
            unit_amount_decimal=str(unit),
        )
    )


def _line_amounts(store: Store, params: Params) -> tuple[int, Any, int, str]:
    """Return the amount, unit amount, quantity and currency of a new line."""
    amount, quantity = integer(params, "amount"), integer(params, "quantity", least=0)
    if amount is not None:
        return amount, amount, 1, required_currency(params)
    unit = params.get("unit_amount_decimal")
    count = 1 if quantity is None else quantity
    if unit is not None:
        return round(Fraction(str(unit)) * count), unit, count, required_currency(params)
    pricing = params.get("pricing")
    named = pricing.get("price") if isinstance(pricing, Mapping) else params.get("price")
    if named is None and "price_data" not in params:
        raise missing(param="amount")
    line = line_of(store, {**params, "price": named})
    price = line["price"]
    return price["unit_amount"] * count, price["unit_amount"], count, str(price["currency"])


def _recounted(store: Store, invoice: Object | None) -> Any:
    if invoice is None:
        return None
    recount(store, invoice)
    return committed(store, invoice)


def update(store: Store, params: Params, item_id: str) -> Outcome:
    """Update an item that is on a draft or not yet on an invoice."""
    item = store.find("invoiceitem", item_id)
    invoice = _draft_of(store, item, "change an item of")
    _change(store, item, params)
    return Outcome(item, _recounted(store, invoice))


def _draft_of(store: Store, item: Object, verb: str) -> Object | None:
    if item["invoice"] is None:
        return None
    invoice = store.find("invoice", item["invoice"])
    only(invoice, "draft", verb)
    return invoice


def _change(store: Store, item: Object, params: Params) -> None:
    item["metadata"] = metadata(params, item["metadata"])
    item["description"] = params.get("description", item["description"])
    quantity = integer(params, "quantity", least=0)
    count = item["quantity"] if quantity is None else quantity
    if any(name in params for name in ("amount", "unit_amount_decimal", "price_data", "pricing")):
        asked = {"currency": item["currency"], "quantity": count, **params}
        item["amount"], item["unit_amount_decimal"], item["quantity"], _ = _line_amounts(
            store, asked
        )
    elif quantity is not None:
        item["amount"] = round(Fraction(str(item["unit_amount_decimal"])) * count)
        item["quantity"] = count


def delete(store: Store, params: Params, item_id: str) -> Outcome:
    """Delete an item that is on a draft or not yet on an invoice."""
    del params
    item = store.find("invoiceitem", item_id)
    invoice = _draft_of(store, item, "delete an item of")
    store.remove(item)
    gone = {"id": item_id, "object": "invoiceitem", "deleted": True}
    return Outcome(gone, _recounted(store, invoice))


def list_lines(store: Store, params: Params, invoice_id: str) -> Outcome:
    """List the lines of an invoice, all on one page."""
    del params
    invoice = store.find("invoice", invoice_id)
    return Outcome(invoice["lines"])


def update_line(store: Store, params: Params, invoice_id: str, line: str) -> Outcome:
    """Update one line of a draft."""
    invoice = _editable(store, invoice_id)
    _change(store, _item_of(store, invoice, line), params)
    move = _recounted(store, invoice)
    shown = next(row for row in invoice["lines"]["data"] if row["id"] == line)
    return Outcome(shown, move)


def change_lines(verb: str, store: Store, params: Params, invoice_id: str) -> Outcome:
    """Add, update or remove several lines of a draft, as *verb* says."""
    invoice = _editable(store, invoice_id)
    rows = params.get("lines")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise StripeFailure(message="Invalid array: lines.", param="lines")
    for row in rows:
        if verb == "add":
            add(store, {"currency": invoice["currency"], **row}, invoice)
        elif verb == "update":
            _change(store, _item_of(store, invoice, str(row.get("id"))), row)
        else:
            _remove(store, _item_of(store, invoice, str(row.get("id"))), row)
    return Outcome(invoice, _recounted(store, invoice))


def _remove(store: Store, item: Object, row: Params) -> None:
    if row.get("behavior") == "unassign":
        item["invoice"] = None
    else:
        store.remove(item)


def _editable(store: Store, invoice_id: str) -> Object:
    invoice = store.find("invoice", invoice_id)
    only(invoice, "draft", "change the lines of")
    return invoice


def _item_of(store: Store, invoice: Object, line: str) -> Object:
    for item in items_of(store, invoice):
        if line_id(item) == line:
            return item
    raise not_found(kind="line_item", object_id=line, param="id")
