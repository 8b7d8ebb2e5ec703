"""
The last look at a request that carries a credential: by what way does it leave.

What an SDK's client says of itself may have changed since the decision, or may not be all of it: a
proxy can come from the environment, from a session, from an opener that somebody installed. Here, in
the HTTP library, stands what is really used. A request that carries no credential of a call that is on
the wire is none of keybrake's business.
"""

from __future__ import annotations

import functools
import inspect
import ssl
import sys
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from keybrake.sdk import injection, redirects
from keybrake.sdk.handed import difference, handed, is_same_call
from keybrake.sdk.patch import Hook
from keybrake.wire import hosts

_SHOWN = injection.SHOWN


def _carrier(
    method: object, url: str, headers: Mapping[Any, Any], params: Any = None
) -> redirects.Flight | None:
    """
    Return the call on the wire that this request is: its credential is among the headers.

    Raises:
        Elsewhere: It is another than the SDK has handed to the client, or has another credential.
    """
    flight = redirects.flight_here()
    if flight is None or flight.credential is None:
        return None
    expected = str(flight.credential.authorization)
    carries = any(
        _text(name).lower() == "authorization" and _text(headers[name]) == expected
        for name in headers
    )
    if flight.handed is None:
        return flight if carries else None
    now = handed(method, url, headers, params)
    if carries and (what := difference(flight.handed, now)) is not None:
        raise hosts.Elsewhere(what)
    if not carries and is_same_call(flight.handed, now):
        # A session may have a credential of its own, which goes before the SDK's.
        what = "it would have another header 'authorization', or none"
        raise hosts.Elsewhere(what)
    return flight if carries else None


def _is_own(flight: redirects.Flight, url: str) -> bool:
    return hosts.is_own(flight.vendor, hosts.origin_of(url))


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _check(flight: redirects.Flight, url: str, *, proxies: Iterable[str], verified: bool) -> None:
    """Refuse to send, unless by a way that a credential may take. Raises ``Elsewhere``."""
    why = None
    if not _is_own(flight, url):
        why = f"it would go to {hosts.origin_of(url)!a:.100}"
    elif url.startswith("https:") and not verified:
        why = f"it would go out {injection.UNVERIFIED}"
    elif (found := hosts.through(proxies)) is not None:
        why = found[1]
    if why is not None:
        raise hosts.Elsewhere(why)


def _is_verifying(context: object) -> bool:
    """Return whether an SSL context, or an object in its place, verifies the server."""
    if isinstance(context, ssl.SSLContext):
        return context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
    return context is None or context is True


