"""Keep what the fake Twilio has: objects, and what they will cost once their price is named."""

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

# What the fake charges, in micro-USD: figures to test with, no price list of Twilio's.
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
    An object whose price comes late.

    Attributes:
        body: As a GET shows it.
        kind: ``message``, ``call``, ``recording`` or ``verification``.
        cost: What it will turn out to cost, in micro-USD.
        made_at: When it was made, by the store's clock.
        finish: Puts the price into the body, and the status that goes with it.
    """

    body: dict[str, Any]
    kind: str
    cost: int
    made_at: float
    finish: Callable[["Priced"], None]
    done: bool = False


@dataclass(slots=True)
class Store:
    """Everything the fake has; not thread-safe by itself."""

    rates: dict[str, int] = field(default_factory=lambda: dict(RATES))
    price_after: float | None = None
    clock: Callable[[], float] = time.monotonic
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    priced: dict[str, Priced] = field(default_factory=dict)
    _own: str = field(default_factory=lambda: secrets.token_hex(8))
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def new_sid(self, prefix: str) -> str:
        """Return an id as Twilio writes them: no other fake's, and they count up."""
        return f"{prefix}{self._own}{next(self._numbers):016x}"

    def add(self, body: dict[str, Any]) -> dict[str, Any]:
        """Keep an object."""
        self.objects[body["sid"]] = body
        return body

    def add_priced(
        self, body: dict[str, Any], kind: str, cost: int, finish: Callable[[Priced], None]
    ) -> Move:
        """Keep an object whose price comes later, and return what it moved."""
        self.add(body)
        self.priced[body["sid"]] = Priced(body, kind, cost, self.clock(), finish)
        return self.move(body["sid"], moved=True)

    def move(self, sid: str, *, moved: bool = False) -> Move:
        """Return what a request did to a priced object; *moved*: it committed more."""
        priced = self.priced[sid]
        status = str(priced.body.get("status", ""))
        return Move(priced.kind, sid, priced.cost, "usd", status, moved, priced.cost)

    def find(self, prefix: str, sid: str, path: str) -> dict[str, Any]:
        """Return an object by its id, with its price if the time for that has come."""
        found = self.objects.get(sid)
        if found is None or not sid.startswith(prefix):
            raise not_found(path)
        self._ripen(sid)
        return found

    def every(self, prefix: str) -> Iterable[dict[str, Any]]:
        """Return all objects of a kind, newest first."""
        for sid in reversed([sid for sid in self.objects if sid.startswith(prefix)]):
            self._ripen(sid)
            yield self.objects[sid]

    def _ripen(self, sid: str) -> None:
        priced = self.priced.get(sid)
        if priced is None or self.price_after is None:
            return
        if self.clock() - priced.made_at >= self.price_after:
            self.finish(priced)

    def finish(self, priced: Priced) -> None:
        """Name the price of an object that has none yet."""
        if not priced.done:
            priced.done = True
            priced.finish(priced)


def shown_price(micros: int) -> str:
    """Return a cost as Twilio writes it: negative, with five decimals."""
    return f"{-micros / 1_000_000:.5f}"


def now() -> str:
    """Return this moment as the 2010 API writes it."""
    return format_datetime(datetime.now(UTC))


def now_iso() -> str:
    """Return this moment as the newer APIs write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
