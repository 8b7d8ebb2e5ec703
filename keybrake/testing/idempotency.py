"""Remember which idempotency keys were seen, and what was answered then."""

import enum
from collections.abc import Hashable
from dataclasses import dataclass

from keybrake.testing.server import Response


class Seen(enum.Enum):
    """Why a key that is known brings no stored answer."""

    OTHER_REQUEST = "other_request"
    IN_FLIGHT = "in_flight"


@dataclass(slots=True)
class _Record:
    fingerprint: str
    answer: Response | None = None
    in_flight: bool = True


class IdempotencyKeys:
    """
    Remember the answer of every request that began to be carried out.

    Not thread-safe by itself: the fake calls it under the lock that guards its state.
    """

    def __init__(self) -> None:
        self._records: dict[Hashable, _Record] = {}

    def begin(self, key: Hashable, fingerprint: str) -> Response | Seen | None:
        """Return the stored answer, or why there is none; None opens the key."""
        record = self._records.get(key)
        if record is None:
            self._records[key] = _Record(fingerprint)
            return None
        if record.fingerprint != fingerprint:
            return Seen.OTHER_REQUEST
        if record.in_flight or record.answer is None:
            return Seen.IN_FLIGHT
        return record.answer

    def keep(self, key: Hashable, answer: Response) -> None:
        """Store what every later request with *key* is told."""
        self._records[key].answer = answer

    def finish(self, key: Hashable) -> None:
        """Let later requests see the answer; forget the key if nothing was begun."""
        record = self._records[key]
        record.in_flight = False
        if record.answer is None:
            del self._records[key]
