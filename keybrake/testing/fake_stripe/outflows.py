"""Serve the endpoints that pay money out: refunds, transfers and payouts."""

from typing import Final

from keybrake.testing.fake_stripe import objects
from keybrake.testing.fake_stripe.cards import card_for
from keybrake.testing.fake_stripe.errors import StripeFailure, missing
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import (
    Params,
    choice,
    metadata,
    optional_amount,
    required,
    required_amount,
    required_currency,
)
from keybrake.testing.fake_stripe.store import Object, Store

_REASONS: Final = ("duplicate", "fraudulent", "requested_by_customer", "")


def create_refund(store: Store, params: Params) -> Outcome:
    """Refund a charge in full or in part, up to the amount not refunded yet."""
    amount = optional_amount(params)
    choice(params, "reason", _REASONS, "")
    paid = _refundable(store, params)
    if params.get("currency", paid["currency"]) != paid["currency"]:
        raise StripeFailure(
            message=f"Charge {paid['id']} was made in {paid['currency']}.", param="currency"
        )
    left = paid["amount"] - paid["amount_refunded"]
    if left == 0:
        raise StripeFailure(
            message=f"Charge {paid['id']} has been refunded already.",
            began=True,
            code="charge_already_refunded",
        )
    amount = amount or left
    if amount > left:
        raise StripeFailure(
            message=f"The refund ({amount}) is more than what is left of the charge ({left}).",
            began=True,
            param="amount",
        )
    status = card_for(store.tokens.get(paid["payment_method"], "")).refund_status
    refund = store.add(objects.refund(store, params, paid, amount, status))
    if status == "failed":
        refund["failure_reason"] = "expired_or_canceled_card"
        return Outcome(refund, store.no_move("refund", refund, amount, standing=0))
    paid["amount_refunded"] += amount
    paid["refunded"] = paid["amount_refunded"] == paid["amount"]
    _add_balance_entry(store, refund, "refund")
    return Outcome(refund, store.commit("refund", refund, amount))


def cancel_refund(store: Store, params: Params, refund_id: str) -> Outcome:
    """Cancel a pending refund."""
    del params
    refund = store.find("refund", refund_id)
    if refund["status"] not in {"pending", "requires_action"}:
        raise StripeFailure(message=f"A {refund['status']} refund cannot be canceled.", began=True)
    refund["status"] = "canceled"
    paid = store.find("charge", refund["charge"])
    paid["amount_refunded"] -= refund["amount"]
    paid["refunded"] = False
    amount = refund["amount"]
    return Outcome(refund, store.no_move("refund", refund, amount, standing=0))


def create_transfer(store: Store, params: Params) -> Outcome:
    """Send money to a connected account."""
    source = store.refer("charge", params, "source_transaction")
    amount = optional_amount(params)
    currency = required_currency(params)
    required(params, "destination")
    if amount is None:
        if source is None:
            raise missing(param="amount")
        amount = source["amount"] - source["amount_refunded"]
    sent = store.add(objects.transfer(store, params, amount, currency))
    _add_balance_entry(store, sent, "transfer")
    # Stripe's transfers have no status, but a journal entry needs one.
    return Outcome(sent, store.commit("transfer", {**sent, "status": "succeeded"}, amount))


def create_payout(store: Store, params: Params) -> Outcome:
    """Pay money out to the bank."""
    amount, currency = required_amount(params), required_currency(params)
    choice(params, "method", ("standard", "instant"), "standard")
    sent = store.add(objects.payout(store, params, amount, currency))
    _add_balance_entry(store, sent, "payout")
    return Outcome(sent, store.commit("payout", sent, amount))


def cancel_payout(store: Store, params: Params, payout_id: str) -> Outcome:
    """Cancel a pending payout."""
    del params
    sent = store.find("payout", payout_id)
    if sent["status"] != "pending":
        raise StripeFailure(message=f"A {sent['status']} payout cannot be canceled.", began=True)
    sent["status"] = "canceled"
    return Outcome(sent, store.no_move("payout", sent, sent["amount"], standing=0))


def update(kind: str, store: Store, params: Params, object_id: str) -> Outcome:
    """Update the metadata of a refund, transfer or payout: its only mutable field."""
    thing = store.find(kind, object_id)
    thing["metadata"] = metadata(params, thing["metadata"])
    return Outcome(thing)


def _refundable(store: Store, params: Params) -> Object:
    intent = store.refer("payment_intent", params)
    paid = store.refer("charge", params)
    if paid is None and intent is None:
        raise missing(param="charge")
    if paid is None and intent is not None and intent["latest_charge"]:
        paid = store.find("charge", intent["latest_charge"])
    held_only = paid is not None and bool(paid["payment_intent"]) and not paid["captured"]
    if paid is None or held_only or paid["status"] != "succeeded":
        raise StripeFailure(message="There is no successful charge to refund.", began=True)
    return paid


def _add_balance_entry(store: Store, thing: Object, kind: str) -> None:
    entry = store.add(objects.balance_transaction(store, thing, -thing["amount"], kind))
    thing["balance_transaction"] = entry["id"]
