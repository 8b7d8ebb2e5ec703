"""Serve the endpoints for topups, reversals and disputes."""

from keybrake.testing.fake_stripe import objects
from keybrake.testing.fake_stripe.errors import StripeFailure
from keybrake.testing.fake_stripe.objects import blank, new
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import (
    Params,
    optional_amount,
    required_amount,
    required_currency,
)
from keybrake.testing.fake_stripe.store import Object, Store


def create_topup(store: Store, params: Params) -> Outcome:
    """Move money from the account's own bank to its Stripe balance."""
    topup = new(
        "topup",
        store.new_id("tu"),
        params,
        amount=required_amount(params),
        currency=required_currency(params),
        description=params.get("description") or None,
        status="pending",
        **blank("balance_transaction", "failure_code", "source"),
    )
    return Outcome(store.add(topup), store.commit("topup", topup, topup["amount"]))


def cancel_topup(store: Store, params: Params, topup_id: str) -> Outcome:
    """Cancel a pending topup."""
    del params
    topup = store.find("topup", topup_id)
    if topup["status"] != "pending":
        raise StripeFailure(message=f"A {topup['status']} topup cannot be canceled.", began=True)
    topup["status"] = "canceled"
    return Outcome(topup, store.no_move("topup", topup, topup["amount"], standing=0))


def reverse_transfer(store: Store, params: Params, transfer_id: str) -> Outcome:
    """Reverse a transfer in full or in part, up to the amount not reversed yet."""
    sent = store.find("transfer", transfer_id)
    left = sent["amount"] - sent["amount_reversed"]
    amount = optional_amount(params) or left
    if amount > left or not left:
        raise StripeFailure(
            message=f"The reversal ({amount}) is more than what is left ({left}).", began=True
        )
    sent["amount_reversed"] += amount
    sent["reversed"] = sent["amount_reversed"] == sent["amount"]
    back = new(
        "transfer_reversal",
        store.new_id("trr"),
        params,
        amount=amount,
        currency=sent["currency"],
        transfer=sent["id"],
    )
    # Stripe's reversals have no status, but a journal entry needs one.
    move = store.commit("transfer_reversal", {**back, "status": "succeeded"}, amount)
    return Outcome(store.add(back), move)


def reverse_payout(store: Store, params: Params, payout_id: str) -> Outcome:
    """Reverse a payout in full."""
    sent = store.find("payout", payout_id)
    if sent["status"] == "canceled" or sent["reversed_by"]:
        raise StripeFailure(message="This payout cannot be reversed.", began=True)
    asked = {**params, "destination": sent["destination"]}
    back = store.add(objects.payout(store, asked, -sent["amount"], sent["currency"]))
    back["original_payout"], sent["reversed_by"] = sent["id"], back["id"]
    return Outcome(back, store.commit("payout_reversal", back, sent["amount"]))


def add_dispute(store: Store, amount: int, currency: str, charge: str | None) -> Object:
    """Store a dispute that needs a response."""
    dispute_id = store.new_id("dp")
    dispute = new("dispute", dispute_id, {}, amount=amount, currency=currency, charge=charge)
    return store.add({**dispute, "status": "needs_response", "reason": "general"})


def close_dispute(store: Store, params: Params, dispute_id: str) -> Outcome:
    """Close a dispute: its amount is lost."""
    del params
    dispute = store.find("dispute", dispute_id)
    if dispute["status"] == "lost":
        raise StripeFailure(message="This dispute is closed already.", began=True)
    dispute["status"] = "lost"
    return Outcome(dispute, store.commit("dispute", dispute, dispute["amount"]))
