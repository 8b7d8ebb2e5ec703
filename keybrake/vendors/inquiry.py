"""What to ask a vendor about a call whose outcome, or price, nobody knows yet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Estimated, InDoubt, Meter, Outcome, Reply
from keybrake.model.clock import HOUR

# Stripe and Resend repeat what they answered under a key for 24 hours at least. Later the same
# request would be a new one.
REPEATABLE = 23 * HOUR


@dataclass(frozen=True, slots=True)
class Inquiry:
    """
    One question.

    Attributes:
        method: GET, or the call's own where the call is repeated.
        path: At the origin the call went to.
        params: Query of a GET, else the body.
        idempotency_key: The call's own: the vendor repeats its answer, or, if the call never
            arrived, carries it out now. None: a read.
    """

    method: str
    path: str
    params: Any = field(default_factory=dict)
    idempotency_key: str | None = None


class Inquirer(Protocol):
    """What reconciling asks about a vendor. Every answer is pure."""

    def inquiries(self, doubt: InDoubt, now: int) -> Sequence[Inquiry]:
        """Return what to ask about a call in doubt, reads first; *now* in micros."""

    def findings(
        self, doubt: InDoubt, inquiry: Inquiry, reply: Reply, money: Money
    ) -> Sequence[Outcome]:
        """Return how the call may have ended, by this reply: one is proof, several are not."""

    def price_inquiry(self, estimated: Estimated) -> Inquiry | None:
        """Return what to ask for the price of a position; None: the vendor never says it."""


class Judge(Protocol):
    """Whoever reads a vendor's answers: the vendor itself."""

    def outcome(self, call: Call, reply: Reply, money: Money | None = None) -> Outcome:
        """See ``keybrake.vendors.Vendor``."""


def kept_of(doubt: InDoubt) -> Mapping[str, Any]:
    """Return what was kept of a call: ``params``, ``value``, ``gathered``, ``offsets``; or nothing."""
    kept = json.loads(doubt.request) if doubt.request else {}
    return kept if isinstance(kept, dict) else {}


def call_of(doubt: InDoubt) -> Call:
    """Return a call in doubt as it was when it was admitted."""
    rate = None if doubt.usd_per_unit is None else Fraction(doubt.usd_per_unit)
    kept = kept_of(doubt)
    return Call(
        vendor=doubt.vendor,
        endpoint=doubt.endpoint,
        method=doubt.method,
        path=doubt.path,
        # The request of a free call is kept, too, if it can make something dearer.
        effect=Effect.FREE if doubt.meter is None else Effect.MONEY,
        amount=doubt.amount,
        currency=doubt.currency,
        # Not what was reserved: a call that leaned on another reserved less than it may be worth.
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
    """Return the call once more under its own key; None: it has none, or is too old for that."""
    # A request without a key would be carried out a second time. Nor is a clock trusted that says
    # that the call has yet to be made.
    if doubt.sent_key is None or not 0 <= now - doubt.at <= REPEATABLE:
        return None
    return Inquiry(doubt.method, doubt.path, kept_of(doubt)["params"], doubt.sent_key)


def body_of(reply: Reply) -> Mapping[str, Any]:
    """Return the decoded body of a success; empty if it is none."""
    if not reply.succeeded or reply.body is None:
        return {}
    try:
        body = json.loads(reply.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def shown_as_answer(thing: object) -> Reply:
    """Return an object the vendor has as if it was the answer to the call that made it."""
    return Reply(status=200, body=json.dumps(thing))
