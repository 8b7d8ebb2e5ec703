"""Serve the charge endpoints."""

from keybrake.testing.fake_stripe import objects
from keybrake.testing.fake_stripe.cards import card_for
from keybrake.testing.fake_stripe.errors import StripeFailure
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import (
    Params,
    as_sent,
    flag,
    metadata,
    optional_amount,
    required_amount,
    required_currency,
)
from keybrake.testing.fake_stripe.store import Object, Store


def create(store: Store, params: Params) -> Outcome:
    """Charge a source directly, without a payment intent."""
    amount, currency = required_amount(params), required_currency(params)
    capture_now = flag(params, "capture", default=True)
    store.refer("customer", params)
    if not (params.get("source") or params.get("customer")):
        raise StripeFailure(
            message="A source or a customer must be given.", code="parameter_missing"
        )
    card = card_for(str(params.get("source", "tok_visa")))
    paid = store.add(objects.charge(store, params, amount, currency, card))
    source_id = store.new_id("card")
    store.tokens[source_id] = str(params.get("source", "tok_visa"))
    paid["payment_method"] = source_id
    paid["source"] = {"id": source_id, "object": "card", "brand": card.brand, "last4": card.last4}
    if card.decline is not None:
        raise StripeFailure(
            message=card.decline.message,
            status=402,
            kind="card_error",
            began=True,
            move=store.no_move("charge", paid, amount, standing=0),
            charge=paid["id"],
            code=card.decline.code,
            decline_code=card.decline.decline_code,
        )
    if capture_now:
        take(store, paid, amount)
    return Outcome(paid, store.commit("charge", paid, amount))


def update(store: Store, params: Params, charge_id: str) -> Outcome:
    """Update the description, the customer and similar fields of a charge."""
    paid = store.find("charge", charge_id)
    store.refer("customer", params)
    paid |= as_sent(params, (*objects.CHARGE_TEXTS, "customer", "fraud_details"))
    paid["metadata"] = metadata(params, paid["metadata"])
    return Outcome(paid)


def capture(store: Store, params: Params, charge_id: str) -> Outcome:
    """Capture an authorized charge in full or in part; release the rest."""
    paid = store.find("charge", charge_id)
    amount = optional_amount(params) or paid["amount"]
    if paid["payment_intent"]:
        raise StripeFailure(
            message="Capture the payment intent of this charge instead.", began=True
        )
    if paid["captured"] or paid["refunded"] or paid["status"] != "succeeded":
        code = "charge_already_captured" if paid["captured"] else "charge_already_refunded"
        raise StripeFailure(
            message="This charge cannot be captured any more.", began=True, code=code
        )
    if amount > paid["amount"]:
        raise StripeFailure(
            message=f"amount ({amount}) is more than what is held ({paid['amount']}).",
            began=True,
            code="amount_too_large",
            param="amount",
        )
    take(store, paid, amount)
    return Outcome(paid, store.no_move("charge", paid, amount, standing=amount))


def take(store: Store, paid: Object, amount: int) -> None:
    """Mark *amount* of a charge as captured, and the rest as released."""
    paid |= {
        "captured": True,
        "amount_captured": amount,
        "amount_refunded": paid["amount"] - amount,
    }
    entry = store.add(objects.balance_transaction(store, paid, amount, "charge"))
    paid["balance_transaction"] = entry["id"]


def release(store: Store, paid: Object, *, kept: int) -> None:
    """Release an authorized charge, except the *kept* amount that was captured already."""
    if kept:
        take(store, paid, kept)
    else:
        paid |= {"amount_refunded": paid["amount"], "refunded": True}
