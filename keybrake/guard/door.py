"""A door: where a call comes in, and how it is sent on and answered."""

from __future__ import annotations

from typing import Any, Protocol

from keybrake.credentials import Credential
from keybrake.errors import CallRefused, CallStopped
from keybrake.model.call import Lookup, Reply, Request


class Door(Protocol):
    """
    One call at a door: it turns arguments into a request, and the SDK's answer into a reply.

    Attributes:
        request: What arrived.
        vault_key: The vault key that the call came with, if any.
        credential: The credential that takes the vault key's place.
        follows_redirects: Whether the SDK would follow a redirect, and takes every answer for the
            vendor's last word.
    """

    request: Request
    vault_key: str | None
    credential: Credential | None
    follows_redirects: bool

    def take(self, credential: Credential) -> tuple[str, str] | None:
        """
        Send the call with *credential* in the place of its vault key.

        ``request.owner`` is the credential's fingerprint from then on.

        Returns:
            Reason and words why the call may not have the credential; None: it has it.
        """

    def forward(self, idempotency_key: str | None) -> Any:
        """Let the SDK send the call; awaitable in an async door. None: send it as it came."""

    def look_up(self, lookup: Lookup) -> Any:
        """
        Ask the vendor, with the caller's client and credential; awaitable in an async door.

        Returns:
            The decoded body, or None if the vendor reports no success, and the HTTP status.
        """

    def reply(self, answer: Any) -> Reply:
        """Return the SDK's answer as a reply."""

    def failure(self, error: BaseException) -> Reply:
        """Return the SDK's error as a reply: it says whether anything left the machine."""

    def as_sdk_error(self, refusal: CallRefused | CallStopped) -> CallRefused | CallStopped:
        """Return the refusal as an error that is also the SDK's own."""
