"""No guarded call is redirected: the decision was made for one address."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from keybrake.credentials import Credential
from keybrake.guard import caller
from keybrake.sdk.handed import Handed
from keybrake.sdk.patch import Hook


class Flight:
    """
    One guarded call on the wire. A task that was started meanwhile outlives it.

    Attributes:
        vendor: The vendor of the call.
        url: Where it was decided to go, without a query.
        credential: The credential in the place of its vault key; None: it has none.
        handed: The request that the SDK handed to its HTTP client; None: it has not yet.
        handled: The error that the caller was handling when it made the call.
    """

    vendor = ""
    url = ""
    credential: Credential | None = None
    handed: Handed | None = None
    handled: BaseException | None = None
    over = False

    def carries(self, credential: Credential | None, vendor: str, url: str) -> None:
        """Set the credential and its address."""
        self.credential, self.vendor, self.url = credential, vendor, url


def flight_here() -> Flight | None:
    """Return the guarded call that is on the wire here, or in the code that started this thread."""
    wire = next(caller.on_the_wire(), None)
    flight: Flight | None = None if wire is None else wire.flight
    return None if flight is None or flight.over else flight


@contextlib.contextmanager
def taken(flight: Flight) -> Iterator[None]:
    """Have *flight* on the wire while the block runs."""
    wire = next(caller.on_the_wire())
    wire.flight = flight
    try:
        yield
    finally:
        flight.over = True
        wire.flight = None  # a thread that the call started may have the frame for long


@contextlib.contextmanager
def under_way(flight: Flight, seen: ContextVar[Any]) -> Iterator[None]:
    """Have *flight* on the wire while the block runs, and the door's own *seen* say so as well."""
    attempts = seen.set(flight)
    try:
        with taken(flight):
            yield
    finally:
        # A coroutine may be closed in another context than it ran in; that one is done with.
        with contextlib.suppress(ValueError):
            seen.reset(attempts)


def _requests_target(
    wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """``requests`` asks this for the address to go on to; None: there is none."""
    return None if flight_here() is not None else wrapped(*args, **kwargs)


def _aiohttp_request(
    wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    if flight_here() is not None:
        kwargs = {**kwargs, "allow_redirects": False}
    return wrapped(*args, **kwargs)


def _urllib_redirect(
    wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """``urllib`` asks this for the request to go on with; None: there is none."""
    return None if flight_here() is not None else wrapped(*args, **kwargs)


# httpx and pycurl follow no redirect unless they are told to.
HOOKS = (
    Hook("requests.sessions", "SessionRedirectMixin.get_redirect_target", _requests_target),
    Hook("aiohttp.client", "ClientSession._request", _aiohttp_request),
    Hook("urllib.request", "HTTPRedirectHandler.redirect_request", _urllib_redirect),
)
