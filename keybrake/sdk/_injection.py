"""The credential on its way: for which address, by which HTTP client, and what an error would show of it."""

from __future__ import annotations

import contextlib
import copy
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from keybrake import _hosts
from keybrake.errors import HostNotAllowed
from keybrake.sdk import _redirects
from keybrake.sdk._patch import Hook


class Elsewhere(HostNotAllowed):
    """The SDK was about to send something else than was decided on; it never left."""

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message, **{"reason": "host_not_allowed", **fields})


def verify(flight: _redirects.Flight, url: str) -> None:
    """
    Check that a call still goes where it was decided to go, the moment before it is sent.

    An address may stand in a global that another thread has set meanwhile, or a client of the
    user's own may lead it to a test server, which the operator has to have named.

    Raises:
        Elsewhere: It does not.
    """
    same = _path(url.partition("?")[0]) == _path(flight.url)
    if same and _hosts.is_own(flight.vendor, _hosts.origin_of(url)):
        return
    words = "Its address was changed while it was decided on. Nothing was sent. Do not retry."
    raise Elsewhere(words, hint="Leave the SDK's addresses alone while calls are under way.")


def _path(url: str) -> str:
    return url.removeprefix(_hosts.origin_of(url))


def objection(client: Any) -> tuple[str, str] | None:
    """Return why no credential may go through an HTTP client of an SDK's; None: it may."""
    sessions = [getattr(client, name, None) for name in ("_session", "session")]
    verifying = getattr(client, "_verify_ssl_certs", True) is not False
    if not verifying or any(getattr(session, "verify", True) is False for session in sessions):
        words = "the HTTP client does not verify whom it talks to (TLS certificates)"
        return "host_not_allowed", words
    given = [getattr(client, name, None) for name in ("_proxy", "proxy")]
    given += [getattr(session, "proxies", None) for session in sessions]
    return _hosts.through(proxy for proxies in given for proxy in _each(proxies))


def _each(proxies: object) -> Iterator[str]:
    values = proxies.values() if isinstance(proxies, Mapping) else (proxies,)
    yield from (str(value) for value in values if value)


@contextlib.contextmanager
def no_trace(flight: _redirects.Flight) -> Iterator[None]:
    """Let an error that leaves the block carry no credential: not in its frames, not in its request."""
    try:
        yield
    except BaseException as error:
        if flight.credential is not None:
            _cleanse(error, flight.handled)
        raise


def _cleanse(error: BaseException, handled: BaseException | None) -> None:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        # What the caller was handling before is the caller's: its frames may still be needed.
        if one is None or one is handled or id(one) in seen:
            continue
        seen.add(id(one))
        _undress(one)
        traceback.clear_frames(one.__traceback__)
        waiting += [one.__cause__, one.__context__]
        waiting += [inner for inner in one.args if isinstance(inner, BaseException)]


def _undress(error: BaseException) -> None:
    """Take the credential out of the request that an HTTP client hangs on to its errors."""
    for holder in (error, getattr(error, "response", None)):
        with contextlib.suppress(Exception):  # httpx raises if there is none
            headers = holder.request.headers  # type: ignore[union-attr]  # suppressed
            if "Authorization" in headers:
                headers["Authorization"] = _SHOWN


_SHOWN = "<credential>"


def _append(
    wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Have vcrpy write down a request with its headers, all but the credential."""
    flight = _redirects.in_flight.get()
    if flight is None or flight.over or flight.credential is None:
        return wrapped(*args, **kwargs)
    request = copy.copy(args[0])
    shown = {name: _SHOWN for name in request.headers if name.lower() == "authorization"}
    request.headers = {**request.headers, **shown}
    return wrapped(request, *args[1:], **kwargs)


HOOKS = (Hook("vcr.cassette", "Cassette.append", _append, ("request", "response")),)
