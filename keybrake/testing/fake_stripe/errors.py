"""Build Stripe's error answers."""

from typing import Any, Final

from keybrake.testing.journal import Move

_DOCS: Final = "https://stripe.com/docs/error-codes/"


class StripeFailure(Exception):
    """
    A request that ends in an error answer.

    Args:
        message: The message for people.
        status: The HTTP status.
        kind: Stripe's ``type``.
        began: Whether Stripe began to carry out the request; if so, a retry gets the same answer.
        move: The effect on the position of the request.
        more: Further fields of the error object.

    """

    def __init__(
        self,
        *,
        message: str,
        status: int = 400,
        kind: str = "invalid_request_error",
        began: bool = False,
        move: Move | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.began = began
        self.move = move
        self.error: dict[str, Any] = {"message": message, "type": kind}
        self.error |= {name: value for name, value in more.items() if value is not None}
        if "code" in self.error:
            self.error["doc_url"] = _DOCS + str(self.error["code"]).replace("_", "-")


def missing(param: str) -> StripeFailure:
    """Return the failure for a required *param* that is missing."""
    return StripeFailure(
        message=f"Required parameter not given: {param}.", code="parameter_missing", param=param
    )


def not_found(kind: str, object_id: str, param: str, status: int = 404) -> StripeFailure:
    """Return the failure for an *object_id* that does not exist."""
    name = kind.replace("_", " ")
    return StripeFailure(
        message=f"No such {name}: '{object_id}'",
        status=status,
        code="resource_missing",
        param=param,
    )


def unexpected_state(intent: dict[str, Any], verb: str) -> StripeFailure:
    """Return the failure for a *verb* that the status of *intent* does not allow."""
    return StripeFailure(
        message=f"You cannot {verb} this PaymentIntent: its status is {intent['status']}.",
        began=True,
        code="payment_intent_unexpected_state",
        payment_intent=intent,
    )


def unauthorized(*, given: bool) -> StripeFailure:
    """Return the failure for an invalid key, or for a missing one if *given* is false."""
    # Stripe repeats part of the key here. The fake must not, because tests search for leaked keys.
    message = "Invalid API key provided." if given else "You did not provide an API key."
    return StripeFailure(message=message, status=401)


def unknown_url(method: str, path: str) -> StripeFailure:
    """Return the failure for a *path* that does not exist."""
    return StripeFailure(message=f"Unrecognized request URL ({method}: {path}).", status=404)


def of_reason(reason: str) -> StripeFailure:
    """Return the failure for a reason of ``Vendor.failure``."""
    match reason:
        case "key_in_use":
            return StripeFailure(
                message="Another request with this idempotency key is still being carried out.",
                status=409,
                kind="idempotency_error",
                code="idempotency_key_in_use",
            )
        case "key_reused":
            return StripeFailure(
                message="This idempotency key was used with other parameters before.",
                kind="idempotency_error",
            )
        case "rate_limited":
            return StripeFailure(message="Too many requests.", status=429, code="rate_limit")
        case _:
            return StripeFailure(
                message="Something went wrong on our side.", status=500, kind="api_error"
            )
