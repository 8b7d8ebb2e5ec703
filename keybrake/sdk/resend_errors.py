"""Errors of the Resend SDK: the proof in each, and a refusal as one of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from keybrake.sdk import network, sdk_errors
from keybrake.sdk.door import frames_of
from keybrake.sdk.sdk_errors import Place


def status_told(error: BaseException) -> int | None:
    """Return the status in an older SDK's error, if the error is about an answer."""
    if getattr(error, "error_type", "HttpClientError") == "HttpClientError":
        return None
    code = str(getattr(error, "code", ""))
    return int(code) if re.fullmatch(r"[1-5][0-9]{2}", code) else None


def never_left(error: BaseException, handled: BaseException | None, clients: Iterable[Any]) -> bool:
    """
    Return whether *error* proves that nothing was sent.

    Args:
        error: The SDK's error: it hides the error of its HTTP client behind an error of its
            own, with the reason in its context.
        handled: The error that the caller was handling at the call; it proves nothing.
        clients: The HTTP clients the call may have gone through.
    """
    if not isinstance(error, Exception):
        return False  # an interrupt strikes anywhere
    if getattr(error, "error_type", None) == "AsyncClientNotConfigured":
        return True
    if not all(map(_is_the_sdks_own, clients)):
        return False
    return network.never_left(error, handled) or _unprepared(error, handled)


def _is_the_sdks_own(client: Any) -> bool:
    """Return whether an HTTP client is one of the SDK's, which try once; a user's may try again."""
    return client is None or type(client).__module__ in (
        "resend.http_client_requests",
        "resend.http_client_httpx",
    )


# Functions in which HTTP clients build a request: an error there comes before sending.
_PREPARING = {
    ("requests.models", "prepare"),
    ("httpx._client", "build_request"),
    ("httpx2._client", "build_request"),
}


def _unprepared(error: BaseException | None, handled: BaseException | None) -> bool:
    """Return whether *error* arose while the request was put together: a date in the body, say."""
    seen: set[int] = set()
    while error is not None and error is not handled and id(error) not in seen:
        seen.add(id(error))
        if not _PREPARING.isdisjoint(frames_of(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


class _ResendErrors:
    """A refusal is ``ResendError``, too: 403, and no subclass that retrying code waits for."""

    def sdk_class(self) -> type[Exception]:
        """See ``ErrorShape.sdk_class``."""
        from resend.exceptions import ResendError

        return ResendError

    def start(self, error: Any, message: str) -> None:
        """See ``ErrorShape.start``."""
        from resend.exceptions import ResendError

        ResendError.__init__(error, code=403, error_type="", message=message, suggested_action="")

    def finish(self, error: Any, place: Place) -> None:
        """See ``ErrorShape.finish``."""
        del place
        error.error_type, error.suggested_action = error.reason, error.hint or ""


sdk_errors.register("resend", _ResendErrors())
