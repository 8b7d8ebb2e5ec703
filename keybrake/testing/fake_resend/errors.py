"""Build Resend's error answers."""

from typing import Any


class ResendFailure(Exception):
    """
    A request that ends in an error answer.

    Args:
        name: Resend's name of the error.
        message: The message for people.
        status: The HTTP status.

    """

    def __init__(self, name: str, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"statusCode": status, "name": name, "message": message}


def missing(field: str) -> ResendFailure:
    """Return the failure for a required *field* that is missing."""
    return ResendFailure("missing_required_field", f"Missing `{field}` field.")


def invalid(field: str, why: str) -> ResendFailure:
    """Return the failure for a *field* with an invalid value."""
    return ResendFailure("validation_error", f"Invalid `{field}` field. {why}")


def not_found(kind: str) -> ResendFailure:
    """Return the failure for an object that does not exist."""
    return ResendFailure("not_found", f"{kind.capitalize()} not found", 404)


def unauthorized(*, given: bool) -> ResendFailure:
    """Return the failure for an invalid key, or for a missing one if *given* is false."""
    if given:
        return ResendFailure("invalid_api_key", "API key is invalid", 403)
    return ResendFailure("missing_api_key", "Missing API key", 401)


def of_reason(reason: str) -> ResendFailure:
    """Return the failure for a reason of ``Vendor.failure``."""
    match reason:
        case "key_in_use":
            return ResendFailure(
                "concurrent_idempotent_requests",
                "A request with this idempotency key is still being carried out.",
                409,
            )
        case "key_reused":
            return ResendFailure(
                "invalid_idempotent_request",
                "This idempotency key was used with another body before.",
                409,
            )
        case "rate_limited":
            return ResendFailure("rate_limit_exceeded", "Too many requests.", 429)
        case _:
            return ResendFailure("application_error", "Something went wrong on our side.", 500)
