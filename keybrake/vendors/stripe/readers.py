"""Read the state of a Stripe object, and the amount that counts in that state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keybrake.vendors.stripe.steps import dig

Body = Mapping[str, Any]


def _payment_intent(body: Body) -> tuple[str, Any]:
    match body.get("status"):
        case "succeeded":
            return "settled", body.get("amount_received")
        case "requires_capture":
            # After one of several captures, amount_capturable no longer includes the part that was
            # received.
            parts = body.get("amount_capturable"), body.get("amount_received")
            return "held", sum(parts) if all(type(part) is int for part in parts) else None
        case "processing":
            return "in_flight", body.get("amount")
        case "canceled":
            return "released", body.get("amount_received")
        case _:
            # Counts from creation on: a browser can confirm it with the client secret, without a
            # call that keybrake sees.
            return "open", body.get("amount")


def _charge(body: Body) -> tuple[str, Any]:
    match body.get("status"):
        case "failed":
            return "released", 0
        case "succeeded":
            if body.get("captured") is True:
                return "settled", body.get("amount_captured", body.get("amount"))
            if body.get("refunded") is True:
                return "released", 0  # the hold was released before a capture
            return "held", body.get("amount")
        case _:
            return "in_flight", body.get("amount")


def _invoice(body: Body) -> tuple[str, Any]:
    if body.get("deleted") is True:
        return "released", 0
    match body.get("status"):
        case "paid":
            return "settled", at_least_credited(body.get("amount_paid"), body)
        case "void" | "uncollectible":
            # Payments made before that stay paid.
            paid = body.get("amount_paid")
            return ("settled", paid) if type(paid) is int and paid > 0 else ("released", 0)
        case "draft":
            # Stripe finalizes and charges an automatic draft without a further call.
            return ("open", draft_amount(body)) if is_automatic(body) else ("needs_human", 0)
        case _:
            return ("needs_human", 0) if is_left_to_customer(body) else _due(body)


def draft_amount(invoice: Body) -> int | None:
    """
    Return the highest amount at which Stripe may collect an invoice.

    For a draft, ignore the customer's credit: another invoice may use it up first.
    """
    names = ("amount_due", "total") if invoice.get("status") == "draft" else ("amount_due",)
    amounts = [invoice.get(name) for name in names]
    most = max((amount for amount in amounts if type(amount) is int), default=None)
    whole: int | None = at_least_credited(most, invoice)
    return whole


def at_least_credited(amount: Any, invoice: Body) -> Any:
    """
    Return *amount*, or the amount that the invoice moves to the customer's balance if that is more.

    A negative total is added to the customer's credit. That gives value away, like a negative
    balance transaction. A total below Stripe's smallest charge has nothing due: the next invoice
    collects it.
    """
    if type(amount) is not int:
        return amount
    return max(amount, credited_by(invoice), _owed_later(invoice))


def uses_credit(invoice: Body) -> bool:
    """Return whether the customer's credit pays a part of an invoice that is not final yet."""
    due, total = invoice.get("amount_due"), invoice.get("total")
    return type(due) is not int or type(total) is not int or due < total


def credited_by(invoice: Body) -> int:
    """Return what an invoice adds to its customer's credit once it is finalized."""
    total = invoice.get("total")
    return max(0, -total) if type(total) is int else 0


def _owed_later(invoice: Body) -> int:
    """Return the total of an invoice below Stripe's smallest charge; credit has not paid it."""
    total = invoice.get("total")
    if invoice.get("amount_due") != 0 or type(total) is not int:
        return 0
    names = ("starting_balance", "pre_payment_credit_notes_amount")
    balance, noted = (invoice.get(name) for name in names)
    credit = balance if type(balance) is int and balance < 0 else 0
    return total + credit - (noted if type(noted) is int else 0)


def _due(body: Body) -> tuple[str, Any]:
    due = body.get("amount_due", body.get("amount_remaining"))
    return "in_flight", at_least_credited(due, body)


def is_automatic(invoice: Body) -> bool:
    """Return whether Stripe finalizes and collects an invoice automatically."""
    return invoice.get("auto_advance") is not False


def is_left_to_customer(invoice: Body) -> bool:
    """Return whether only the customer can have an invoice paid."""
    return invoice.get("collection_method") == "send_invoice" and not is_automatic(invoice)


def _quote(body: Body) -> tuple[str, Any]:
    match body.get("status"):
        case "accepted":
            return "settled", quote_total(body)
        case "canceled":
            return "released", 0
        case _:
            return "needs_human", 0


def quote_total(quote: Body) -> int | None:
    """Return what a quote comes to once it is accepted; the first period after a trial included."""
    recurring = dig(quote, ("computed", "recurring", "amount_total"))
    parts = [part for part in (total_of(quote), recurring) if type(part) is int]
    if not parts:
        return None
    return sum(parts) if is_charged_again(quote) else max(parts)


def is_charged_again(quote: Body) -> bool:
    """Return whether the first period is charged by itself after the quote's first invoice."""
    data = quote.get("subscription_data")
    names = ("trial_period_days", "trial_end", "effective_date")
    return isinstance(data, Mapping) and any(data.get(name) for name in names)


def _checkout_session(body: Body) -> tuple[str, Any]:
    if body.get("status") == "expired":
        return "released", 0
    return ("settled" if body.get("payment_status") == "paid" else "needs_human"), 0


def _payment_link(_: Body) -> tuple[str, Any]:
    return "needs_human", 0


def _authorization(body: Body) -> tuple[str, Any]:
    if body.get("approved") is False:
        return "released", 0
    # While the card network waits for an answer, the amount is in pending_request.
    asked = [body.get("amount"), dig(body, ("pending_request", "amount"))]
    amount = max((part for part in asked if type(part) is int), default=None)
    match body.get("status"):
        case "closed":
            return "settled", amount
        case "reversed" | "expired":
            return "released", 0
        case _:
            return "held", amount


def _balance_transaction(body: Body) -> tuple[str, Any]:
    amount = body.get("amount")
    return "settled", abs(amount) if type(amount) is int else None


def total_of(body: Body) -> Any:
    """Return the total of a quote, session or invoice; None: it shows none."""
    places = (("computed", "upfront", "amount_total"), ("amount_total",), ("amount_due",))
    totals = [dig(body, place) for place in places]
    return max((total for total in totals if type(total) is int), default=None)


READERS: Mapping[str, Callable[[Body], tuple[str, Any]]] = {
    "payment_intent": _payment_intent,
    "charge": _charge,
    "invoice": _invoice,
    "quote": _quote,
    "checkout.session": _checkout_session,
    "payment_link": _payment_link,
    "issuing.authorization": _authorization,
    "customer_balance_transaction": _balance_transaction,
}
"""The reader for each kind of object. It returns the state and the amount (None: not shown)."""
