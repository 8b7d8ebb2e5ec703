"""The SDKs' own HTTP clients: inside a run they send what the guard has admitted, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from keybrake import _guard
from keybrake.errors import CallRefused
from keybrake.sdk import _redirects, resend, stripe, twilio
from keybrake.sdk._patch import Hook

_NAMES = ("method", "url")

_AsSdkError = Callable[[CallRefused, str, str], CallRefused]


def _only_admitted(vendor: str, as_sdk_error: _AsSdkError) -> Callable[..., Any]:
    """Return a wrapper that refuses a request which no guarded call is making."""

    def send(
        wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        if _redirects.is_in_flight():
            return wrapped(*args, **kwargs)
        bound = {**dict(zip(_NAMES, args, strict=False)), **kwargs}
        method, url = str(bound.get("method", "GET")).upper(), str(bound.get("url", ""))
        try:
            _guard.refuse_past_the_guard(vendor, method, url)
        except CallRefused as refusal:
            raise as_sdk_error(refusal, method, url) from None
        return wrapped(*args, **kwargs)

    return send


def _make_request(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """``Request.make_request`` of Resend takes an address; its method is the request's own."""
    if not _redirects.is_in_flight():
        url = str(kwargs.get("url", args[0] if args else ""))
        method = str(getattr(instance, "verb", "GET")).upper()
        try:
            _guard.refuse_past_the_guard("resend", method, url)
        except CallRefused as refusal:
            raise resend.as_sdk_error(refusal, method, url) from None
    return wrapped(*args, **kwargs)


def _defines(kind: str, name: str) -> Callable[[ModuleType], bool]:
    return lambda module: name in vars(getattr(module, kind, object))


def _of(module: str, kinds: str, names: str, wrapper: Callable[..., Any]) -> tuple[Hook, ...]:
    return tuple(
        Hook(module, f"{kind}.{name}", wrapper, present=_defines(kind, name))
        for kind in kinds.split()
        for name in names.split()
    )


_STRIPE = _only_admitted("stripe", stripe.as_sdk_error)
_TWILIO = _only_admitted("twilio", twilio.as_sdk_error)
_RESEND = _only_admitted("resend", resend.as_sdk_error)

HOOKS = (
    *_of(
        "stripe._http_client",
        "HTTPClient",
        "request_with_retries request_stream_with_retries "
        "request_with_retries_async request_stream_with_retries_async",
        _STRIPE,
    ),
    *_of(
        "stripe._http_client",
        "RequestsClient UrlFetchClient PycurlClient UrllibClient Urllib2Client HTTPXClient AIOHTTPClient",
        "request request_stream request_async request_stream_async",
        _STRIPE,
    ),
    *_of("twilio.http.http_client", "TwilioHttpClient", "request", _TWILIO),
    *_of("twilio.http.async_http_client", "AsyncTwilioHttpClient", "request", _TWILIO),
    *_of("twilio.http.validation_client", "ValidationClient", "request", _TWILIO),
    *_of("resend.request", "Request", "make_request", _make_request),
    *_of("resend.async_request", "AsyncRequest", "make_request", _make_request),
    *_of("resend.http_client_requests", "RequestsClient", "request", _RESEND),
    *_of("resend.http_client_httpx", "HTTPXClient", "request", _RESEND),
)
