"""Carry out what takes money away: refunds, transfers, payouts."""

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
    """Give a charge back, in whole or in part, never more than is left of it."""
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
    given_back = store.add(objects.refund(store, params, paid, amount, status))
    if status == "failed":
        given_back["failure_reason"] = "expired_or_canceled_card"
        return Outcome(given_back, store.no_move("refund", given_back, amount, standing=0))
    paid["amount_refunded"] += amount
    paid["refunded"] = paid["amount_refunded"] == paid["amount"]
    _enter(store, given_back, "refund")
    return Outcome(given_back, store.commit("refund", given_back, amount))


def cancel_refund(store: Store, params: Params, refund_id: str) -> Outcome:
    """Stop a refund that is still pending."""
    del params
    given_back = store.find("refund", refund_id)
    if given_back["status"] not in {"pending", "requires_action"}:
        raise StripeFailure(
            message=f"A {given_back['status']} refund cannot be canceled.", began=True
        )
    given_back["status"] = "canceled"
    paid = store.find("charge", given_back["charge"])
    paid["amount_refunded"] -= given_back["amount"]
    paid["refunded"] = False
    amount = given_back["amount"]
    return Outcome(given_back, store.no_move("refund", given_back, amount, standing=0))


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
    _enter(store, sent, "transfer")
    # A transfer has no status at Stripe; the journal still wants a word for it.
    return Outcome(sent, store.commit("transfer", {**sent, "status": "succeeded"}, amount))


def create_payout(store: Store, params: Params) -> Outcome:
    """Send money to the bank."""
    amount, currency = required_amount(params), required_currency(params)
    choice(params, "method", ("standard", "instant"), "standard")
    sent = store.add(objects.payout(store, params, amount, currency))
    _enter(store, sent, "payout")
    return Outcome(sent, store.commit("payout", sent, amount))


def cancel_payout(store: Store, params: Params, payout_id: str) -> Outcome:
    """Stop a payout that is still pending."""
    del params
    sent = store.find("payout", payout_id)
    if sent["status"] != "pending":
        raise StripeFailure(message=f"A {sent['status']} payout cannot be canceled.", began=True)
    sent["status"] = "canceled"
    return Outcome(sent, store.no_move("payout", sent, sent["amount"], standing=0))


def update(kind: str, store: Store, params: Params, object_id: str) -> Outcome:
    """Change the metadata of an outflow, all of it that can be changed."""
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


def _enter(store: Store, thing: Object, kind: str) -> None:
    entry = store.add(objects.balance_transaction(store, thing, -thing["amount"], kind))
    thing["balance_transaction"] = entry["id"]
