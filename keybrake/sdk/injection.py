"""The credential on its way: its address, its HTTP client, and errors that must not show it."""

from __future__ import annotations

import contextlib
import copy
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any
from urllib.request import getproxies_environment

from keybrake.credentials import asking
from keybrake.sdk import redirects
from keybrake.sdk.patch import Hook
from keybrake.wire import hosts


def verify(flight: redirects.Flight, url: str) -> None:
    """
    Check that a call still goes where it was decided to go, the moment before it is sent.

    An address may stand in a global that another thread has set meanwhile, or a client of the
    user's own may lead it to a test server, which the operator has to have named.

    Raises:
        Elsewhere: It does not.
    """
    same = _path(url.partition("?")[0]) == _path(flight.url)
    if not same or not hosts.is_own(flight.vendor, hosts.origin_of(url)):
        what = f"it would go to {url.partition('?')[0]!a:.100}"
        raise hosts.Elsewhere(what)


def _path(url: str) -> str:
    return url.removeprefix(hosts.origin_of(url))


UNVERIFIED = "by a client that does not verify whom it talks to (TLS certificates)"


def objection(client: Any) -> tuple[str, str] | None:
    """
    Return why no credential may go through an HTTP client of an SDK's; None: nothing is known.

    What it says of itself, so that a refusal has its row; see ``_wires`` for what it does.
    """
    for one in (client, getattr(client, "_async_fallback_client", None)):
        # What it has, not what it would make when asked: Stripe's aiohttp client makes a session for
        # the loop it is asked in, and fails where there is none.
        has: Mapping[str, Any] = getattr(one, "__dict__", {})
        sessions = [has.get(name) for name in ("_session", "session")]
        trusting = [getattr(session, "verify", True) for session in sessions]
        if not all((has.get("_verify_ssl_certs", True), *trusting)):
            return "host_not_allowed", f"it would go out {UNVERIFIED}"
        given = [has.get(name) for name in ("_proxy", "proxy")]
        given += [getattr(session, "proxies", None) for session in sessions]
        if getattr(one, "name", None) == "pycurl":
            # curl cannot be watched, and reads no_proxy in its own way.
            given.append(getproxies_environment())
        found = hosts.through(proxy for proxies in given for proxy in _each(proxies))
        if found is not None:
            return found
    return None


def _each(proxies: object) -> Iterator[str]:
    values = proxies.values() if isinstance(proxies, Mapping) else (proxies,)
    yield from (str(value) for value in values if value)


@contextlib.contextmanager
def no_trace(flight: redirects.Flight) -> Iterator[None]:
    """Let an error that leaves the block carry no credential: not in its frames, not in its request."""
    try:
        yield
    except BaseException as error:
        if flight.credential is not None:
            stopped = _cleanse(error, flight.handled)
            if stopped is not None and stopped is not error:
                # The HTTP client and the SDK took it for a failure of the network.
                raise stopped from None
        raise


def _cleanse(error: BaseException, handled: BaseException | None) -> hosts.Elsewhere | None:
    """Empty the frames of an error and of its causes; return the error that stopped the call, if any."""
    stopped: hosts.Elsewhere | None = None
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        # Leave the error that the caller was handling before: its frames may still be needed.
        if one is None or one is handled or id(one) in seen:
            continue
        seen.add(id(one))
        stopped = one if isinstance(one, hosts.Elsewhere) else stopped
        _undress(one)
        traceback.clear_frames(one.__traceback__)
        waiting += [one.__cause__, one.__context__]
        waiting += [inner for inner in one.args if isinstance(inner, BaseException)]
        waiting += getattr(one, "exceptions", ())  # of a group
    return stopped


def _undress(error: BaseException) -> None:
    """Take the credential out of the request that an HTTP client hangs on to its errors."""
    _undress_aiohttp(error)
    for holder in (error, getattr(error, "response", None)):
        with contextlib.suppress(Exception):  # httpx raises if there is none
            headers = holder.request.headers  # type: ignore[union-attr]  # suppressed
            if "Authorization" in headers:
                headers["Authorization"] = SHOWN


def _undress_aiohttp(error: BaseException) -> None:
    """The same for errors of aiohttp, which have the request among their arguments, and cannot be written to."""
    info: Any = getattr(error, "request_info", None)
    if info is None:
        return
    headers = type(info.headers.copy())((*info.headers.items(),))
    if "Authorization" in headers:
        headers["Authorization"] = SHOWN
    shown = type(info)(info.url, info.method, headers, info.real_url)
    error.request_info = shown  # type: ignore[attr-defined]  # it had one
    error.args = tuple(shown if part is info else part for part in error.args)


SHOWN = "<credential>"


def _redacted(request: Any) -> Any:
    """Return vcrpy's request without the credential, if it is one of a call on the wire."""
    flight = redirects.flight_here()
    if flight is None or flight.credential is None:
        return request
    request = copy.copy(request)
    shown = {name: SHOWN for name in request.headers if name.lower() == "authorization"}
    request.headers = {**request.headers, **shown}
    return request


def _append(
    wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Have vcrpy write down a request, or look for one, with its headers, all but the credential."""
    return wrapped(_redacted(args[0]), *args[1:], **kwargs)


def _has_responses(module: ModuleType) -> bool:
    return hasattr(module.Cassette, "_responses")


def _not_recorded(
    wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Have vcrpy complain about a request that no cassette has without its credential."""
    if "failed_request" in kwargs:
        kwargs = {**kwargs, "failed_request": _redacted(kwargs["failed_request"])}
    return wrapped(*args, **kwargs)


def _aside(
    wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Keep requests to a secrets manager out of vcrpy's cassettes."""
    return None if asking.get() else wrapped(*args, **kwargs)


def _has_filter(module: ModuleType) -> bool:
    return hasattr(module.Cassette, "filter_request")


HOOKS = (
    Hook("vcr.cassette", "Cassette.append", _aside, ("request", "response")),
    Hook("vcr.cassette", "Cassette.can_play_response_for", _aside, ("request",)),
    Hook("vcr.cassette", "Cassette.filter_request", _aside, ("request",), present=_has_filter),
    Hook("vcr.cassette", "Cassette.append", _append, ("request", "response")),
    Hook("vcr.cassette", "Cassette._responses", _append, ("request",), present=_has_responses),
    Hook("vcr.errors", "CannotOverwriteExistingCassetteException.__init__", _not_recorded),
)
