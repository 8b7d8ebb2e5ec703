"""Carry out quotes: one that is accepted begins a subscription, or becomes an invoice."""

from keybrake.testing.fake_stripe import invoices, items, prices, subscriptions
from keybrake.testing.fake_stripe.errors import StripeFailure, missing
from keybrake.testing.fake_stripe.objects import blank, new
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import Params
from keybrake.testing.fake_stripe.store import Object, Store


def create(store: Store, params: Params) -> Outcome:
    """Draw up a quote of prices times quantities."""
    store.refer("customer", params)
    lines = prices.lines_of(store, params, "line_items")
    if not lines:
        raise missing(param="line_items")
    total = prices.total(lines)
    repeats = [line for line in lines if line["price"]["recurring"]]
    monthly = {"amount_total": prices.total(repeats), "interval": "month", "interval_count": 1}
    quote = new(
        "quote",
        store.new_id("qt"),
        params,
        amount_total=total,
        computed={"recurring": monthly if repeats else None, "upfront": {"amount_total": total}},
        currency=prices.currency_of(lines, params),
        customer=params.get("customer") or None,
        line_items={"object": "list", "data": lines, "has_more": False},
        status="draft",
        **blank("invoice", "subscription"),
    )
    return Outcome(store.add(quote))


def finalize(store: Store, params: Params, quote_id: str) -> Outcome:
    """Open a quote to be accepted."""
    del params
    quote = _only(store.find("quote", quote_id), "draft", "finalize")
    quote["status"] = "open"
    return Outcome(quote)


def accept(store: Store, params: Params, quote_id: str) -> Outcome:
    """Begin the subscription of a quote, or make its invoice, which advances by itself."""
    del params
    quote = _only(store.find("quote", quote_id), "open", "accept")
    if not quote["customer"]:
        raise missing(param="customer")
    lines = [
        {"price": line["price"]["id"], "quantity": line["quantity"]}
        for line in quote["line_items"]["data"]
    ]
    whose = {"customer": quote["customer"]}
    if quote["computed"]["recurring"]:
        begun = subscriptions.create(store, {**whose, "items": lines})
        quote |= {"subscription": begun.body["id"], "status": "accepted"}
        return Outcome(quote, begun.move)
    invoice = invoices.add(store, {**whose, "auto_advance": True})
    for line in lines:
        items.add(store, line, invoice)
    quote |= {"invoice": invoice["id"], "status": "accepted"}
    return Outcome(quote, invoices.update(store, {}, invoice["id"]).move)


def cancel(store: Store, params: Params, quote_id: str) -> Outcome:
    """Withdraw a quote that nobody has accepted."""
    del params
    quote = store.find("quote", quote_id)
    if quote["status"] == "accepted":
        raise StripeFailure(message="An accepted quote cannot be canceled.", began=True)
    quote["status"] = "canceled"
    return Outcome(quote)


def _only(quote: Object, status: str, verb: str) -> Object:
    if quote["status"] != status:
        raise StripeFailure(message=f"You cannot {verb} a {quote['status']} quote.", began=True)
    return quote
