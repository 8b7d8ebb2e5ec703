"""Build Twilio's error answers."""

from typing import Any, Final

_DOCS: Final = "https://www.twilio.com/docs/errors/"


class TwilioFailure(Exception):
    """
    A request that ends in an error answer.

    Args:
        message: The message for people.
        code: Twilio's number of the error.
        status: The HTTP status.

    """

    def __init__(self, *, message: str, code: int, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {
            "code": code,
            "message": message,
            "more_info": f"{_DOCS}{code}",
            "status": status,
        }


def missing(param: str, code: int) -> TwilioFailure:
    """Return the failure for a required *param* that is missing."""
    return TwilioFailure(message=f"A '{param}' is required.", code=code)


def not_found(path: str) -> TwilioFailure:
    """Return the failure for a *path* that does not exist."""
    return TwilioFailure(
        message=f"The requested resource {path} was not found", code=20404, status=404
    )


def unauthorized() -> TwilioFailure:
    """Return the failure for an invalid credential, without repeating the credential."""
    return TwilioFailure(message="Authenticate", code=20003, status=401)


# Twilio's magic test numbers (twilio.com/docs/iam/test-credentials, read 2026-11-23).
_BAD_TO: Final = {
    "+15005550001": (21211, "is not a valid phone number"),
    "+15005550002": (21612, "cannot be reached from that number"),
    "+15005550003": (21408, "is in a region without permission"),
    "+15005550004": (21610, "is on the deny list"),
    "+15005550009": (21614, "cannot receive messages"),
}
_BAD_FROM: Final = {
    "+15005550001": (21212, "is not a valid phone number"),
    "+15005550007": (21606, "is not a number of this account"),
    "+15005550008": (21611, "has too many messages waiting"),
}


def check_numbers(to: str, sender: str) -> None:
    """Raise the error that belongs to each of Twilio's magic test numbers."""
    for field, number, known in (("To", to, _BAD_TO), ("From", sender, _BAD_FROM)):
        if number in known:
            code, why = known[number]
            raise TwilioFailure(message=f"The '{field}' number {number} {why}.", code=code)


def of_reason(reason: str) -> TwilioFailure:
    """Return the failure for a reason of ``Vendor.failure``."""
    match reason:
        case "rate_limited":
            return TwilioFailure(message="Too Many Requests", code=20429, status=429)
        case "key_in_use" | "key_reused":
            return TwilioFailure(message="Conflict", code=20409, status=409)
        case _:
            return TwilioFailure(message="Internal Server Error", code=20500, status=500)
