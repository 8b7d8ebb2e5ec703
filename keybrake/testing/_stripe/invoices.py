"""Carry out what happens to invoices, from the first item to the payment."""

from typing import Any, Final

from keybrake.testing._journal import Move
from keybrake.testing._stripe import charges, objects
from keybrake.testing._stripe.cards import Card, card_for
from keybrake.testing._stripe.errors import StripeFailure, missing
from keybrake.testing._stripe.objects import blank, new
from keybrake.testing._stripe.outcome import Outcome
from keybrake.testing._stripe.params import (
    Params,
    choice,
    flag,
    integer,
    metadata,
    required_currency,
)
from keybrake.testing._stripe.store import Object, Store

_METHODS: Final = ("charge_automatically", "send_invoice")
_GOOD_CARD: Final = "pm_card_visa"


def create_item(store: Store, params: Params) -> Outcome:
    """Make an item that waits for the customer's next invoice, or is on one already."""
    customer = store.refer("customer", params)
    invoice = store.refer("invoice", params)
    if customer is None and invoice is None:
        raise missing(param="customer")
    amount = integer(params, "amount")
    if amount is None:
        raise missing(param="amount")
    if invoice is not None:
        _only(invoice, "draft", "add an item to")
    item = store.add(
        new(
            "invoiceitem",
            store.new_id("ii"),
            params,
            amount=amount,
            currency=required_currency(params),
            customer=invoice["customer"] if invoice else params["customer"],
            description=params.get("description") or None,
            invoice=invoice["id"] if invoice else None,
        )
    )
    if invoice is not None:
        recount(store, invoice)
        return Outcome(item, _committed(store, invoice))
    return Outcome(item)


def list_items(store: Store, params: Params) -> Outcome:
    """List items; with *pending*, those that are on no invoice yet."""
    page = store.page(
        "invoiceitem", "/v1/invoiceitems", params, {"customer": "customer", "invoice": "invoice"}
    )
    if "pending" in params:
        waits = flag(params, "pending")
        page["data"] = [item for item in page["data"] if (item["invoice"] is None) is waits]
    return Outcome(page)


def create(store: Store, params: Params) -> Outcome:
    """Make a draft, of the items that wait if it is to include them."""
    customer = store.refer("customer", params)
    if customer is None:
        raise missing(param="customer")
    choice(params, "collection_method", _METHODS, _METHODS[0])
    drawn = add(store, params)
    behavior = choice(params, "pending_invoice_items_behavior", ("include", "exclude"), "exclude")
    for item in store.all("invoiceitem"):
        if behavior == "include" and not item["invoice"] and item["customer"] == customer["id"]:
            item["invoice"] = drawn["id"]
    recount(store, drawn)
    return Outcome(drawn, _committed(store, drawn))


def _committed(store: Store, invoice: Object) -> Move | None:
    """A draft that advances by itself will be collected: it commits what is on it."""
    if not invoice["auto_advance"] or invoice["status"] != "draft":
        return None
    return store.commit("charge", invoice, invoice["amount_due"])


def add(store: Store, params: Params) -> Object:
    """Keep an empty draft."""
    return store.add(
        new(
            "invoice",
            store.new_id("in"),
            params,
            amount_due=0,
            amount_paid=0,
            amount_remaining=0,
            auto_advance=flag(params, "auto_advance"),
            collection_method=params.get("collection_method", _METHODS[0]),
            currency=str(params.get("currency", "usd")).lower(),
            customer=params.get("customer") or None,
            status="draft",
            total=0,
            **blank("charge", "payment_intent", "subscription"),
        )
    )


def recount(store: Store, invoice: Object) -> None:
    """Add up what is on an invoice."""
    items = [item for item in store.all("invoiceitem") if item["invoice"] == invoice["id"]]
    if items:
        invoice["currency"] = items[0]["currency"]
    bill(invoice, sum(item["amount"] for item in items))


def bill(invoice: Object, amount: int) -> None:
    """Let an invoice come to *amount*."""
    due = max(amount, 0)
    invoice |= {"total": amount, "amount_due": due}
    invoice["amount_remaining"] = due - invoice["amount_paid"]


