"""Which extra headers of a caller's would make the wire say something else than was decided on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The SDKs apply a caller's extra headers last. The first two would override the decision;
# the others would have a server or proxy read another method or path.
_REWRITING = frozenset(
    {
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-forwarded-uri",
        "x-original-url",
        "x-rewrite-url",
    }
)
_NOT_YOURS = _REWRITING | {
    "authorization",
    "idempotency-key",
    "host",
    "content-length",
    "transfer-encoding",
}
STEERING = _REWRITING | {"idempotency-key", "stripe-account", "stripe-context"}
"""Headers of an HTTP client that must not differ from the SDK's."""


def overridden(headers: Mapping[Any, Any]) -> tuple[str, str] | None:
    """Return why a call with these extra headers may not go out; None: they change nothing."""
    found = sorted(_NOT_YOURS & {name_of(header).replace("_", "-") for header in headers})
    if not found:
        return None
    return "header_override", f"the extra header {found[0]!r} would override what was decided on"


def name_of(header: Any) -> str:
    """Return a header's name in lower case, whatever type and spelling it came in."""
    # The text itself: a subclass may say something else of itself than is sent.
    text = str.__str__(header) if isinstance(header, str) else str(header)
    text = header.decode("latin-1") if isinstance(header, bytes) else text
    return text.strip().lower()
