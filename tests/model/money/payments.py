"""Payment intents, charges, refunds, payouts and transfers of the stub, as Stripe documents them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.model.money.routes import readable, route
from tests.model.money.world import Declined, Object, World, amount, flag, whole

Form = Mapping[str, Any]


def _as_it_is(world: World, made: Object) -> Object:
    del world
    return made


@route("payment_intents.create", "POST", "/v1/payment_intents")
def create_intent(world: World, form: Form) -> Object:
    """Make an intent; with ``confirm`` its payment is made, or held for a capture, at once."""
    intent = world.new(
        "pi",
        "payment_intent",
        amount=amount(form),
        currency="usd",
        amount_received=0,
        amount_capturable=0,
        status="requires_confirmation",
        capture_method=form.get("capture_method", "automatic"),
        latest_charge=None,
        customer=form.get("customer"),
    )
    if flag(form.get("confirm")):
        _confirm(world, intent)
    return intent


def _confirm(world: World, intent: Object) -> None:
    manual = intent["capture_method"] == "manual"
    charge = new_charge(world, intent["id"], intent["amount"], captured=not manual)
    intent["latest_charge"] = charge["id"]
    if manual:
        intent.update(status="requires_capture", amount_capturable=intent["amount"])
    else:
        intent.update(status="succeeded", amount_received=intent["amount"])
        world.move("charge", intent["id"], intent["amount"])


def new_charge(world: World, of: str | None, cents: int, *, captured: bool = True) -> Object:
    """Make a charge of an intent or invoice, or one that stands alone."""
    return world.new(
        "ch",
        "charge",
        like=of,
        amount=cents,
        amount_captured=cents if captured else 0,
        amount_refunded=0,
        captured=captured,
        currency="usd",
        paid=True,
        refunded=False,
        status="succeeded",
        payment_intent=of if of and of.startswith("pi_") else None,
    )


@route("payment_intents.confirm", "POST", "/v1/payment_intents/{}/confirm")
def confirm_intent(world: World, form: Form, intent_id: str) -> Object:
    """Pay, or hold, what the intent is for."""
    del form
    intent = world.get(intent_id, "payment_intent")
    _must(intent, "requires_confirmation")
    _confirm(world, intent)
    return intent


@route("payment_intents.update", "POST", "/v1/payment_intents/{}")
def update_intent(world: World, form: Form, intent_id: str) -> Object:
    """Change the amount of an intent that was not confirmed yet."""
    intent = world.get(intent_id, "payment_intent")
    if "amount" in form:
        _must(intent, "requires_confirmation")
        intent["amount"] = amount(form)
    return intent


@route(
    "payment_intents.increment_authorization",
    "POST",
    "/v1/payment_intents/{}/increment_authorization",
)
def increment(world: World, form: Form, intent_id: str) -> Object:
    """Hold more: the amount is the new total."""
    intent = world.get(intent_id, "payment_intent")
    _must(intent, "requires_capture")
    total = amount(form)
    if total <= intent["amount"]:
        raise Declined(400, "The new amount must be greater than the one that is authorized")
    intent.update(amount=total, amount_capturable=total)
    world.objects[intent["latest_charge"]]["amount"] = total
    return intent


@route("payment_intents.cancel", "POST", "/v1/payment_intents/{}/cancel")
def cancel_intent(world: World, form: Form, intent_id: str) -> Object:
    """Let go of what is held; an intent that was paid cannot be canceled."""
    del form
    intent = world.get(intent_id, "payment_intent")
    _must(intent, "requires_confirmation", "requires_capture")
    intent.update(status="canceled", amount_capturable=0)
    if intent["latest_charge"]:
        charge = world.objects[intent["latest_charge"]]
        charge.update(refunded=True, amount_refunded=charge["amount"])
    return intent


@route("payment_intents.capture", "POST", "/v1/payment_intents/{}/capture")
def capture_intent(world: World, form: Form, intent_id: str) -> Object:
    """Take what is held, or a part of it; the rest is let go."""
    intent = world.get(intent_id, "payment_intent")
    _must(intent, "requires_capture")
    _capture(world, world.objects[intent["latest_charge"]], form.get("amount_to_capture"))
    return intent


def _capture(world: World, charge: Object, asked: Any) -> None:
    cents = whole(asked, charge["amount"])
    if charge["captured"] or charge["refunded"] or not 0 < cents <= charge["amount"]:
        raise Declined(400, "This charge cannot be captured")
    # Stripe gives the rest back as a partial refund of money that was never taken.
    charge.update(captured=True, amount_captured=cents, amount_refunded=charge["amount"] - cents)
    intent = world.objects.get(charge["payment_intent"] or "")
    if intent is not None:
        intent.update(status="succeeded", amount_received=cents, amount_capturable=0)
    world.move("charge", charge["payment_intent"] or charge["id"], cents)


@route("charges.create", "POST", "/v1/charges")
def create_charge(world: World, form: Form) -> Object:
    """Charge at once, or hold the amount with ``capture=false``."""
    captured = not ("capture" in form and not flag(form["capture"]))
    charge = new_charge(world, None, amount(form), captured=captured)
    if captured:
        world.move("charge", charge["id"], charge["amount"])
    return charge


@route("charges.capture", "POST", "/v1/charges/{}/capture")
def capture_charge(world: World, form: Form, charge_id: str) -> Object:
    """Take what a charge holds."""
    charge = world.get(charge_id, "charge")
    _capture(world, charge, form.get("amount"))
    return charge


@route("refunds.create", "POST", "/v1/refunds")
def create_refund(world: World, form: Form) -> Object:
    """Give back an amount, or all that is left; what was only held is let go, and moves nothing."""
    charge = _refunded(world, form)
    left = charge["amount"] - charge["amount_refunded"]
    cents = whole(form.get("amount"), left)
    if not 0 < cents <= left:
        raise Declined(400, "The refund is greater than what is left of the charge")
    intent = world.objects.get(charge["payment_intent"] or "")
    if not charge["captured"]:
        if cents != left:
            raise Declined(400, "Only the whole of an uncaptured charge can be refunded")
        if intent is not None:
            intent.update(status="canceled", amount_capturable=0)
    charge["amount_refunded"] += cents
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    refund = world.new(
        "re",
        "refund",
        amount=cents,
        currency="usd",
        charge=charge["id"],
        payment_intent=charge["payment_intent"],
        status="succeeded",
    )
    if charge["captured"]:
        world.move("refund", refund["id"], cents)
    return refund


def _refunded(world: World, form: Form) -> Object:
    if form.get("charge"):
        return world.get(form["charge"], "charge")
    intent = world.get(form.get("payment_intent"), "payment_intent")
    if intent["latest_charge"] is None:
        raise Declined(400, "This PaymentIntent does not have a successful charge to refund")
    return world.get(intent["latest_charge"], "charge")


@route("payouts.create", "POST", "/v1/payouts")
def create_payout(world: World, form: Form) -> Object:
    """Send money to the bank account."""
    payout = world.new("po", "payout", amount=amount(form), currency="usd", status="pending")
    world.move("payout", payout["id"], payout["amount"])
    return payout


@route("transfers.create", "POST", "/v1/transfers")
def create_transfer(world: World, form: Form) -> Object:
    """Send money to a connected account; without an amount, all of a charge."""
    source = form.get("source_transaction")
    if source and "amount" not in form:
        cents = world.get(source, "charge")["amount_captured"]
    else:
        cents = amount(form)
    transfer = world.new("tr", "transfer", amount=cents, currency="usd", amount_reversed=0)
    world.move("transfer", transfer["id"], cents)
    return transfer


@route("transfers.reversals.create", "POST", "/v1/transfers/{}/reversals")
def create_reversal(world: World, form: Form, transfer_id: str) -> Object:
    """Take a transfer back, or a part of it."""
    transfer = world.get(transfer_id, "transfer")
    left = transfer["amount"] - transfer["amount_reversed"]
    cents = whole(form.get("amount"), left)
    if not 0 < cents <= left:
        raise Declined(400, "The reversal is greater than what is left of the transfer")
    transfer["amount_reversed"] += cents
    made = {"amount": cents, "currency": "usd", "transfer": transfer_id}
    reversal = world.new("trr", "transfer_reversal", **made)
    world.move("reversal", reversal["id"], cents)
    return reversal


_PAYOUT_INTENTS = "/v2/money_management/payout_intents"


@route("v2.money_management.payout_intents.create", "POST", _PAYOUT_INTENTS)
def create_payout_intent(world: World, form: Form) -> Object:
    """Name a payout, which moves nothing until it is confirmed."""
    money = {"value": amount(form["amount"], "value"), "currency": "usd"}
    kind = "v2.money_management.payout_intent"
    created = "2026-01-01T00:00:00Z"
    return world.new("poi", kind, amount=money, status="requires_confirmation", created=created)


@route("v2.money_management.payout_intents.update", "POST", f"{_PAYOUT_INTENTS}/{{}}")
def update_payout_intent(world: World, form: Form, intent_id: str) -> Object:
    """Change the amount of a payout that was not confirmed yet."""
    intent = world.get(intent_id, "v2.money_management.payout_intent")
    _must(intent, "requires_confirmation")
    if "amount" in form:
        intent["amount"]["value"] = amount(form["amount"], "value")
    return intent


@route("v2.money_management.payout_intents.confirm", "POST", f"{_PAYOUT_INTENTS}/{{}}/confirm")
def confirm_payout_intent(world: World, form: Form, intent_id: str) -> Object:
    """Pay out."""
    del form
    intent = world.get(intent_id, "v2.money_management.payout_intent")
    _must(intent, "requires_confirmation")
    intent["status"] = "processing"
    world.move("payout", intent_id, intent["amount"]["value"])
    return intent


def _must(made: Object, *states: str) -> None:
    if made["status"] not in states:
        raise Declined(400, f"{made['id']} has the status {made['status']}")


def confirm_what_is_open(world: World) -> None:
    """Let customers confirm every intent that waits for them: they hold its client secret."""
    for intent in world.all("payment_intent", status="requires_confirmation"):
        _confirm(world, intent)


readable("payment_intents", "/v1/payment_intents", "payment_intent", _as_it_is)
readable("charges", "/v1/charges", "charge", _as_it_is)
readable("refunds", "/v1/refunds", "refund", _as_it_is)
readable("payouts", "/v1/payouts", "payout", _as_it_is)
readable("transfers", "/v1/transfers", "transfer", _as_it_is)
readable(
    "v2.money_management.payout_intents",
    _PAYOUT_INTENTS,
    "v2.money_management.payout_intent",
    _as_it_is,
)
