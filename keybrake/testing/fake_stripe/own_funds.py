"""Carry out what brings money back to the account: topups, reversals, and disputes given up."""

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
    """Draw money from the account's own bank."""
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
    """Stop a topup that is still pending."""
    del params
    topup = store.find("topup", topup_id)
    if topup["status"] != "pending":
        raise StripeFailure(message=f"A {topup['status']} topup cannot be canceled.", began=True)
    topup["status"] = "canceled"
    return Outcome(topup, store.no_move("topup", topup, topup["amount"], standing=0))


def reverse_transfer(store: Store, params: Params, transfer_id: str) -> Outcome:
    """Take a transfer back, or a part, never more than is left of it."""
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
    # A reversal has no status at Stripe; the journal still wants a word for it.
    return _moved(store, store.add(back), "transfer_reversal")


def reverse_payout(store: Store, params: Params, payout_id: str) -> Outcome:
    """Call a payout back from the bank, whole."""
    sent = store.find("payout", payout_id)
    if sent["status"] == "canceled" or sent["reversed_by"]:
        raise StripeFailure(message="This payout cannot be reversed.", began=True)
    asked = {**params, "destination": sent["destination"]}
    back = store.add(objects.payout(store, asked, -sent["amount"], sent["currency"]))
    back["original_payout"], sent["reversed_by"] = sent["id"], back["id"]
    return Outcome(back, store.commit("payout_reversal", back, sent["amount"]))


def add_dispute(store: Store, amount: int, currency: str, charge: str | None) -> Object:
    """Keep a dispute that waits for an answer."""
    dispute_id = store.new_id("dp")
    drawn = new("dispute", dispute_id, {}, amount=amount, currency=currency, charge=charge)
    return store.add({**drawn, "status": "needs_response", "reason": "general"})


def close_dispute(store: Store, params: Params, dispute_id: str) -> Outcome:
    """Give a dispute up: its amount is lost."""
    del params
    dispute = store.find("dispute", dispute_id)
    if dispute["status"] == "lost":
        raise StripeFailure(message="This dispute is closed already.", began=True)
    dispute["status"] = "lost"
    return Outcome(dispute, store.commit("dispute", dispute, dispute["amount"]))


def _moved(store: Store, thing: Object, kind: str) -> Outcome:
    return Outcome(thing, store.commit(kind, {**thing, "status": "succeeded"}, thing["amount"]))
