"""The Resend SDK's one chokepoint: every call of resend 2, sync and async, passes it."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

from keybrake.credentials import Credential
from keybrake.errors import UnsupportedSDK
from keybrake.model import vault_key
from keybrake.model.call import Attempt, Lookup, Reply, Request
from keybrake.sdk import extra_headers, injection
from keybrake.sdk.door import AsyncSDKDoor, SDKDoor, check_version, unfit_key
from keybrake.sdk.patch import Hook
from keybrake.sdk.resend_errors import never_left, status_told
from keybrake.sdk.resend_wire import Flight, copied, flight_of, get_headers, make_request, under_way
from keybrake.wire import hosts

SUPPORTED = (2, 3)  # from the first major version on, below the second
_LONGEST_KEY = 256


class ResendDoor(SDKDoor):
    """One call of ``Request.perform``."""

    vendor = "resend"

    def __init__(
        self, wrapped: Callable[..., Any], instance: Any, given: Mapping[str, Any]
    ) -> None:
        super().__init__(wrapped, instance, given)
        resend, request = sys.modules["resend"], instance
        self._sdk_request = request
        self._api_key = resend.api_key
        self._base, self._path = str(resend.api_url), str(request.path)
        self._options = _options(request)
        # The error that the caller was handling when it made the call.
        self._handled = sys.exc_info()[1]
        self._params = copied(request.params)
        self._flight: Flight | None = None
        self.vault_key = vault_key.vault_key_in(self._api_key)
        self.request = self._describe()

    @classmethod
    def is_under_way(cls, instance: Any, given: Mapping[str, Any]) -> bool:
        """See ``SDKDoor.is_under_way``."""
        del given
        return flight_of(instance) is not None

    def _describe(self) -> Request:
        method = str(self._sdk_request.verb).upper()
        path, _, query = self._path.partition("?")
        key = self._own_key(method)
        # A key that no header could carry would fail half-way.
        unfit = None if key is None else unfit_key(key, _LONGEST_KEY)
        return Request(
            vendor="resend",
            method=method,
            url=f"{self._base}{path}",
            params=self._params,
            owner=vault_key.fingerprint(str(self._api_key or "")),
            idempotency_key=None if unfit else key,
            refusal=_overridden(self._options)
            or unfit
            or _elsewhere(self._base, path)
            or _doubled(method, query),
        )

    def _own_key(self, method: str) -> str | None:
        """Return the caller's own idempotency key, as the SDK would write it."""
        given = self._options.get("idempotency_key")
        return None if method != "POST" or given in (None, "") else str(given)

    def take(self, credential: Credential) -> tuple[str, str] | None:
        """See ``Door.take``."""
        self.credential = credential
        self.request = replace(self.request, owner=credential.fingerprint)
        found = (injection.objection(client) for client in self._clients())
        return next((objection for objection in found if objection), None)

    def forward(self, idempotency_key: str | None) -> Any:
        """See ``Door.forward``."""
        if idempotency_key is None:
            return self._wrapped()
        key = self.request.idempotency_key or idempotency_key
        key_sent = key if self.request.method == "POST" else None
        url = f"{self._base}{self._path}"
        self._flight = self._flown(self._sdk_request, url, key_sent)
        return self._send(self._flight)

    def _flown(self, request: Any, url: str, key: str | None) -> Flight:
        flight = Flight(request, self._api_key, key)
        flight.handled = self._handled
        flight.carries(self.credential, "resend", url)
        return flight

    def _send(self, flight: Flight) -> Any:
        with injection.no_trace(flight), under_way(flight, self._params):
            return self._wrapped()

    def look_up(self, lookup: Lookup) -> Any:
        """See ``Door.look_up``."""
        question = self._question(lookup, sys.modules["resend.request"].Request)
        with under_way(question, question.request.params):
            try:
                found = question.request.perform()
            except Exception:  # noqa: BLE001 -- whatever went wrong, nothing was found
                return None, question.status
        return _found(found, question)

    def _question(self, lookup: Lookup, kind: Callable[..., Any]) -> Flight:
        path, params = str(lookup.path), dict(lookup.params)
        if lookup.method == "GET" and params:
            path, params = f"{path}?{urlencode(params)}", {}
        request = kind(path=path, params=params, verb=lookup.method.lower())
        return self._flown(request, f"{self._base}{path}", None)

    def reply(self, answer: Any) -> Reply:
        """See ``Door.reply``."""
        status, headers, raw = self._seen()
        # Versions that keep no status have none but a success to return.
        status = status or 200
        told = raw is None and self.request.method != "GET"
        body = json.dumps(_without_headers(answer)) if told else raw
        return Reply(status, headers, body, (Attempt(status),))

    def failure(self, error: BaseException) -> Reply:
        """See ``Door.failure``."""
        status, headers, body = self._seen()
        if status is None and not hasattr(self._sdk_request, "_response_status_code"):
            status = status_told(error)
        if status is None:
            stopped = isinstance(error, hosts.Elsewhere)
            unsent = stopped or never_left(error, self._handled, self._clients())
            return Reply(attempts=(Attempt(None, unsent=unsent),))
        return Reply(status, headers, body, (Attempt(status),))

    def _seen(self) -> tuple[int | None, Mapping[str, str], bytes | None]:
        """Return status, headers and body of the answer, as far as this version keeps them."""
        assert self._flight is not None
        response, status = self._flight.response, self._flight.status
        if response is not None:
            return status, response.headers, response.content
        return status, getattr(self._sdk_request, "_response_headers", {}), None

    def _clients(self) -> tuple[Any, ...]:
        """Return the HTTP clients this call may have gone through."""
        return (getattr(sys.modules["resend"], "default_http_client", None),)


