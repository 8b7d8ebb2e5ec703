"""Remember idempotency keys and the answers that were given under them."""

import enum
from collections.abc import Hashable
from dataclasses import dataclass

from keybrake.testing.server import Response


class Seen(enum.Enum):
    """The reason why a known key has no answer to repeat."""

    OTHER_REQUEST = "other_request"
    IN_FLIGHT = "in_flight"


@dataclass(slots=True)
class _Record:
    fingerprint: str
    answer: Response | None = None
    in_flight: bool = True


class IdempotencyKeys:
    """
    Remember the answer to every request that the vendor began to carry out.

    This class is not thread-safe: the fake calls it under its own lock.
    """

    def __init__(self) -> None:
        self._records: dict[Hashable, _Record] = {}

    def begin(self, key: Hashable, fingerprint: str) -> Response | Seen | None:
        """
        Return the stored answer, or the reason why there is none.

        None means that the key was unknown; it is now in flight.
        """
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
        """Store the answer for every later request with *key*."""
        self._records[key].answer = answer

    def finish(self, key: Hashable) -> None:
        """Let later requests see the answer; forget the key if no answer was stored."""
        record = self._records[key]
        record.in_flight = False
        if record.answer is None:
            del self._records[key]
