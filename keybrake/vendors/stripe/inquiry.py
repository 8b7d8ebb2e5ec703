"""
Ask Stripe about a call of unknown outcome.

Stripe's events name the idempotency key of the request that caused them. If they do not help, the
request is repeated under its key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keybrake.config.settings import Money
from keybrake.model.call import Estimated, InDoubt, Outcome, Reply, State
from keybrake.model.clock import SECOND
from keybrake.vendors.inquiry import Inquiry, Judge, body_of, call_of, repeat_of, shown_as_answer

_EVENTS = "/v1/events"
_CLOCKS_DIFFER_S = 60
# By then the SDK's last attempt has ended: three attempts of 80 s, and the pauses between them.
_ATTEMPTS_LAST_S = 300


# The kind of object that each endpoint answers with. One call can cause events about several
# objects: a refund also about its charge, a confirmation about the charge it tried. Only the
# object in the answer shows the outcome of the call.
_MADE = {
    **{
        f"stripe.payment_intents.{verb}": "payment_intent"
        for verb in ("create", "update", "confirm", "capture", "cancel", "increment_authorization")
    },
    "stripe.charges.create": "charge",
    "stripe.charges.capture": "charge",
    "stripe.refunds.create": "refund",
    "stripe.transfers.create": "transfer",
    "stripe.payouts.create": "payout",
    "stripe.topups.create": "topup",
}


class StripeInquirer:
    """See ``keybrake.vendors.Inquirer``."""

    def __init__(self, stripe: Judge) -> None:
        self._stripe = stripe

    def inquiries(self, doubt: InDoubt, now: int) -> Sequence[Inquiry]:
        """See ``Inquirer.inquiries``."""
        asked = []
        if doubt.endpoint in _MADE and doubt.sent_key is not None:
            at = doubt.at // SECOND
            asked.append(
                Inquiry(
                    "GET",
                    _EVENTS,
                    {
                        "created[gte]": at - _CLOCKS_DIFFER_S,
                        "created[lte]": at + _ATTEMPTS_LAST_S,
                        "limit": 100,
                    },
                )
            )
        again = repeat_of(doubt, now)
        return [*asked, again] if again else asked

    def findings(
        self, doubt: InDoubt, inquiry: Inquiry, reply: Reply, money: Money
    ) -> Sequence[Outcome]:
        """See ``Inquirer.findings``."""
        if inquiry.idempotency_key is not None:
            ended = self._stripe.outcome(call_of(doubt), reply, money)
            proof = ended.state is State.SETTLED or (
                ended.state is State.VOIDED and ended.conclusive
            )
            return [ended] if proof else []
        for event in body_of(reply).get("data", ()):
            # Events come newest first, so the first match shows the last state that this call gave
            # the object.
            thing = _object_of(event) if _key_of(event) == doubt.sent_key else None
            if thing is not None and _is_its_answer(thing, doubt):
                ended = self._stripe.outcome(call_of(doubt), shown_as_answer(thing), money)
                if ended.state is State.SETTLED and ended.object_id is not None:
                    return [ended]
        return []

    def price_inquiry(self, estimated: Estimated) -> Inquiry | None:
        """See ``Inquirer.price_inquiry``: Stripe's amounts are in its answers."""
        del estimated
        return None


def _key_of(event: object) -> object:
    request = event.get("request") if isinstance(event, dict) else None
    return request.get("idempotency_key") if isinstance(request, dict) else None


def _object_of(event: Any) -> Mapping[str, Any] | None:
    data = event.get("data")
    thing = data.get("object") if isinstance(data, dict) else None
    return thing if isinstance(thing, dict) else None


def _is_its_answer(thing: Mapping[str, Any], doubt: InDoubt) -> bool:
    """Return whether the call would answer with *thing*: the right kind, and the same object."""
    if thing.get("object") != _MADE[doubt.endpoint]:
        return False
    return doubt.endpoint.endswith(".create") or str(thing.get("id")) in doubt.path.split("/")
