"""What a Resend error proves, and how a refusal looks to those who catch Resend's errors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from keybrake.errors import CallRefused
from keybrake.sdk import network


def status_told(error: BaseException) -> int | None:
    """Return the status an older SDK's error tells, if an answer is what it is about."""
    if getattr(error, "error_type", "HttpClientError") == "HttpClientError":
        return None
    code = str(getattr(error, "code", ""))
    return int(code) if re.fullmatch(r"[1-5][0-9]{2}", code) else None


def never_left(error: BaseException, handled: BaseException | None, clients: Iterable[Any]) -> bool:
    """
    Return whether *error* proves that nothing was sent.

    Args:
        error: What the SDK raised: it hides whatever its HTTP client says behind an error of its
            own, with the reason in its context.
        handled: What the caller was handling when it made the call; it proves nothing.
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


# Where HTTP clients put a request together: what goes wrong there goes wrong before sending.
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
        traceback = error.__traceback__
        while traceback is not None:
            code, module = traceback.tb_frame.f_code, traceback.tb_frame.f_globals.get("__name__")
            if (module, code.co_name) in _PREPARING:
                return True
            traceback = traceback.tb_next
        error = error.__cause__ or error.__context__
    return False


# Refusals that are Resend's own error as well, made when resend is there to inherit from.
_duals: dict[tuple[type[CallRefused], type], type[CallRefused]] = {}


def dual(kind: type[CallRefused]) -> type[CallRefused]:
    """Return the class of a refusal that is an error of Resend's SDK, too."""
    from resend.exceptions import ResendError

    # An SDK that was imported anew has an error class of its own.
    pair = (kind, ResendError)
    if pair not in _duals:
        # 403, as for a key that may not do this. No subclass of it that retriers wait for.
        def of_resend(self: Any, message: str) -> None:
            ResendError.__init__(
                self, code=403, error_type="", message=message, suggested_action=""
            )

        def __init__(self: Any, message: str, **fields: Any) -> None:  # noqa: N807
            kind.__init__(self, message, **fields)
            self.error_type, self.suggested_action = self.reason, self.hint or ""

        def __reduce__(self: Any) -> tuple[Any, ...]:  # noqa: N807
            return _rebuild, (kind, self.message, self.fields)

        theirs = type(ResendError.__name__, (ResendError,), {"__init__": of_resend})
        body = {
            "__init__": __init__,
            "__reduce__": __reduce__,
            "__module__": kind.__module__,
            "__doc__": kind.__doc__,
        }
        _duals[pair] = type(kind.__name__, (kind, theirs), body)
    return _duals[pair]


def _rebuild(kind: type[CallRefused], message: str, fields: dict[str, Any]) -> CallRefused:
    return dual(kind)(message, **fields)