class AsyncResendDoor(AsyncSDKDoor, ResendDoor):
    """One call of ``AsyncRequest.perform``: sending is awaited, all else is the same."""

    async def _send(self, flight: Flight) -> Any:
        with injection.no_trace(flight), under_way(flight, self._params):
            return await self._wrapped()

    async def look_up(self, lookup: Lookup) -> Any:
        """See ``Door.look_up``."""
        question = self._question(lookup, sys.modules["resend.async_request"].AsyncRequest)
        with under_way(question, question.request.params):
            try:
                found = await question.request.perform()
            except Exception:  # noqa: BLE001 -- whatever went wrong, nothing was found
                return None, question.status
        return _found(found, question)

    def _clients(self) -> tuple[Any, ...]:
        # Either may be used: an async client may stand in the place of the plain one, too.
        own = getattr(sys.modules["resend"], "default_async_http_client", None)
        return (own, *super()._clients())


def _options(request: Any) -> Mapping[str, Any]:
    # resend 2.0 to 2.3 know no options.
    options = getattr(request, "options", None)
    return dict(options) if isinstance(options, Mapping) else {}


def _without_headers(answer: Any) -> Any:
    if not isinstance(answer, dict):
        return answer
    return {name: value for name, value in answer.items() if name != "http_headers"}


def _found(answer: Any, question: Flight) -> tuple[Any, int | None]:
    status = question.status or 200
    body = _without_headers(answer)
    return (body if status < 300 and isinstance(body, dict) else None), status


def _overridden(options: Mapping[str, Any]) -> tuple[str, str] | None:
    # No version so far sends headers of the caller's; should one do so, these are not among them.
    extra = options.get("headers")
    return extra_headers.overridden(extra) if isinstance(extra, Mapping) else None


def _elsewhere(base: str, path: str) -> tuple[str, str] | None:
    if not base.startswith(("https://", "http://")):
        return "path_not_canonical", f"the address {base!a:.100} is not an absolute one"
    if not path.startswith("/"):
        return "path_not_canonical", f"the path {path!a:.100} does not begin with /"
    return None


def _doubled(method: str, query: str) -> tuple[str, str] | None:
    if method != "GET" and query:
        return "path_not_canonical", "parameters stand in the URL of a call that has a body"
    return None


def _check_version(module: ModuleType) -> None:
    get_version = getattr(module, "get_version", None)
    check_version("resend", str(get_version() if callable(get_version) else "?"), SUPPORTED)


def _check_request(module: ModuleType) -> None:
    for name in ("Request", "AsyncRequest"):
        kind = getattr(module, name, None)
        if kind is None:
            continue
        if missing := {"path", "params", "verb"} - set(inspect.signature(kind).parameters):
            msg = (
                f"{module.__name__}.{name} takes no {min(missing)!r}: this version of resend is "
                f"not one keybrake can guard, so no call may go through it"
            )
            raise UnsupportedSDK(msg)


def _hooks(module: str, kind: str, perform: Callable[..., Any]) -> tuple[Hook, ...]:
    return (
        Hook(module, f"{kind}.perform", perform, check=_check_request, binds=True),
        Hook(module, f"{kind}.make_request", make_request, ("url",)),
        Hook(module, f"{kind}._{kind}__get_headers", get_headers),
    )


HOOKS = (
    Hook("resend", check=_check_version),
    *_hooks("resend.request", "Request", ResendDoor.hook),
    # A module of its own, which versions before 2.23 do not have.
    *_hooks("resend.async_request", "AsyncRequest", AsyncResendDoor.hook),
)
