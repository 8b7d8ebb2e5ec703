"""User name and password of one Twilio call, in a shape that every HTTP client takes and none shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keybrake.credentials import Credential
from keybrake.sdk import injection, redirects


class Auth:
    """
    ``requests`` calls it with the prepared request; other clients read it like a pair.

    The SDK's HTTP clients keep it in ``_test_only_last_request``; see ``forget``.
    """

    __slots__ = ("_credential", "_flight")

    def __init__(self, credential: Credential, flight: redirects.Flight) -> None:
        self._credential = credential
        self._flight = flight

    def __call__(self, request: Any) -> Any:
        """Put the header into a prepared request, if that goes where the call was to go."""
        injection.verify(self._flight, str(request.url))
        request.headers["Authorization"] = self._credential.authorization
        return request

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[str]:
        return iter((self._credential.user, self._credential.secret))

    def __getitem__(self, index: int) -> str:
        return (self._credential.user, self._credential.secret)[index]

    def __repr__(self) -> str:
        return "<credential>"


def forget(http_client: Any, vault_key: str | None) -> None:
    """Put the vault key in the place of the credential in a client's memory of its last request."""
    last: Any = getattr(http_client, "_test_only_last_request", None)
    if getattr(last, "auth", None) is not None:
        last.auth = ("", vault_key)