def update(store: Store, params: Params, invoice_id: str) -> Outcome:
    """Change a draft; from the moment it advances by itself, it commits its amount."""
    invoice = store.find("invoice", invoice_id)
    invoice["auto_advance"] = flag(params, "auto_advance", default=invoice["auto_advance"])
    invoice["metadata"] = metadata(params, invoice["metadata"])
    return Outcome(invoice, _committed(store, invoice))


def finalize(store: Store, params: Params, invoice_id: str) -> Outcome:
    """End the draft; collection starts, unless it is left to the customer."""
    invoice = store.find("invoice", invoice_id)
    _only(invoice, "draft", "finalize")
    invoice["auto_advance"] = flag(params, "auto_advance", default=invoice["auto_advance"])
    invoice["status"] = "open" if invoice["amount_due"] else "paid"
    if invoice["collection_method"] == "send_invoice" and not invoice["auto_advance"]:
        return Outcome(invoice)
    return Outcome(invoice, store.commit("charge", invoice, invoice["amount_due"]))


def send(store: Store, params: Params, invoice_id: str) -> Outcome:
    """Mail the invoice to the customer."""
    del params
    invoice = store.find("invoice", invoice_id)
    if invoice["status"] == "draft":
        invoice["status"] = "open"
    _only(invoice, "open", "send")
    return Outcome(invoice)


def pay(store: Store, params: Params, invoice_id: str) -> Outcome:
    """Collect what remains, or take note that it was paid elsewhere."""
    invoice = store.find("invoice", invoice_id)
    if invoice["status"] == "draft":
        invoice["status"] = "open"
    _only(invoice, "open", "pay")
    if flag(params, "paid_out_of_band"):
        invoice |= {"status": "paid", "amount_paid": invoice["amount_due"], "amount_remaining": 0}
        return Outcome(invoice)
    return collect(store, invoice, str(params.get("payment_method") or _GOOD_CARD))


def collect(store: Store, invoice: Object, token: str) -> Outcome:
    """Charge the card for what remains of an invoice."""
    card = card_for(token)
    if card.decline is not None:
        raise _declined(store, invoice, card)
    amount = invoice["amount_remaining"]
    paid = objects.charge(store, {}, amount, invoice["currency"], card)
    store.add(paid | {"invoice": invoice["id"], "customer": invoice["customer"]})
    charges.take(store, store.find("charge", paid["id"]), amount)
    settled = invoice["amount_paid"] + amount
    invoice |= {"status": "paid", "charge": paid["id"], "amount_paid": settled}
    invoice["amount_remaining"] = 0
    return Outcome(invoice, store.commit("charge", invoice, amount))


def _declined(store: Store, invoice: Object, card: Card) -> StripeFailure:
    assert card.decline is not None
    amount = invoice["amount_remaining"]
    return StripeFailure(
        message=card.decline.message,
        status=402,
        kind="card_error",
        began=True,
        move=store.no_move("charge", invoice, amount, standing=amount),
        code=card.decline.code,
        decline_code=card.decline.decline_code,
    )


def end(status: str, store: Store, params: Params, invoice_id: str) -> Outcome:
    """Void an open invoice, or give it up."""
    del params
    invoice = store.find("invoice", invoice_id)
    _only(invoice, "open", status)
    invoice["status"] = status
    return Outcome(invoice, store.no_move("charge", invoice, invoice["amount_due"], standing=0))


def delete(store: Store, params: Params, invoice_id: str) -> Outcome:
    """Delete a draft."""
    del params
    _only(store.find("invoice", invoice_id), "draft", "delete")
    gone: dict[str, Any] = {"id": invoice_id, "object": "invoice", "deleted": True}
    return Outcome(store.add(gone))


def _only(invoice: Object, status: str, verb: str) -> None:
    if invoice.get("status") != status:
        raise StripeFailure(
            message=f"You cannot {verb} an invoice that is {invoice.get('status', 'deleted')}.",
            began=True,
            code="invoice_not_editable",
        )
