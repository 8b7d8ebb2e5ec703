"""The attempts of a Twilio call: each use of an HTTP client, and the proof in its error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

from keybrake.model.call import Attempt
from keybrake.sdk import injection, network, redirects
from keybrake.sdk.door import frames_of
from keybrake.sdk.handed import handed
from keybrake.wire import hosts


class Seen(redirects.Flight):
    """
    The HTTP attempts of one call.

    Attributes:
        headers: The very object that was handed down: the mark of this call, and no other.
        error: The error of the last attempt, if it had no answer.
    """

    def __init__(self, headers: Mapping[str, Any]) -> None:
        self.headers = headers
        self.attempts: list[Attempt] = []
        self.error: BaseException | None = None
        self.handled = sys.exc_info()[1]

    def answered(self, http_client: Any, status: int) -> None:
        """Note an answer; attempts of the client before it are unseen."""
        if status >= 400 and _retries_below(http_client):
            self.attempts.append(Attempt(None))
        self.attempts.append(Attempt(status))

    def failed(self, http_client: Any, error: BaseException) -> None:
        """Note an attempt that brought no answer."""
        self.error = error
        proof = network.never_left(error, self.handled) or _never_prepared(error)
        self.attempts.append(Attempt(None, unsent=proof and not _retries_below(http_client)))

    def all_of(self, http_client: Any, error: BaseException) -> tuple[Attempt, ...]:
        """Return every attempt of a call that ended with *error*."""
        if isinstance(error, hosts.Elsewhere):
            return (*self.attempts, Attempt(None, unsent=True))
        if not self.attempts and (_is_the_sdks_own(http_client) or _never_left_the_sdk(error)):
            return (Attempt(None, unsent=True),)
        # Not the error that ended the last attempt: it struck in the middle of one more.
        more = [] if error is self.error else [Attempt(None)]
        return (*self.attempts, *more)

    def all_before(self, status: int) -> tuple[Attempt, ...]:
        """Return every attempt of a call that brought an answer."""
        if self.attempts:
            return tuple(self.attempts)
        # An HTTP client of the user's own. It may have tried before, without being seen.
        unsure = [Attempt(None)] if status in (409, 429) else []
        return (*unsure, Attempt(status))


_seen: ContextVar[Seen | None] = ContextVar("keybrake_twilio_seen", default=None)


def observed(seen: Seen) -> AbstractContextManager[None]:
    """Have the attempts of one call noted while the block runs, and none of them redirected."""
    return redirects.under_way(seen, _seen)


def is_on_its_way(headers: object) -> bool:
    """Return whether the guard has this very call already, through another wrapper."""
    seen = _current()
    return seen is not None and headers is seen.headers


def _current() -> Seen | None:
    seen = _seen.get()
    return None if seen is None or seen.over else seen


def attempt(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Note the result of one use of the SDK's HTTP client."""
    seen = _current()
    if seen is None:
        return wrapped(*args, **kwargs)
    _verify(seen, args, kwargs)
    try:
        answer = wrapped(*args, **kwargs)
    except BaseException as error:
        seen.failed(instance, error)
        raise
    seen.answered(instance, int(answer.status_code))
    return answer


def attempt_async(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Note the result of one use of the SDK's async HTTP client."""
    seen = _current()
    if seen is None:
        return wrapped(*args, **kwargs)
    _verify(seen, args, kwargs)
    return _attempt_async(seen, instance, wrapped(*args, **kwargs))


# In the order in which every supported version's clients take them.
_ATTEMPTED = ("method", "url", "params", "data", "headers")


def _verify(seen: Seen, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if seen.credential is None:
        return
    bound = {**dict(zip(_ATTEMPTED, args, strict=False)), **kwargs}
    url = str(bound["url"])
    injection.verify(seen, url)
    seen.handed = handed(bound["method"], url, bound.get("headers") or {}, bound.get("params"))


async def _attempt_async(seen: Seen, http_client: Any, attempt: Any) -> Any:
    try:
        answer = await attempt
    except BaseException as error:
        seen.failed(http_client, error)
        raise
    seen.answered(http_client, int(answer.status_code))
    return answer


def _retries_below(http_client: Any) -> bool:
    """Return whether a client's session may retry unseen."""
    session = getattr(http_client, "session", None)
    if getattr(session, "retry_options", None) is not None:
        return True  # aiohttp_retry
    adapters = getattr(session, "adapters", {})
    retries = [getattr(adapter, "max_retries", None) for adapter in adapters.values()]
    return any(getattr(retry, "total", 0) for retry in retries)


def _is_the_sdks_own(http_client: Any) -> bool:
    """Return whether every request of a client is seen as an attempt."""
    kinds = ("twilio.http.http_client", "twilio.http.async_http_client")
    return type(http_client).__module__ in kinds


# Functions in which HTTP clients build a request: an error there comes before sending.
_PREPARING = {
    ("requests.sessions", "prepare_request"),
    ("aiohttp.client_reqrep", "__init__"),
}


def _never_prepared(error: BaseException) -> bool:
    """Return whether *error* arose while the request was put together: a text no URL holds, say."""
    return isinstance(error, Exception) and not _PREPARING.isdisjoint(frames_of(error))


def _never_left_the_sdk(error: BaseException) -> bool:
    """Return whether *error* is the SDK's own, from before it asked an HTTP client."""
    return [module for module, _ in frames_of(error)][-1:] == ["twilio.base.client_base"]
