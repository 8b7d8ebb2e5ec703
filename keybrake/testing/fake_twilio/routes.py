"""Map a method and path to the endpoint that answers it."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from keybrake.testing.fake_twilio import messages, numbers, voice
from keybrake.testing.fake_twilio.errors import not_found
from keybrake.testing.fake_twilio.outcome import Ask, Outcome
from keybrake.testing.fake_twilio.pages import listing

Endpoint = Callable[..., Outcome]

_TO_FROM: Final = {"To": "to", "From": "from"}
_NUMBERS: Final = "/2010-04-01/Accounts/*/IncomingPhoneNumbers"


def _account(ask: Ask) -> Outcome:
    body: dict[str, Any] = {"sid": ask.account, "status": "active", "type": "Full"}
    return Outcome(body)


_ROUTES: Final[Mapping[str, Endpoint]] = {
    "GET /2010-04-01/Accounts/*.json": _account,
    "POST /2010-04-01/Accounts/*/Messages.json": messages.create,
    "GET /2010-04-01/Accounts/*/Messages.json": listing(("SM", "MM"), "messages", _TO_FROM),
    "GET /2010-04-01/Accounts/*/Messages/*.json": messages.retrieve,
    "POST /2010-04-01/Accounts/*/Messages/*.json": messages.update,
    "DELETE /2010-04-01/Accounts/*/Messages/*.json": messages.delete,
    "POST /2010-04-01/Accounts/*/Messages/*/Feedback.json": messages.feedback,
    "POST /2010-04-01/Accounts/*/Calls.json": voice.create,
    "GET /2010-04-01/Accounts/*/Calls.json": listing(
        ("CA",), "calls", {**_TO_FROM, "Status": "status"}
    ),
    "GET /2010-04-01/Accounts/*/Calls/*.json": voice.retrieve,
    "POST /2010-04-01/Accounts/*/Calls/*.json": voice.update,
    "POST /2010-04-01/Accounts/*/Calls/*/Recordings.json": voice.record,
    "GET /2010-04-01/Accounts/*/Calls/*/Recordings/*.json": voice.retrieve_recording,
    "GET /2010-04-01/Accounts/*/Recordings/*.json": voice.retrieve_recording,
    f"POST {_NUMBERS}.json": numbers.buy,
    f"GET {_NUMBERS}.json": listing(
        ("PN",), "incoming_phone_numbers", {"PhoneNumber": "phone_number"}
    ),
    f"GET {_NUMBERS}/*.json": numbers.retrieve,
    f"DELETE {_NUMBERS}/*.json": numbers.release,
    "GET /v1/PhoneNumbers/*": numbers.look_up,
    "GET /v2/PhoneNumbers/*": numbers.look_up,
    "POST /v2/Services/*/Verifications": numbers.verify,
    "GET /v2/Services/*/Verifications/*": numbers.retrieve_verification,
    "POST /v2/Services/*/VerificationCheck": numbers.check,
    "GET /v2/Attempts/*": numbers.retrieve_attempt,
}
_PATTERNS: Final = tuple(
    (re.compile(re.escape(route).replace(r"\*", "([^/]+?)")), endpoint)
    for route, endpoint in _ROUTES.items()
)


def find(method: str, path: str) -> tuple[Endpoint, tuple[str, ...]]:
    """Return the endpoint for *method* and *path*, and the ids in the path after the account."""
    for pattern, endpoint in _PATTERNS:
        match = pattern.fullmatch(f"{method} {path}")
        if match:
            ids = match.groups()
            return endpoint, ids[1:] if path.startswith("/2010-04-01/") else ids
    raise not_found(path)
