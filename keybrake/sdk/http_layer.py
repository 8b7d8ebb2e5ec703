"""The SDKs' own HTTP clients: inside a run they send only requests that the guard admitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from keybrake.errors import CallRefused
from keybrake.guard import caller
from keybrake.guard.past_the_guard import past_the_guard
from keybrake.guard.steps import Steps, run_steps, run_steps_async
from keybrake.sdk import patch
from keybrake.sdk.patch import Hook
from keybrake.sdk.sdk_errors import as_sdk_error


class _Asked(NamedTuple):
    """A request that is asked of an HTTP client of the SDK's."""

    method: str
    url: str


def _asked_of_client(_client: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Asked:
    bound = {**dict(zip(("method", "url"), args, strict=False)), **kwargs}
    return _Asked(str(bound.get("method", "GET")).upper(), str(bound.get("url", "")))


def _asked_of_request(request: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Asked:
    """``Request.make_request`` of Resend takes an address; its method is the request's own."""
    url = str(kwargs.get("url", args[0] if args else ""))
    return _Asked(str(getattr(request, "verb", "GET")).upper(), url)


class _OnlyAdmitted:
    """
    Makes the wrappers that refuse a request which no guarded call is making.

    Args:
        vendor: The vendor of the SDK.
        read: Reads the request out of the function's arguments.
    """

    def __init__(
        self,
        vendor: str,
        read: Callable[[Any, tuple[Any, ...], Mapping[str, Any]], _Asked] = _asked_of_client,
    ) -> None:
        self._vendor = vendor
        self._read = read

    def send(
        self,
        wrapped: Callable[..., Any],
        instance: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Wrap a function that sends."""
        if self._is_admitted():
            return wrapped(*args, **kwargs)
        asked = self._read(instance, args, kwargs)
        try:
            run_steps(self._judged(asked))
        except CallRefused as refusal:
            raise as_sdk_error(self._vendor, refusal, asked) from None
        with caller.calling(self._vendor):
            return wrapped(*args, **kwargs)

    async def send_async(
        self,
        wrapped: Callable[..., Any],
        instance: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Wrap a coroutine function that sends."""
        if self._is_admitted():
            return await wrapped(*args, **kwargs)
        asked = self._read(instance, args, kwargs)
        try:
            await run_steps_async(self._judged(asked))
        except CallRefused as refusal:
            raise as_sdk_error(self._vendor, refusal, asked) from None
        with caller.calling(self._vendor):
            return await wrapped(*args, **kwargs)

    def _is_admitted(self) -> bool:
        return any(wire.vendor == self._vendor for wire in caller.on_the_wire())

    def _judged(self, asked: _Asked) -> Steps:
        return past_the_guard(self._vendor, *asked, hook_was_out=patch.put_back())


def _defines(kind: str, name: str) -> Callable[[ModuleType], bool]:
    return lambda module: name in vars(getattr(module, kind, object))


def _of(module: str, kinds: str, names: str, wrapper: Callable[..., Any]) -> tuple[Hook, ...]:
    return tuple(
        Hook(module, f"{kind}.{name}", wrapper, present=_defines(kind, name))
        for kind in kinds.split()
        for name in names.split()
    )


_STRIPE = _OnlyAdmitted("stripe")
_TWILIO = _OnlyAdmitted("twilio")
_RESEND = _OnlyAdmitted("resend")
_RESEND_REQUEST = _OnlyAdmitted("resend", _asked_of_request)

_STRIPES = "RequestsClient UrlFetchClient PycurlClient UrllibClient Urllib2Client HTTPXClient AIOHTTPClient"

HOOKS = (
    *_of(
        "stripe._http_client",
        "HTTPClient",
        "request_with_retries request_stream_with_retries",
        _STRIPE.send,
    ),
    *_of(
        "stripe._http_client",
        "HTTPClient",
        "request_with_retries_async request_stream_with_retries_async",
        _STRIPE.send_async,
    ),
    *_of("stripe._http_client", _STRIPES, "request request_stream", _STRIPE.send),
    *_of("stripe._http_client", _STRIPES, "request_async request_stream_async", _STRIPE.send_async),
    *_of("twilio.http.http_client", "TwilioHttpClient", "request", _TWILIO.send),
    *_of("twilio.http.async_http_client", "AsyncTwilioHttpClient", "request", _TWILIO.send_async),
    *_of("twilio.http.validation_client", "ValidationClient", "request", _TWILIO.send),
    *_of("resend.request", "Request", "make_request", _RESEND_REQUEST.send),
    *_of("resend.async_request", "AsyncRequest", "make_request", _RESEND_REQUEST.send_async),
    *_of("resend.http_client_requests", "RequestsClient", "request", _RESEND.send),
    *_of("resend.http_client_httpx", "HTTPXClient", "request", _RESEND.send_async),
)
