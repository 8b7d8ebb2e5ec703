"""A door without an SDK behind it, and its call on the wire, attempt after attempt."""

from __future__ import annotations

import json
from typing import Any

from keybrake.errors import CallRefused
from keybrake.model import vault_key as vault_keys
from keybrake.model.call import Attempt, Lookup, Reply, Request
from tests.model._vendor import Answer, Sent
from tests.model._world import World

ORIGIN = "https://api.stripe.com"
CREDENTIAL = "sk_model"
OWNER = vault_keys.fingerprint(CREDENTIAL)

# What becomes of one attempt, and how often. After those of the second line the vendor has not
# seen it; after those of the third it has, or will.
FATES = {
    "answered": 50,
    "unsent": 5,
    "reset before": 5,
    "500 before": 4,
    "429": 4,
    "409": 3,
    "reset after": 8,
    "500 after": 9,
    "late": 8,
    "garbage": 4,
}
ATTEMPTS = 3


class Flight:
    """
    One call on the wire, as the SDK's retry loop takes it.

    Attributes:
        attempts: What the door knows of, in order.
        is_over: Whether *result* or *error* is there.
    """

    def __init__(self, world: World, sent: Sent) -> None:
        self._world = world
        self._sent = sent
        self._fate: str | None = None
        self._answer: Answer | None = None
        self._left = world.dice.randint(1, ATTEMPTS)
        self.attempts: list[Attempt] = []
        self.is_over = False
        self.result: Any = None
        self.error: Exception | None = None

    def advance(self) -> None:
        """Take the next step: a request arrives, or what came of it does."""
        if self._fate is None:
            self._set_out()
        else:
            self._come_back()

    def give_up(self) -> None:
        """Wait no more: what is on the wire stays there."""
        if self._fate is None:
            self._world.mail.append(self._sent)
        self.attempts.append(Attempt(None))
        self.is_over = True

    def decode(self) -> None:
        """Have what a look-up brought as a door decodes it."""
        text, status, _ = self.result
        try:
            self.result = (json.loads(text) if status == 200 else None), status
        except ValueError as error:
            self.error = error

    def _set_out(self) -> None:
        self._fate = self._world.dice.choices([*FATES], [*FATES.values()])[0]
        self._answer = None
        if self._fate in ("answered", "reset after", "500 after", "garbage"):
            self._answer = deliver(self._world, self._sent)
        if self._fate == "late":
            self._world.mail.append(self._sent)
        self._world.tell("  wire", self._sent.method, self._sent.path, self._sent.key, self._fate)

    def _come_back(self) -> None:
        status = self._status()
        self.attempts.append(Attempt(status, unsent=self._fate == "unsent"))
        self._left -= 1
        again = status is None or status >= 500 or status in (409, 429)
        self._fate, fate = None, self._fate
        if again and self._left > 0:
            return
        self.is_over = True
        if status is None:
            self.error = ConnectionError(fate)
            return
        body = {} if self._answer is None or status != self._answer.status else self._answer.body
        text = "<html>" if fate == "garbage" else json.dumps(body)
        replayed = self._answer is not None and self._answer.replayed
        self.result = text, status, {"Idempotent-Replayed": "true"} if replayed else {}

    def _status(self) -> int | None:
        match self._fate:
            case "answered" if self._answer is not None:
                return self._answer.status
            case "garbage":
                return 200
            case "500 before" | "500 after":
                return 500
            case "429":
                return 429
            case "409":
                return 409
            case _:
                return None


def deliver(world: World, sent: Sent) -> Answer:
    """Let a request arrive: by then it is in the ledger, or the brake is broken."""
    answer = world.vendor.receive(sent)
    world.eyes.look()
    return answer


class VirtualDoor:
    """See ``keybrake.guard.call.Door``; what it forwards is a ``Flight``."""

    vault_key = None
    follows_redirects = False

    def __init__(self, world: World, method: str, path: str, params: Any, key: str | None) -> None:
        self._world = world
        self._path = path
        self.flight: Flight | None = None
        self.request = Request(
            "stripe", method, f"{ORIGIN}{path}", params, owner=OWNER, idempotency_key=key
        )

    def forward(self, idempotency_key: str | None) -> Flight:
        """See ``Door.forward``."""
        method = self.request.method
        sent = Sent(method, self._path, self.request.params, idempotency_key)
        self.flight = Flight(self._world, sent)
        return self.flight

    def look_up(self, lookup: Lookup) -> Flight:
        """See ``Door.look_up``."""
        return Flight(self._world, Sent(lookup.method, str(lookup.path), dict(lookup.params), None))

    def reply(self, answer: Any) -> Reply:
        """See ``Door.reply``."""
        assert self.flight is not None
        text, status, headers = answer
        return Reply(status, headers, text, tuple(self.flight.attempts))

    def failure(self, error: BaseException) -> Reply:
        """See ``Door.failure``."""
        assert self.flight is not None
        return Reply(attempts=tuple(self.flight.attempts))

    def as_sdk_error(self, refusal: CallRefused) -> CallRefused:
        """See ``Door.as_sdk_error``."""
        return refusal
