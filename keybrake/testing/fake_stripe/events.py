"""Record and list events: one for each request that created or changed an object."""

import copy
from typing import Final

from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import Params
from keybrake.testing.fake_stripe.store import Object, Store, now
from keybrake.testing.server import Request

_KINDS: Final = {"payment_intent", "charge", "refund", "transfer", "payout", "topup"}
# The last word of an event's type, if it is neither "created" nor "updated".
_WORDS: Final = {
    ("payment_intent", "succeeded"): "succeeded",
    ("payment_intent", "canceled"): "canceled",
    ("payment_intent", "requires_action"): "requires_action",
    ("payment_intent", "requires_capture"): "amount_capturable_updated",
    ("charge", "succeeded"): "succeeded",
    ("payout", "canceled"): "canceled",
    ("topup", "succeeded"): "succeeded",
    ("topup", "canceled"): "canceled",
}


def record(store: Store, thing: Object, request: Request, request_id: str) -> None:
    """Record the state of *thing* after a request that may have changed it."""
    kind = thing.get("object", "")
    if request.method == "GET" or kind not in _KINDS:
        return
    usual = "created" if request.path.rpartition("/")[0] == "/v1" else "updated"
    store.add(
        {
            "id": store.new_id("evt"),
            "object": "event",
            "type": f"{kind}.{_WORDS.get((kind, thing.get('status', '')), usual)}",
            "created": now(),
            "data": {"object": copy.deepcopy(thing)},
            "request": {
                "id": request_id,
                "idempotency_key": request.headers.get("idempotency-key"),
            },
            "livemode": False,
            "pending_webhooks": 0,
        }
    )


def listed(store: Store, params: Params) -> Outcome:
    """List the events, newest first."""
    return Outcome(store.page("event", "/v1/events", params, {"type": "type"}))
