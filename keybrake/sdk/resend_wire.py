"""One Resend call on the wire: as it was decided on, even if the SDK's globals have changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from keybrake.sdk import redirects


class Flight(redirects.Flight):
    """
    One call as it was decided on, while it is on the wire.

    The SDK reads its key and its address from globals once more when it sends: what another
    thread set there meanwhile is not what was decided on.
    """

    def __init__(self, request: Any, api_key: Any, key: str | None) -> None:
        self.request = request
        self.api_key = api_key
        self.key = key
        # resend 2.0 hands the HTTP answer itself up from make_request.
        self.response: Any = None

    @property
    def status(self) -> int | None:
        """Return the status that came back; None: none did, or this version does not keep it."""
        if self.response is not None:
            return int(self.response.status_code)
        return getattr(self.request, "_response_status_code", None)

    def dressed(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the SDK's headers with credential and idempotency key as decided."""
        carried = f"Bearer {self.api_key}"
        if self.credential is not None:
            carried = self.credential.authorization
        decided = {"Authorization": carried}
        if self.key is not None:
            decided["Idempotency-Key"] = self.key
        return {**headers, **decided}


def copied(params: Any) -> Any:
    """Return a copy of the parameters that are counted, named as the SDK names them."""
    if isinstance(params, list):
        return [copied(item) if isinstance(item, dict) else item for item in params]
    if not isinstance(params, dict):
        return params
    return {str(name): _inner(value) for name, value in params.items()}


def _inner(value: Any) -> Any:
    if isinstance(value, dict):
        return dict(value)
    return list(value) if isinstance(value, list | tuple) else value


@contextlib.contextmanager
def under_way(flight: Flight, params: Any) -> Iterator[None]:
    """Have the SDK send *params*, and nothing be redirected, while the block runs."""
    request, given = flight.request, flight.request.params
    if hasattr(request, "_response_status_code"):
        request._response_status_code = None  # of an earlier call of the same object
    request.params = params
    try:
        with redirects.taken(flight):
            yield
    finally:
        request.params = given


def flight_of(request: Any) -> Flight | None:
    """Return the flight of this very request; None: the guard has not decided on it."""
    flight = redirects.flight_here()
    ours = isinstance(flight, Flight) and flight.request is request
    return flight if ours else None  # type: ignore[return-value]


def make_request(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Send to the URL that was decided on, and keep the response for the guard."""
    flight = flight_of(instance)
    if flight is None:
        return wrapped(*args, **kwargs)
    made = wrapped(url=flight.url)
    if hasattr(made, "status_code"):
        flight.response = made
    return made


def get_headers(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Return the SDK's headers, with the credential in the place of a vault key."""
    headers = wrapped(*args, **kwargs)
    flight = flight_of(instance)
    return headers if flight is None else flight.dressed(headers)
