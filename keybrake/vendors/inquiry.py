"""The questions that reconciling asks a vendor about calls of unknown outcome or price."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Estimated, InDoubt, Meter, Outcome, Reply
from keybrake.model.clock import HOUR

# Stripe and Resend keep the answer to an idempotency key for at least 24 hours. After that they
# carry the same request out again, so a call is repeated only while it is younger than this.
REPEATABLE = 23 * HOUR


@dataclass(frozen=True, slots=True)
class Inquiry:
    """
    One request that reconciling sends to the vendor.

    Attributes:
        method: GET, or the method of the call where the call is repeated.
        path: Path on the origin that the call went to.
        params: Query of a GET; body of any other method.
        idempotency_key: Key of the call that is repeated. The vendor returns its first answer,
            or carries the call out now if it never arrived. None: the inquiry is a read.
    """

    method: str
    path: str
    params: Any = field(default_factory=dict)
    idempotency_key: str | None = None


class Inquirer(Protocol):
    """Finds the questions for one vendor and reads the answers. Every method is pure."""

    def inquiries(self, doubt: InDoubt, now: int) -> Sequence[Inquiry]:
        """Return the inquiries about a call in doubt, reads first; *now* in micros."""

    def findings(
        self, doubt: InDoubt, inquiry: Inquiry, reply: Reply, money: Money
    ) -> Sequence[Outcome]:
        """Return every outcome this reply allows: a single one is proof, several are not."""

    def price_inquiry(self, estimated: Estimated) -> Inquiry | None:
        """Return the inquiry for the price of a position; None: the vendor never names it."""


class Judge(Protocol):
    """Reads a vendor's answers. Every ``Vendor`` is one."""

    def outcome(self, call: Call, reply: Reply, money: Money | None = None) -> Outcome:
        """See ``keybrake.vendors.Vendor``."""


def kept_of(doubt: InDoubt) -> Mapping[str, Any]:
    """Return the stored request (``params``, ``value``, ``gathered``, ``offsets``), or ``{}``."""
    kept = json.loads(doubt.request) if doubt.request else {}
    return kept if isinstance(kept, dict) else {}


def call_of(doubt: InDoubt) -> Call:
    """Rebuild a call in doubt as it was when the ledger admitted it."""
    rate = None if doubt.usd_per_unit is None else Fraction(doubt.usd_per_unit)
    kept = kept_of(doubt)
    return Call(
        vendor=doubt.vendor,
        endpoint=doubt.endpoint,
        method=doubt.method,
        path=doubt.path,
        # Only calls that cost money have a meter. A free call is stored as well if it can make
        # an object dearer (``may_raise``).
        effect=Effect.FREE if doubt.meter is None else Effect.MONEY,
        amount=doubt.amount,
        currency=doubt.currency,
        # The stored value, not the reservation: a call whose position or idempotency key was
        # already counted reserved only the difference.
        value_micros=kept.get("value"),
        position=doubt.position,
        account=doubt.account,
        usd_per_unit=rate,
        owner=doubt.owner,
        gathered=tuple(kept.get("gathered", ())),
        meter=None if doubt.meter is None else Meter(doubt.meter),
        offsets=kept.get("offsets"),
    )


def repeat_of(doubt: InDoubt, now: int) -> Inquiry | None:
    """Return an inquiry that repeats the call under its own key; None: no key, or too old."""
    # Without a key the vendor would carry the request out twice. A negative age means that the
    # clock is wrong, so the key may already have expired.
    if doubt.sent_key is None or not 0 <= now - doubt.at <= REPEATABLE:
        return None
    return Inquiry(doubt.method, doubt.path, kept_of(doubt)["params"], doubt.sent_key)


def body_of(reply: Reply) -> Mapping[str, Any]:
    """Return the decoded body of a success; ``{}`` if there is no success or no JSON object."""
    if not reply.succeeded or reply.body is None:
        return {}
    try:
        body = json.loads(reply.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def shown_as_answer(thing: object) -> Reply:
    """Wrap an object read from the vendor as if it answered the call that created it."""
    return Reply(status=200, body=json.dumps(thing))
