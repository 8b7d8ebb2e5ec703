"""A refusal as whoever uses the Stripe SDK catches it."""

from __future__ import annotations

from typing import Any

from keybrake.errors import CallRefused

# Refusals that are Stripe's own error as well, made when stripe is there to inherit from.
_duals: dict[tuple[type[CallRefused], type], type[CallRefused]] = {}


def dual(kind: type[CallRefused]) -> type[CallRefused]:
    """Return a kind of refusal that is ``stripe.PermissionError``, too."""
    import stripe

    # An SDK that was imported anew has an error class of its own.
    pair = (kind, stripe.PermissionError)
    if pair not in _duals:
        # 403, which the SDK never retries, and which users' handlers for a restricted key know.
        def __init__(self: Any, message: str, **fields: Any) -> None:  # noqa: N807
            kind.__init__(self, message, **fields)
            stripe.PermissionError.__init__(
                self, message, http_status=403, code=fields.get("reason")
            )

        def __reduce__(self: Any) -> tuple[Any, ...]:  # noqa: N807
            return _rebuild, (kind, self.message, self.fields)

        body = {
            "__init__": __init__,
            "__reduce__": __reduce__,
            "__module__": kind.__module__,
            "__doc__": kind.__doc__,
        }
        _duals[pair] = type(kind.__name__, (kind, stripe.PermissionError), body)
    return _duals[pair]


def _rebuild(kind: type[CallRefused], message: str, fields: dict[str, Any]) -> CallRefused:
    return dual(kind)(message, **fields)
