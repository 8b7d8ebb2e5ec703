"""Say no the way Stripe does."""

from typing import Any, Final

from keybrake.testing.journal import Move

_DOCS: Final = "https://stripe.com/docs/error-codes/"


class StripeFailure(Exception):
    """
    A request that ends in an error answer.

    Args:
        message: For people.
        status: The HTTP status.
        kind: Stripe's ``type``.
        began: Whether it was carried out before it failed, so that its answer is kept.
        move: What became of the position it was about.
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
    """Say that *param* has to be given."""
    return StripeFailure(
        message=f"Required parameter not given: {param}.", code="parameter_missing", param=param
    )


def not_found(kind: str, object_id: str, param: str, status: int = 404) -> StripeFailure:
    """Say that there is no object *object_id*."""
    name = kind.replace("_", " ")
    return StripeFailure(
        message=f"No such {name}: '{object_id}'",
        status=status,
        code="resource_missing",
        param=param,
    )


def unexpected_state(intent: dict[str, Any], verb: str) -> StripeFailure:
    """Say that the status of *intent* does not allow *verb*."""
    return StripeFailure(
        message=f"You cannot {verb} this PaymentIntent: its status is {intent['status']}.",
        began=True,
        code="payment_intent_unexpected_state",
        payment_intent=intent,
    )


def unauthorized(*, given: bool) -> StripeFailure:
    """Say that no valid key came; *given* tells whether one came at all."""
    # Stripe echoes part of the key here. A fake that tests for leaks must not.
    message = "Invalid API key provided." if given else "You did not provide an API key."
    return StripeFailure(message=message, status=401)


def unknown_url(method: str, path: str) -> StripeFailure:
    """Say that there is nothing at *path*."""
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
                message="This idempotency key came with other parameters before.",
                kind="idempotency_error",
            )
        case "rate_limited":
            return StripeFailure(message="Too many requests.", status=429, code="rate_limit")
        case _:
            return StripeFailure(
                message="Something went wrong on our side.", status=500, kind="api_error"
            )
