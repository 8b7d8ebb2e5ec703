"""Serve the invoice endpoints, from the draft to the payment."""

from typing import Any, Final

from keybrake.testing.fake_stripe import charges, objects, rates
from keybrake.testing.fake_stripe.cards import Card, card_for
from keybrake.testing.fake_stripe.errors import StripeFailure, missing
from keybrake.testing.fake_stripe.objects import blank, new
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import Params, choice, flag, integer, metadata, subset
from keybrake.testing.fake_stripe.store import Object, Store
from keybrake.testing.fake_stripe.totals import recount, settle_balance, waiting
from keybrake.testing.journal import Move

METHODS: Final = ("charge_automatically", "send_invoice")
GOOD_CARD: Final = "pm_card_visa"
_PRICING: Final = frozenset({"discounts", "default_tax_rates", "shipping_cost"})


def list_items(store: Store, params: Params) -> Outcome:
    """List invoice items; *pending* selects those without an invoice, or those with one."""
    page = store.page(
        "invoiceitem", "/v1/invoiceitems", params, {"customer": "customer", "invoice": "invoice"}
    )
    if "pending" in params:
        waits = flag(params, "pending")
        page["data"] = [item for item in page["data"] if (item["invoice"] is None) is waits]
    return Outcome(page)


def create(store: Store, params: Params) -> Outcome:
    """Create a draft, with the customer's pending items if the request includes them."""
    customer = store.refer("customer", params)
    if customer is None:
        raise missing(param="customer")
    choice(params, "collection_method", METHODS, METHODS[0])
    draft = add(store, params)
    behavior = choice(params, "pending_invoice_items_behavior", ("include", "exclude"), "exclude")
    for item in waiting(store, customer["id"]) if behavior == "include" else ():
        item["invoice"] = draft["id"]
    _apply(store, draft, params)
    return Outcome(draft, committed(store, draft))


def committed(store: Store, invoice: Object) -> Move | None:
    """Return the move of a draft with auto_advance, which commits its amount; else None."""
    if not invoice["auto_advance"] or invoice["status"] != "draft":
        return None
    return store.commit("charge", invoice, invoice["amount_due"])


def add(store: Store, params: Params) -> Object:
    """Store an empty draft."""
    return store.add(
        new(
            "invoice",
            store.new_id("in"),
            params,
            amount_due=0,
            amount_paid=0,
            amount_remaining=0,
            auto_advance=flag(params, "auto_advance"),
            automatic_tax={"enabled": False},
            billing_reason="manual",
            collection_method=params.get("collection_method", METHODS[0]),
            currency=str(params.get("currency", "usd")).lower(),
            customer=params.get("customer") or None,
            default_tax_rates=[],
            discounts=[],
            lines={"object": "list", "data": [], "has_more": False},
            status="draft",
            subtotal=0,
            total=0,
            total_discount_amounts=[],
            total_taxes=[],
            **blank("charge", "payment_intent", "shipping_cost", "subscription"),
        )
    )


def update(store: Store, params: Params, invoice_id: str) -> Outcome:
    """Update a draft; once it has auto_advance, it commits its amount."""
    invoice = store.find("invoice", invoice_id)
    if not _PRICING.isdisjoint(params):
        only(invoice, "draft", "change the amount of")
    invoice["auto_advance"] = flag(params, "auto_advance", default=invoice["auto_advance"])
    invoice["metadata"] = metadata(params, invoice["metadata"])
    _apply(store, invoice, params)
    return Outcome(invoice, committed(store, invoice))


def _apply(store: Store, invoice: Object, params: Params) -> None:
    """Apply discounts, tax rates and shipping costs, and recompute the amount of a draft."""
    if "discounts" in params:
        invoice["discounts"] = rates.discounts_of(store, params)
    if "default_tax_rates" in params:
        invoice["default_tax_rates"] = rates.tax_rates_of(store, params)
    if "shipping_cost" in params:
        fixed = subset(
            subset(subset(params, "shipping_cost"), "shipping_rate_data"), "fixed_amount"
        )
        amount = integer(fixed, "amount", least=0) or 0
        invoice["shipping_cost"] = {"amount_total": amount} if amount else None
    if invoice["status"] == "draft":
        recount(store, invoice)


def finalize(store: Store, params: Params, invoice_id: str) -> Outcome:
    """Finalize a draft; it commits its amount, unless the customer pays by themselves."""
    invoice = store.find("invoice", invoice_id)
    only(invoice, "draft", "finalize")
    invoice["auto_advance"] = flag(params, "auto_advance", default=invoice["auto_advance"])
    end_draft(store, invoice)
    if invoice["collection_method"] == "send_invoice" and not invoice["auto_advance"]:
        return Outcome(invoice)
    return Outcome(invoice, store.commit("charge", invoice, invoice["amount_due"]))


def end_draft(store: Store, invoice: Object) -> None:
    """Turn a draft into an open or paid invoice, with the current amount and balance applied."""
    recount_draft(store, invoice)
    settle_balance(store, invoice)
    invoice["status"] = "open" if invoice["amount_due"] else "paid"


def recount_draft(store: Store, invoice: Object) -> None:
    """Recompute a manual draft: its customer's discount or balance may have changed."""
    if invoice["status"] == "draft" and invoice["billing_reason"] == "manual":
        recount(store, invoice)


def retrieve(store: Store, params: Params, invoice_id: str) -> Outcome:
    """Return an invoice; the amount of a draft is recomputed first."""
    del params
    invoice = store.find("invoice", invoice_id)
    if not invoice.get("deleted"):
        recount_draft(store, invoice)
    return Outcome(invoice)


def send(store: Store, params: Params, invoice_id: str) -> Outcome:
    """Send the invoice to the customer."""
    del params
    invoice = store.find("invoice", invoice_id)
    if invoice["status"] == "draft":
        end_draft(store, invoice)
    else:
        only(invoice, "open", "send")
    return Outcome(invoice)


def pay(store: Store, params: Params, invoice_id: str) -> Outcome:
    """Charge the remaining amount, or mark the invoice as paid elsewhere."""
    invoice = store.find("invoice", invoice_id)
    if invoice["status"] == "draft":
        end_draft(store, invoice)
        if invoice["status"] == "paid":  # the customer's balance paid it
            return Outcome(invoice)
    only(invoice, "open", "pay")
    if flag(params, "paid_out_of_band"):
        invoice |= {"status": "paid", "amount_paid": invoice["amount_due"], "amount_remaining": 0}
        return Outcome(invoice)
    return collect(store, invoice, str(params.get("payment_method") or GOOD_CARD))


def collect(store: Store, invoice: Object, token: str) -> Outcome:
    """Charge a card for the remaining amount of an invoice."""
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
    """Void an open invoice, or mark it as uncollectible."""
    del params
    invoice = store.find("invoice", invoice_id)
    only(invoice, "open", status)
    invoice["status"] = status
    return Outcome(invoice, store.no_move("charge", invoice, invoice["amount_due"], standing=0))


def delete(store: Store, params: Params, invoice_id: str) -> Outcome:
    """Delete a draft."""
    del params
    only(store.find("invoice", invoice_id), "draft", "delete")
    gone: dict[str, Any] = {"id": invoice_id, "object": "invoice", "deleted": True}
    return Outcome(store.add(gone))


def only(invoice: Object, status: str, verb: str) -> None:
    """Raise Stripe's error for *verb* unless *invoice* has *status*."""
    if invoice.get("status") != status:
        raise StripeFailure(
            message=f"You cannot {verb} an invoice that is {invoice.get('status', 'deleted')}.",
            began=True,
            code="invoice_not_editable",
        )
