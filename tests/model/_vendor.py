"""A Stripe in memory that moves money, and a wire that loses what it says: by dice, without time."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from keybrake.model.clock import HOUR, SECOND

# Stripe prunes keys after 24 hours at the earliest (its documentation, noted 2026-11-23).
KEY_LIVES = 24 * HOUR
OPEN = ("requires_confirmation", "requires_payment_method")


class Sent(NamedTuple):
    """One HTTP request."""

    method: str
    path: str
    params: Mapping[str, Any]
    key: str | None


class Answer(NamedTuple):
    """One HTTP answer."""

    status: int
    body: Mapping[str, Any]
    replayed: bool = False


class _No(Exception):
    """Stripe declines. *body* may show what it declines to go on with."""

    def __init__(self, status: int, **body: Any) -> None:
        super().__init__(status)
        self.answer = Answer(status, {"error": body})


@dataclass
class VirtualStripe:
    """
    Payment intents and refunds, idempotency keys, events.

    Attributes:
        prunes: Whether it forgets a key as soon as it may.
        moved: Cents that have left somebody's account, by the idempotency key that moved them.
    """

    dice: random.Random
    now: int = 0
    prunes: bool = True
    intents: dict[str, dict[str, Any]] = field(default_factory=dict)
    refunds: dict[str, dict[str, Any]] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    _keys: dict[str, tuple[int, str, Answer]] = field(default_factory=dict)

    def receive(self, sent: Sent) -> Answer:
        """Carry a request out, once for each key, and answer it."""
        if sent.method == "GET":
            return self._get(sent)
        assert sent.key is not None
        print_of = json.dumps([sent.path, sent.params], sort_keys=True)
        at, known, answer = self._keys.get(sent.key, (-KEY_LIVES - 1, "", None))
        if answer is not None and not (self.prunes and self.now - at > KEY_LIVES):
            if known != print_of:
                return _No(400, type="idempotency_error").answer
            return answer._replace(replayed=True)
        answer = self._post(sent)
        self._keys[sent.key] = (self.now, print_of, answer)
        return answer

    def has_seen(self, key: str) -> bool:
        """Return whether a request under *key* has been carried out or declined."""
        return key in self._keys

    def worth(self, intent: Mapping[str, Any]) -> int:
        """Return what an intent has moved and may yet move, in cents."""
        if intent["status"] in OPEN:
            return int(intent["amount"])
        return int(intent["amount_received"] + intent["amount_capturable"])

    def _get(self, sent: Sent) -> Answer:
        if sent.path == "/v1/events":
            return Answer(200, {"object": "list", "data": self._listed(sent.params)})
        thing = self.intents.get(sent.path.rsplit("/", 1)[1])
        return Answer(404, {"error": {}}) if thing is None else Answer(200, dict(thing))

    def _listed(self, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        first, last = asked["created[gte]"], asked["created[lte]"]
        return [event for event in self.events[::-1] if first <= event["created"] <= last]

    def _post(self, sent: Sent) -> Answer:
        match sent.path.split("/")[2:]:
            case ["payment_intents"]:
                work, args = self._create, ()
            case ["payment_intents", made]:
                work, args = self._update, (made,)
            case ["payment_intents", made, verb]:
                work, args = getattr(self, f"_{verb}"), (made,)
            case ["refunds"]:
                work, args = self._refund, ()
        try:
            thing = work(sent, *args)
        except _No as no:
            return no.answer
        request = {"idempotency_key": sent.key}
        event = {"created": self.now // SECOND, "request": request, "data": {"object": dict(thing)}}
        self.events.append(event)
        return Answer(200, dict(thing))

    def _create(self, sent: Sent) -> dict[str, Any]:
        intent = {
            "id": f"pi_{len(self.intents)}",
            "object": "payment_intent",
            "amount": sent.params["amount"],
            "currency": sent.params["currency"],
            "status": "requires_confirmation",
            "capture_method": sent.params.get("capture_method", "automatic"),
            "amount_received": 0,
            "amount_capturable": 0,
            "key": sent.key,
        }
        self.intents[intent["id"]] = intent
        if sent.params.get("confirm"):
            self._take(sent, intent)
        return intent

    def _find(self, made: str, *states: str) -> dict[str, Any]:
        intent = self.intents.get(made)
        if intent is None:
            raise _No(404)
        if intent["status"] not in states:
            raise _No(400, type="invalid_request_error")
        return intent

    def _update(self, sent: Sent, made: str) -> dict[str, Any]:
        intent = self._find(made, *OPEN)
        intent["amount"] = sent.params["amount"]
        return intent

    def _confirm(self, sent: Sent, made: str) -> dict[str, Any]:
        intent = self._find(made, *OPEN)
        self._take(sent, intent)
        return intent

    def _take(self, sent: Sent, intent: dict[str, Any]) -> None:
        if self.dice.random() < 0.15:
            intent["status"] = "requires_payment_method"
            raise _No(402, type="card_error", payment_intent=dict(intent))
        if intent["capture_method"] == "manual":
            intent.update(status="requires_capture", amount_capturable=intent["amount"])
            return
        self._receive(sent, intent, intent["amount"])

    def _capture(self, sent: Sent, made: str) -> dict[str, Any]:
        intent = self._find(made, "requires_capture")
        cents = sent.params.get("amount_to_capture", intent["amount_capturable"])
        if cents > intent["amount_capturable"]:
            raise _No(400, type="invalid_request_error")
        self._receive(sent, intent, cents)
        return intent

    def _receive(self, sent: Sent, intent: dict[str, Any], cents: int) -> None:
        intent.update(status="succeeded", amount_received=cents, amount_capturable=0)
        self.moved[str(sent.key)] = cents

    def _cancel(self, sent: Sent, made: str) -> dict[str, Any]:
        intent = self._find(made, *OPEN, "requires_capture")
        intent.update(status="canceled", amount_capturable=0)
        return intent

    def _refund(self, sent: Sent) -> dict[str, Any]:
        intent = self._find(sent.params["payment_intent"], "succeeded")
        cents = sent.params["amount"]
        back = [r["amount"] for r in self.refunds.values() if r["payment_intent"] == intent["id"]]
        if cents + sum(back) > intent["amount_received"]:
            raise _No(400, type="invalid_request_error")
        refund = {
            "id": f"re_{len(self.refunds)}",
            "object": "refund",
            "amount": cents,
            "currency": intent["currency"],
            "status": "succeeded",
            "payment_intent": intent["id"],
            "key": sent.key,
        }
        self.refunds[refund["id"]] = refund
        self.moved[str(sent.key)] = cents
        return refund