def _requests_send(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    request = args[0] if args else kwargs["request"]
    flight = _carrier(request.method, str(request.url), request.headers)
    if flight is None:
        return wrapped(*args, **kwargs)
    # As requests does where it is not told.
    verified = bool(kwargs.get("verify", instance.verify))
    proxies, checked = _requests_way(instance, request, kwargs)
    _check(flight, str(request.url), proxies=proxies, verified=verified and checked)
    return _undressed(wrapped(*args, **kwargs))


def _requests_way(session: Any, request: Any, kwargs: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Return the proxies a request of requests' goes through, and whether its adapter checks names."""
    utils, adapters = sys.modules["requests.utils"], sys.modules["requests.adapters"]
    given = kwargs.get("proxies")
    if given is None:
        given = utils.resolve_proxies(request, session.proxies, session.trust_env)
    proxy = utils.select_proxy(request.url, dict(given))
    found = [proxy] if proxy else []
    adapter = session.get_adapter(url=request.url)
    # An adapter of the user's own is trusted, as an HTTP client of theirs is.
    if type(adapter) is adapters.HTTPAdapter:
        pools = adapter.poolmanager
        checked = pools.connection_pool_kw.get("assert_hostname") is not False
        if (through := getattr(pools, "proxy", None)) is not None:
            found.append(str(through.url))
        return found, checked
    return found, True


def _no_netrc(
    wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """``requests`` would replace the credential by the netrc entry of the host."""
    flight = redirects.flight_here()
    mine = flight is not None and flight.credential is not None
    return None if mine else wrapped(*args, **kwargs)


def _httpx_send(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    request = args[0] if args else kwargs["request"]
    flight = _carrier(request.method, str(request.url), request.headers)
    if flight is None:
        return wrapped(*args, **kwargs)
    _check_httpx(flight, instance, request.url)
    # An auth of the client's own would take the credential's place.
    sent = wrapped(*args, **{**kwargs, "follow_redirects": False, "auth": None})
    return _undressed_once_there(sent) if inspect.isawaitable(sent) else _undressed(sent)


def _httpx_single(
    wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Look once more: a client's own event hooks have had the request since."""
    request = args[0] if args else kwargs["request"]
    flight = _carrier(request.method, str(request.url), request.headers)
    if flight is not None and not _is_own(flight, str(request.url)):
        what = f"it would go to {hosts.origin_of(str(request.url))!a:.100}"
        raise hosts.Elsewhere(what)
    return wrapped(*args, **kwargs)


def _has_single(kind: str, module: ModuleType) -> bool:
    return hasattr(getattr(module, kind), "_send_single_request")


def _undressed(response: Any) -> Any:
    response.request.headers["Authorization"] = _SHOWN
    return response


async def _undressed_once_there(sending: Any) -> Any:
    return _undressed(await sending)


def _check_httpx(flight: redirects.Flight, client: Any, url: Any) -> None:
    # A transport of the user's own has no pool; it is trusted, as an HTTP client of theirs is.
    pool = getattr(client._transport_for_url(url), "_pool", None)
    proxy = getattr(pool, "_proxy_url", None)
    verified = _is_verifying(getattr(pool, "_ssl_context", None))
    _check(flight, str(url), proxies=[_written(proxy)] if proxy else [], verified=verified)


def _written(url: Any) -> str:
    """Return a URL of httpcore's as text."""
    port = f":{url.port}" if url.port else ""
    return f"{_text(url.scheme)}://{_text(url.host)}{port}"


def _aiohttp_request(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    bound = {**dict(zip(("method", "str_or_url"), args, strict=False)), **kwargs}
    url = instance._build_url(bound["str_or_url"])
    headers = {**instance._prepare_headers(bound.get("headers")), **_basic(bound.get("auth"))}
    flight = _carrier(bound["method"], str(url), headers, bound.get("params"))
    if flight is None:
        return wrapped(*args, **kwargs)
    given = [kwargs.get(name) for name in ("ssl", "verify_ssl", "ssl_context")]
    connector = instance._connector
    given.append(getattr(connector, "_ssl", None))
    # Another kind may go anywhere: to a socket of this machine, through a proxy.
    is_plain = type(connector) is sys.modules["aiohttp.connector"].TCPConnector
    verified = is_plain and all(_is_verifying(one) for one in given)
    if not is_plain:
        what = f"it would go out by a {type(connector).__name__}"
        raise hosts.Elsewhere(what)
    _check(flight, str(url), proxies=_aiohttp_proxies(instance, kwargs, url), verified=verified)
    return wrapped(*args, **kwargs)


def _basic(auth: Any) -> dict[str, str]:
    return {"Authorization": auth.encode()} if hasattr(auth, "encode") else {}


def _aiohttp_proxies(session: Any, kwargs: Mapping[str, Any], url: Any) -> list[str]:
    proxy = kwargs.get("proxy") or getattr(session, "_default_proxy", None)
    if proxy is None and getattr(session, "_trust_env", False):
        try:
            proxy, _ = sys.modules["aiohttp.helpers"].get_env_proxy_for_url(url)
        except LookupError:
            return []
    return [str(proxy)] if proxy else []


def _urllib_open(
    wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    request = args[1] if len(args) > 1 else kwargs["req"]
    flight = _carrier(request.get_method(), request.full_url, dict(request.header_items()))
    if flight is None:
        return wrapped(*args, **kwargs)
    is_default = ssl._create_default_https_context is ssl.create_default_context
    context = kwargs.get("context")
    verified = _is_verifying(context) if context is not None else is_default
    verified = verified and kwargs.get("check_hostname") is not False
    proxies = [f"http://{request.host}"] if _has_proxy(request) else []
    _check(flight, request.full_url, proxies=proxies, verified=verified)
    return wrapped(*args, **kwargs)


def _has_proxy(request: Any) -> bool:
    return bool(getattr(request, "_tunnel_host", None)) or request.has_proxy()


def _reads_netrc(module: ModuleType) -> bool:
    return hasattr(module, "get_netrc_auth")


HOOKS = (
    Hook("requests.sessions", "Session.send", _requests_send, ("request",)),
    Hook("requests.sessions", "get_netrc_auth", _no_netrc, present=_reads_netrc),
    Hook("httpx", "Client.send", _httpx_send, ("request",)),
    Hook("httpx", "AsyncClient.send", _httpx_send, ("request",)),
    *(
        Hook(
            "httpx",
            f"{kind}._send_single_request",
            _httpx_single,
            ("request",),
            present=functools.partial(_has_single, kind),
        )
        for kind in ("Client", "AsyncClient")
    ),
    Hook("aiohttp.client", "ClientSession._request", _aiohttp_request),
    Hook("urllib.request", "AbstractHTTPHandler.do_open", _urllib_open, ("req",)),
)
