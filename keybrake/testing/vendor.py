"""Name what a fake wants to know from a vendor."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from keybrake.testing.journal import Move
from keybrake.testing.server import Request, Response


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What the vendor itself decided, before anything goes wrong on the way.

    Attributes:
        response: What it says.
        began: Whether the request was carried out, so that its idempotency key is used up.
        move: What it did to a position, if it was about one.
        object_id: The object it is about, if one.
        status: That object's status.

    """

    response: Response
    began: bool = False
    move: Move | None = None
    object_id: str | None = None
    status: str | None = None


class Vendor(Protocol):
    """The answers of one vendor: no threads, no wire, no faults."""

    def params(self, request: Request) -> Mapping[str, Any]:
        """Return the parameters of *request*, for the journal; empty if unreadable."""

    def credential(self, request: Request) -> str:
        """Return the secret *request* came with, or an empty string."""

    def idempotency(self, request: Request) -> tuple[Hashable, str] | None:
        """Return the key that counts for *request* and its fingerprint, if it has one."""

    def answer(self, request: Request) -> Answer:
        """Carry *request* out."""

    def failure(self, request: Request, reason: str) -> Response:
        """
        Say in the vendor's own shape why *request* failed.

        *reason* is ``server_error``, ``rate_limited``, ``key_in_use`` or ``key_reused``.
        """

    def replay(self, request: Request, stored: Response) -> Response:
        """Return *stored* marked as a repetition."""
