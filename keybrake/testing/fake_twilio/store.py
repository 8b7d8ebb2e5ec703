"""Store the fake Twilio's objects, and the prices that the answers will show later."""

import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final

from keybrake.testing.fake_twilio.errors import not_found
from keybrake.testing.journal import Move

# The fake's prices in micro-USD. They are test figures, not Twilio's price list.
RATES: Final[Mapping[str, int]] = {
    "sms_segment": 7_900,
    "mms_message": 20_000,
    "whatsapp_message": 5_000,
    "failed_message": 1_000,
    "voice_minute": 14_000,
    "recording_minute": 2_500,
    "number_month": 1_150_000,
    "lookup_field": 8_000,
    "verify_code": 8_300,
    "verify_success": 50_000,
}


@dataclass(slots=True)
class Priced:
    """
    An object whose price appears later.

    Attributes:
        body: The body that a GET returns.
        kind: ``message``, ``call``, ``recording`` or ``verification``.
        cost: The final cost in micro-USD.
        made_at: The time of creation by the store's clock.
        finish: A function that writes the price and the final status into the body.
    """

    body: dict[str, Any]
    kind: str
    cost: int
    made_at: float
    finish: Callable[["Priced"], None]
    done: bool = False


@dataclass(slots=True)
class Store:
    """The objects of the fake; not thread-safe: the fake calls it under its own lock."""

    rates: dict[str, int] = field(default_factory=lambda: dict(RATES))
    price_after: float | None = None
    clock: Callable[[], float] = time.monotonic
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    priced: dict[str, Priced] = field(default_factory=dict)
    _id_prefix: str = field(default_factory=lambda: secrets.token_hex(8))
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def new_sid(self, prefix: str) -> str:
        """Return an id in Twilio's format, unique across fakes and increasing."""
        return f"{prefix}{self._id_prefix}{next(self._numbers):016x}"

    def add(self, body: dict[str, Any]) -> dict[str, Any]:
        """Store an object."""
        self.objects[body["sid"]] = body
        return body

    def add_priced(
        self, body: dict[str, Any], kind: str, cost: int, finish: Callable[[Priced], None]
    ) -> Move:
        """Store an object whose price appears later, and return the money it commits."""
        self.add(body)
        self.priced[body["sid"]] = Priced(body, kind, cost, self.clock(), finish)
        return self.move(body["sid"], moved=True)

    def move(self, sid: str, *, moved: bool = False) -> Move:
        """Return the effect on a priced object; *moved* tells whether it commits more money."""
        priced = self.priced[sid]
        status = str(priced.body.get("status", ""))
        return Move(priced.kind, sid, priced.cost, "usd", status, moved, priced.cost)

    def find(self, prefix: str, sid: str, path: str) -> dict[str, Any]:
        """Return an object by its id, with its price if that is due."""
        found = self.objects.get(sid)
        if found is None or not sid.startswith(prefix):
            raise not_found(path)
        self._set_price_if_due(sid)
        return found

    def every(self, prefix: str) -> Iterable[dict[str, Any]]:
        """Return all objects of a kind, newest first."""
        for sid in reversed([sid for sid in self.objects if sid.startswith(prefix)]):
            self._set_price_if_due(sid)
            yield self.objects[sid]

    def _set_price_if_due(self, sid: str) -> None:
        priced = self.priced.get(sid)
        if priced is None or self.price_after is None:
            return
        if self.clock() - priced.made_at >= self.price_after:
            self.finish(priced)

    def finish(self, priced: Priced) -> None:
        """Set the price of an object, unless it is set already."""
        if not priced.done:
            priced.done = True
            priced.finish(priced)


def shown_price(micros: int) -> str:
    """Return a cost in Twilio's format: negative, with five decimals."""
    return f"{-micros / 1_000_000:.5f}"


def now() -> str:
    """Return the current time in the format of the 2010 API."""
    return format_datetime(datetime.now(UTC))


def now_iso() -> str:
    """Return the current time in the format of the newer APIs."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
