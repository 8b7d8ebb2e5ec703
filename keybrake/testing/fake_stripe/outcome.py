"""Name what an endpoint hands back."""

from dataclasses import dataclass
from typing import Any

from keybrake.testing.journal import Move


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    The object to answer with, and what it did to a position.

    *content_type* is set when *body* is not JSON but bytes.
    """

    body: Any
    move: Move | None = None
    content_type: str | None = None
