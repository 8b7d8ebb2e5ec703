"""Read the outcome and the cost of a Stripe call from its attempts and its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Outcome, Reply, State, takes_key
from keybrake.vendors.attempts import Verdict, verdict
from keybrake.vendors.stripe.drafts import GROWN, TOUCHED
from keybrake.vendors.stripe.kinds import KINDS
from keybrake.vendors.stripe.money import micros
from keybrake.vendors.stripe.objects import UNSEEN
from keybrake.vendors.stripe.steps import dig, id_of, key_of
from keybrake.vendors.stripe.table import Rule
from keybrake.vendors.stripe.takes import EVENT_KNOWN
from keybrake.vendors.stripe.waiting import GONE, PENDING, WAITING
from keybrake.vendors.stripe.worth import Worth, worth


def outcome(call: Call, rule: Rule | None, reply: Reply, money: Money | None) -> Outcome:
    """See ``Vendor.outcome``."""
    if call.effect is Effect.READ:
        return _observed(call, reply)
    ended = verdict(reply, keyed=takes_key(call.method, call.path))
    if ended is Verdict.ANSWERED:
        return _answered(call, rule, reply, money)
    if ended is Verdict.NOTHING_HAPPENED:
        return _declined(call, rule, reply, money)
    if call.effect is Effect.FREE and not call.may_raise:
        note = "there was no usable answer, but a call to this endpoint costs nothing"
        return Outcome(State.SETTLED, http_status=reply.status, note=note)
    return Outcome(State.UNKNOWN, http_status=reply.status)


def _answered(call: Call, rule: Rule | None, reply: Reply, money: Money | None) -> Outcome:
    body = _decoded(reply)
    object_id = id_of(body.get("id"))
    plain = Outcome(State.SETTLED, conclusive=True, object_id=object_id, http_status=reply.status)
    if call.effect in (Effect.FREE, Effect.AUTHORITY):
        return plain
    if rule is not None and rule.kept:
        return _kept(call, plain)
    held = KINDS[rule.kind].read(call, body) if rule else worth(body)
    if held is None or not _is_readable(held):
        return _unreadable(reply, object_id)
    if rule is not None and _counts_nothing(call, rule, money):
        return replace(plain, value_micros=0, contingent_micros=_contingent(call, held, money))
    return _settled(call, held, reply, money, body)


def _counts_nothing(call: Call, rule: Rule, money: Money | None) -> bool:
    if rule.kind == "refund":
        return money is not None and money.refunds == "ignore"
    # The call moves no new money, and the ledger tracks no position it could release.
    follows = rule.kind in ("follow", "send") or call.value_micros is None
    return follows and call.usd_per_unit is None


def _is_readable(held: Worth) -> bool:
    return held.kept or held.minor == 0 or (held.minor is not None and held.currency is not None)


def _settled(
    call: Call, held: Worth, reply: Reply, money: Money | None, body: Mapping[str, Any]
) -> Outcome:
    rate = call.usd_per_unit
    if call.value_micros is not None and held.currency not in (call.currency, None):
        # Another party changed the currency of the object, so count its present worth.
        rate = money.rate(held.currency) if money else None
        if rate is None and held.minor:
            return _unreadable(reply, held.object_id)
    return Outcome(
        State.SETTLED,
        position=key_of(call, held.object_id),
        position_state=held.state,
        value_micros=_value(call, held, rate),
        # A replay under the caller's own key may be an old answer, and then says nothing new. Under
        # keybrake's key it answers this very call. One payment of an invoice (partial) says nothing
        # about the rest of the invoice, so treat it like an old answer.
        replayed=held.partial or (reply.replayed and call.idempotency_key is not None),
        conclusive=True,
        offsets=_offsets(call, body),
        absorbs=call.absorbs,
        contingent_micros=_contingent(call, held, money),
        currency=held.currency or call.currency,
        usd_per_unit=rate,
        object_id=id_of(body.get("id")) if held.kept else held.object_id,
        http_status=reply.status,
    )


def _value(call: Call, held: Worth, rate: Any) -> int | None:
    if held.kept:
        return call.value_micros
    if held.minor == 0:
        return 0
    if held.minor is None or held.currency is None or rate is None:
        return None
    return micros(held.minor, held.currency, rate)


def _contingent(call: Call, held: Worth, money: Money | None) -> int | None:
    if not held.contingent or held.currency is None or money is None:
        return None
    rate = money.rate(held.currency)
    shown = 0 if rate is None else micros(held.contingent, held.currency, rate)
    # The customer may still choose more than the session shows now.
    return max(shown, call.contingent_micros or 0) or None


def _offsets(call: Call, body: Mapping[str, Any]) -> str | None:
    """Return the position a refund takes back: the one looked up, else its intent or charge."""
    if call.offsets is None or EVENT_KNOWN in call.gathered:
        return call.offsets
    parent = id_of(body.get("payment_intent")) or id_of(body.get("charge"))
    return call.offsets if parent is None else key_of(call, parent)


# The state of the position for each marker in ``Call.gathered``, where the answer shows no amount.
_STATES = {
    UNSEEN: "in_flight",
    GROWN: "open",
    PENDING: "open",
    WAITING: "needs_human",
    TOUCHED: "needs_human",
    GONE: "released",
}


def _kept(call: Call, plain: Outcome) -> Outcome:
    """
    Return the outcome of a call whose answer shows no amount: the reservation is the cost.

    A marker in ``Call.gathered`` makes it a position, which no earlier call has made.
    """
    mark = next((one for one in call.gathered if isinstance(one, str) and one in _STATES), None)
    position = call.position
    if mark == PENDING and plain.object_id is not None:
        position = key_of(call, plain.object_id)
    if mark is None or position is None:
        return plain
    return replace(
        plain,
        position=position,
        position_state=_STATES[mark],
        value_micros=0 if mark in (WAITING, TOUCHED, GONE) else call.value_micros,
        # What is counted at more stays: such an answer, and a replay of it, shows no amount.
        replayed=mark in (TOUCHED, GROWN),
        absorbs=call.absorbs,
        currency=call.currency,
        usd_per_unit=call.usd_per_unit,
    )


def _declined(call: Call, rule: Rule | None, reply: Reply, money: Money | None) -> Outcome:
    """
    Return the outcome of a call that Stripe refused: nothing happened.

    A decline may show an intent that received money before, or that the call made dearer. Then the
    intent counts as it is shown.
    """
    declined = reply.status == 402
    conclusive = declined or (reply.replayed and reply.status not in (409, 429))
    intent = dig(_decoded(reply), ("error", "payment_intent")) if declined else None
    if isinstance(intent, Mapping) and rule is not None and call.usd_per_unit is not None:
        received = intent.get("amount_received")
        held = worth(intent)
        took = type(received) is int and received > 0
        if held is not None and _is_readable(held) and (took or _is_raised(call, held)):
            return _settled(call, held, reply, money, intent)
    return Outcome(State.VOIDED, conclusive=conclusive, http_status=reply.status)


def _is_raised(call: Call, held: Worth) -> bool:
    """
    Return whether a declined call left the intent that it acts on open at an amount it had not.

    Its next confirmation takes that amount. A create that is declined counts nothing: a later
    call on its intent looks the intent up.
    """
    shown = _value(call, held, call.usd_per_unit)
    if not shown or call.position != key_of(call, held.object_id):
        return False
    asked = call.value_micros or 0
    return shown >= asked if call.amount is not None else shown > asked


def _observed(call: Call, reply: Reply) -> Outcome:
    """Return the outcome of a read: it costs nothing, but may lower the position it shows."""
    ended = Outcome(State.SETTLED, http_status=reply.status)
    held = worth(_decoded(reply)) if call.position and call.usd_per_unit else None
    if held is None or held.minor is None or held.currency != call.currency:
        return ended
    if key_of(call, held.object_id) != call.position:
        return ended
    return replace(
        ended,
        position=call.position,
        position_state=held.state,
        value_micros=_value(call, held, call.usd_per_unit),
        observed=True,
        currency=held.currency,
        usd_per_unit=call.usd_per_unit,
        object_id=held.object_id,
    )


def _unreadable(reply: Reply, object_id: str | None) -> Outcome:
    note = "the answer was a success, but keybrake found no amount in it"
    return Outcome(State.UNKNOWN, object_id=object_id, http_status=reply.status, note=note)


def _decoded(reply: Reply) -> Mapping[str, Any]:
    """Return the answered object; ``{}`` if the body is not a JSON object."""
    if reply.body is None:
        return {}
    try:
        body = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
