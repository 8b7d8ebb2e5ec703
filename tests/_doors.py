"""Doors that a call comes in by without an SDK: what a request is made of, and what it says."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keybrake
from keybrake.credentials import Credential
from keybrake.guard.call import guarded
from keybrake.guard.steps import run_steps, run_steps_async
from keybrake.model.call import Lookup, Reply, Request
from keybrake.vendors import VENDORS

URL = "https://api.stripe.com"
INTENT = {"id": "pi_1", "object": "payment_intent", "status": "succeeded", "currency": "usd"}
PAID = Reply(200, {}, json.dumps({**INTENT, "amount": 500, "amount_received": 500}))


class HandDoor:
    """A door that hands a request to a function instead of an SDK, and keeps what it was asked."""

    vault_key = None
    credential = None
    follows_redirects = True

    def __init__(self, request: Request, send: Callable[[], Reply] = lambda: PAID) -> None:
        self.request = request
        self.send = send
        self.keys: list[str | None] = []
        self.failures: list[BaseException] = []
        self.looked_up: list[Lookup] = []
        self.found: Any = (None, 404)

    def take(self, credential: Credential) -> tuple[str, str] | None:
        self.credential = credential
        self.request = replace(self.request, owner=credential.fingerprint)
        return None

    def forward(self, idempotency_key: str | None) -> Reply:
        self.keys.append(idempotency_key)
        return self.send()

    def look_up(self, lookup: Lookup) -> Any:
        self.looked_up.append(lookup)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def reply(self, answer: Reply) -> Reply:
        return answer

    def failure(self, error: BaseException) -> Reply:
        self.failures.append(error)
        return Reply()

    def as_sdk_error(self, refusal: keybrake.CallRefused) -> keybrake.CallRefused:
        refusal.hint = "as the SDK's users catch it"
        return refusal


class TaskDoor(HandDoor):
    """The same for tasks."""

    async def forward(self, idempotency_key: str | None) -> Reply:
        return super().forward(idempotency_key)

    async def look_up(self, lookup: Lookup) -> Any:
        return super().look_up(lookup)


def request(path: str = "/v1/payment_intents", method: str = "POST", **facts: Any) -> Request:
    """Return a charge of five dollars, or what *path* says."""
    params = facts.pop("params", {"amount": 500, "currency": "usd"})
    return Request("stripe", method, f"{URL}{path}", params, **facts)


def fails(error: BaseException) -> Callable[[], Reply]:
    """Return a sender that fails."""

    def send() -> Reply:
        raise error

    return send


def refund(**facts: Any) -> Request:
    """Return a refund that does not say how much it is."""
    return request("/v1/refunds", params={"payment_intent": "pi_1"}, **facts)


ASKED = VENDORS["stripe"].describe(request(), keybrake.config.settings.current().money)


def take(door: Any) -> Any:
    """Take a call the whole way in this thread."""
    return run_steps(guarded(door))


async def take_async(door: Any) -> Any:
    """Take a call the whole way in a task."""
    return await run_steps_async(guarded(door))
