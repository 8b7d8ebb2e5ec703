"""Define the output of the fake Stripe's endpoints."""

from dataclasses import dataclass
from typing import Any

from keybrake.testing.journal import Move


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    The output of an endpoint: the body, and the effect on a position.

    *content_type* is set if *body* is bytes instead of JSON.
    """

    body: Any
    move: Move | None = None
    content_type: str | None = None
