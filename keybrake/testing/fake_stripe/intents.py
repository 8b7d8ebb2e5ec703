"""Serve the payment intent endpoints."""

from typing import Final

from keybrake.testing.fake_stripe import charges, confirmation, objects
from keybrake.testing.fake_stripe.errors import StripeFailure, unexpected_state
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import (
    Params,
    as_sent,
    choice,
    flag,
    metadata,
    optional_amount,
    required_amount,
    required_currency,
    subset,
)
from keybrake.testing.fake_stripe.store import Store, now

_OPEN: Final = frozenset({"requires_payment_method", "requires_confirmation", "requires_action"})
# The first one is the default since API version 2024-04-10.
_METHODS: Final = ("automatic_async", "automatic", "manual")


def create(store: Store, params: Params) -> Outcome:
    """Create an intent, and confirm it at once if the request says so."""
    amount, currency = required_amount(params), required_currency(params)
    capture_method = choice(params, "capture_method", _METHODS, _METHODS[0])
    confirm_now, unattended = flag(params, "confirm"), confirmation.is_unattended(params)
    store.refer("customer", params)
    token = confirmation.token_of(params)
    if confirm_now and token is None:
        raise StripeFailure(
            message="An intent without a payment method cannot be confirmed.",
            code="payment_intent_unexpected_state",
        )
    intent = objects.payment_intent(store, params, amount, currency)
    intent["capture_method"] = capture_method
    confirmation.attach(store, intent, token)
    if flag(subset(params, "automatic_payment_methods"), "enabled"):
        intent["automatic_payment_methods"] = {"enabled": True}
    store.add(intent)
    if confirm_now:
        return confirmation.charge_card(store, intent, params, unattended=unattended)
    return Outcome(intent, store.commit("charge", intent, amount))


def update(store: Store, params: Params, intent_id: str) -> Outcome:
    """Update an intent; its amount may change only while it is open."""
    intent = store.find("payment_intent", intent_id)
    amount = optional_amount(params)
    if {"amount", "currency"} & set(params) and intent["status"] not in _OPEN:
        raise unexpected_state(intent, "update the amount of")
    currency = required_currency(params) if "currency" in params else intent["currency"]
    store.refer("customer", params)
    token = confirmation.token_of(params)
    intent |= as_sent(params, (*objects.INTENT_TEXTS, "customer"))
    intent |= {"metadata": metadata(params, intent["metadata"]), "currency": currency}
    if token is not None and intent["status"] in _OPEN:
        confirmation.attach(store, intent, token)
    if amount is None:
        return Outcome(intent)
    intent["amount"] = amount
    return Outcome(intent, store.commit("charge", intent, amount))


def confirm(store: Store, params: Params, intent_id: str) -> Outcome:
    """Confirm an intent: charge its card."""
    intent = store.find("payment_intent", intent_id)
    if intent["status"] not in _OPEN:
        raise unexpected_state(intent, "confirm")
    amount = optional_amount(params, "amount_to_confirm")
    token, unattended = confirmation.token_of(params), confirmation.is_unattended(params)
    if token is not None:
        confirmation.attach(store, intent, token)
    if intent["payment_method"] is None:
        raise unexpected_state(intent, "confirm")
    intent["amount"] = amount or intent["amount"]
    return confirmation.charge_card(store, intent, params, unattended=unattended)


def capture(store: Store, params: Params, intent_id: str) -> Outcome:
    """Capture the held amount or a part; release the rest if this is the final capture."""
    intent = store.find("payment_intent", intent_id)
    if intent["status"] != "requires_capture":
        raise unexpected_state(intent, "capture")
    held = intent["amount_capturable"]
    amount = optional_amount(params, "amount_to_capture") or held
    final = flag(params, "final_capture", default=True)
    notes = metadata(params, intent["metadata"])
    if amount > held:
        raise StripeFailure(
            message=f"amount_to_capture ({amount}) is more than what is held ({held}).",
            began=True,
            code="amount_too_large",
            param="amount_to_capture",
        )
    rest = 0 if final else held - amount
    intent |= {
        "amount_capturable": rest,
        "amount_received": intent["amount_received"] + amount,
        "metadata": notes,
    }
    if rest == 0:
        intent["status"] = "succeeded"
        paid = store.find("charge", intent["latest_charge"])
        charges.take(store, paid, intent["amount_received"])
    return Outcome(
        intent,
        store.no_move("charge", intent, amount, standing=intent["amount_received"] + rest),
    )


def cancel(store: Store, params: Params, intent_id: str) -> Outcome:
    """Cancel an intent; an amount that was captured already stays captured."""
    intent = store.find("payment_intent", intent_id)
    if intent["status"] not in _OPEN | {"requires_capture"}:
        raise unexpected_state(intent, "cancel")
    received = intent["amount_received"]
    if intent["status"] == "requires_capture":
        charges.release(store, store.find("charge", intent["latest_charge"]), kept=received)
    intent |= {
        "status": "succeeded" if received else "canceled",
        "amount_capturable": 0,
        "canceled_at": now(),
        "cancellation_reason": params.get("cancellation_reason") or None,
    }
    return Outcome(intent, store.no_move("charge", intent, intent["amount"], standing=received))


def increment(store: Store, params: Params, intent_id: str) -> Outcome:
    """Raise the held amount to a new total."""
    intent = store.find("payment_intent", intent_id)
    amount = required_amount(params)
    if intent["status"] != "requires_capture":
        raise unexpected_state(intent, "increment the authorization of")
    if amount <= intent["amount"]:
        raise StripeFailure(
            message=f"The new total ({amount}) must be more than the old ({intent['amount']}).",
            began=True,
            param="amount",
        )
    intent |= as_sent(params, ("description", "statement_descriptor", "transfer_data"))
    intent |= {
        "amount": amount,
        "amount_capturable": amount - intent["amount_received"],
        "metadata": metadata(params, intent["metadata"]),
    }
    paid = store.find("charge", intent["latest_charge"])
    paid["amount"] = amount
    return Outcome(intent, store.commit("charge", intent, amount))
