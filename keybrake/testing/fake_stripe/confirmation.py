"""Confirm a payment intent: attach a payment method and charge its card."""

from typing import Any, Final

from keybrake.testing.fake_stripe import charges, objects
from keybrake.testing.fake_stripe.cards import Card, card_for
from keybrake.testing.fake_stripe.errors import StripeFailure, not_found
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import Params, flag, subset
from keybrake.testing.fake_stripe.store import Object, Store

_METHOD_PREFIXES: Final = ("pm_", "card_", "src_", "ba_", "tok_")


def charge_card(store: Store, intent: Object, params: Params, *, unattended: bool) -> Outcome:
    """Charge the card of *intent*; fail if it is declined, wait if it needs authentication."""
    card = card_for(store.tokens.get(intent["payment_method"], ""))
    if card.decline is not None or (card.needs_action and unattended):
        raise _declined(store, intent, card)
    if card.needs_action:
        intent |= {"status": "requires_action", "next_action": _next_action(params)}
        return Outcome(intent, store.commit("charge", intent, intent["amount"]))
    paid = _charge(store, intent, card)
    intent |= {"latest_charge": paid["id"], "last_payment_error": None, "next_action": None}
    if intent["capture_method"] == "manual":
        intent |= {"status": "requires_capture", "amount_capturable": intent["amount"]}
    else:
        charges.take(store, paid, intent["amount"])
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
    return Outcome(intent, store.commit("charge", intent, intent["amount"]))


def _charge(store: Store, intent: Object, card: Card) -> Object:
    paid = objects.charge(store, intent, intent["amount"], intent["currency"], card)
    paid |= {"payment_intent": intent["id"], "payment_method": intent["payment_method"]}
    return store.add(paid)


def _declined(store: Store, intent: Object, card: Card) -> StripeFailure:
    error: dict[str, Any] = {"code": "authentication_required"}
    message = "The card requires its owner to authenticate the payment."
    if card.decline is not None:
        message = card.decline.message
        error = {"code": card.decline.code, "decline_code": card.decline.decline_code}
        paid = _charge(store, intent, card)
        intent["latest_charge"] = error["charge"] = paid["id"]
    error["payment_method"] = {"id": intent["payment_method"], "object": "payment_method"}
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "last_payment_error": {**error, "message": message, "type": "card_error"},
    }
    move = store.no_move("charge", intent, intent["amount"], standing=intent["amount"])
    return StripeFailure(
        message=message,
        status=402,
        kind="card_error",
        began=True,
        move=move,
        payment_intent=intent,
        **error,
    )


def token_of(params: Params) -> str | None:
    """Return the payment method in the request, or None if there is none."""
    if params.get("payment_method"):
        token = str(params["payment_method"])
        if not token.startswith(_METHOD_PREFIXES):
            raise not_found(
                kind="payment_method", object_id=token, param="payment_method", status=400
            )
        return token
    return "pm_card_visa" if subset(params, "payment_method_data") else None


def attach(store: Store, intent: Object, token: str | None) -> None:
    """Attach the payment method of *token* to *intent*; None changes nothing."""
    if token is None:
        return
    method = token
    if token.startswith(("pm_card_", "tok_")):
        # As at Stripe, each use of a test token creates a new payment method.
        method = store.new_id("pm")
        store.tokens[method] = token
    intent |= {"payment_method": method, "status": "requires_confirmation"}


def is_unattended(params: Params) -> bool:
    """Return whether the customer is absent and cannot authenticate the payment."""
    # off_session is a boolean, "one_off" or "recurring".
    off_session = str(params.get("off_session", "false")).lower() not in {"false", ""}
    return flag(params, "error_on_requires_action") or off_session


def _next_action(params: Params) -> Object:
    if params.get("return_url"):
        to = {"return_url": params["return_url"], "url": "https://authenticate.example/"}
        return {"type": "redirect_to_url", "redirect_to_url": to}
    return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
