"""Define the interface between a fake's shared machinery and one vendor's behaviour."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from keybrake.testing.journal import Move
from keybrake.testing.server import Request, Response


@dataclass(frozen=True, slots=True)
class Answer:
    """
    The vendor's decision about a request, before a fault changes the answer.

    Attributes:
        response: The answer to send.
        began: Whether the vendor carried out the request; if so, its idempotency key is used up.
        move: The effect on a position, if the request concerned one.
        object_id: The id of the object that the request concerned, if any.
        status: The status of that object.

    """

    response: Response
    began: bool = False
    move: Move | None = None
    object_id: str | None = None
    status: str | None = None


class Vendor(Protocol):
    """The behaviour of one vendor, without threads, network or faults."""

    def params(self, request: Request) -> Mapping[str, Any]:
        """Return the parameters of *request* for the journal; empty if they are unreadable."""

    def credential(self, request: Request) -> str:
        """Return the credential of *request*, or an empty string."""

    def idempotency(self, request: Request) -> tuple[Hashable, str] | None:
        """Return the idempotency key and the fingerprint of *request*; None: it has no key."""

    def answer(self, request: Request) -> Answer:
        """Carry out *request* and return the answer."""

    def failure(self, request: Request, reason: str) -> Response:
        """
        Return the vendor's own error answer for *reason*.

        *reason* is ``server_error``, ``rate_limited``, ``key_in_use`` or ``key_reused``.
        """

    def replay(self, request: Request, stored: Response) -> Response:
        """Return *stored*, marked as a replay."""
