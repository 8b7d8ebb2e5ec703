"""The Twilio vendor: find the endpoint of a call, its highest possible cost, and its outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from keybrake.config.settings import Money
from keybrake.model.call import (
    Call,
    Effect,
    Lookup,
    Meter,
    Outcome,
    Position,
    Reply,
    Request,
    State,
)
from keybrake.vendors.attempts import Verdict, verdict
from keybrake.vendors.twilio import answers, prices, verify
from keybrake.vendors.twilio.endpoints import Place, Places
from keybrake.vendors.twilio.form import Form, Unpriced, unknown

_NUMBERS = (
    "twilio.incoming_phone_numbers.create",
    "twilio.incoming_phone_numbers.local.create",
    "twilio.incoming_phone_numbers.mobile.create",
    "twilio.incoming_phone_numbers.toll_free.create",
)
# The field of the answer that names the position. Twilio sets the price later, or never.
_NAMED_BY: Mapping[str, str] = {
    "twilio.messages.create": "sid",
    "twilio.messages.update": "sid",
    "twilio.calls.create": "sid",
    "twilio.calls.update": "sid",
    "twilio.calls.recordings.create": "sid",
    "twilio.conferences.participants.create": "call_sid",
    "twilio.outgoing_caller_ids.create": "call_sid",
    **dict.fromkeys(_NUMBERS, "sid"),
}

_Read = Callable[[Mapping[str, Any], Money | None], answers.Worth | None]
# The readers of answers that show a price as soon as Twilio has set it.
_READS: Mapping[str, _Read] = {
    "twilio.messages.create": answers.message,
    "twilio.messages.update": answers.message,
    "twilio.messages.retrieve": answers.message,
    "twilio.calls.create": answers.call,
    "twilio.calls.update": answers.call,
    "twilio.calls.retrieve": answers.call,
    "twilio.calls.recordings.create": answers.recording,
    "twilio.calls.recordings.retrieve": answers.recording,
    "twilio.recordings.retrieve": answers.recording,
}
# The endpoints that can be priced from the request alone.
_PRICES: Mapping[str, Callable[[Form, str, Money], int]] = {
    "twilio.messages.create": prices.message,
    "twilio.calls.create": prices.call,
    "twilio.conferences.participants.create": prices.call,
    "twilio.outgoing_caller_ids.create": prices.validation_call,
    "twilio.lookups.batch.query.create": prices.lookups,
}


class Twilio:
    """See ``keybrake.vendors.Vendor``."""

    name = "twilio"

    def __init__(self) -> None:
        self._places = Places()

    def endpoints(self) -> frozenset[str]:
        """See ``Vendor.endpoints``."""
        return self._places.names()

    def has_path(self, method: str, pattern: str) -> bool:
        """See ``Vendor.has_path``."""
        return self._places.could_be(method, pattern)

    def describe(self, request: Request, money: Money) -> Call:
        """See ``Vendor.describe``."""
        place = self._places.of(request.method, request.url)
        call = _call(request, place)
        if place.odd and not call.refusal:
            words = f"the path is not in canonical form: {place.odd}"
            return call._replace(refusal=("path_not_canonical", words))
        if call.refusal or place.row is None:
            return call
        if call.endpoint == verify.ATTEMPT:
            return call._replace(lookup=Lookup(known_as=answers.key(call, place.ids[-1])))
        if call.effect is not Effect.MONEY:
            return call
        call = call._replace(currency="usd", usd_per_unit=Fraction(1), meter=Meter.USAGE)
        try:
            return _priced(call, Form(request.params), place.ids, money)
        except Unpriced as no:
            return call._replace(refusal=no.refusal)

    def complete(self, call: Call, found: Position | Mapping[str, Any], money: Money) -> Call:
        """See ``Vendor.complete``."""
        if isinstance(found, Position):
            if call.effect is Effect.READ:
                return call._replace(position=found.key)
            # The ledger counts this position already: the call adds nothing to it, unless its
            # answer shows a price.
            return call._replace(value_micros=found.value_micros, gathered=())
        if call.endpoint != "twilio.calls.update" or not call.gathered:
            return call
        try:
            return _going_on(call, found, money)
        except Unpriced as no:
            return call._replace(refusal=call.refusal or no.refusal)

    def outcome(self, call: Call, reply: Reply, money: Money | None = None) -> Outcome:
        """See ``Vendor.outcome``."""
        if call.effect is Effect.READ:
            return _seen(call, reply, money)
        ended = verdict(reply)
        if ended is not Verdict.ANSWERED:
            state = State.UNKNOWN if ended is Verdict.UNKNOWN else State.VOIDED
            return Outcome(state, http_status=reply.status)
        return replace(_answered(call, answers.body_of(reply), money), http_status=reply.status)


def _call(request: Request, place: Place) -> Call:
    row, method = place.row, request.method
    unlisted = Effect.READ if method == "GET" else Effect.UNCLASSIFIED
    return Call(
        vendor="twilio",
        endpoint=row.endpoint if row else f"twilio.unlisted.{method.lower()}",
        method=method,
        path=place.path,
        effect=row.effect if row else unlisted,
        account=place.account or request.account,
        owner=request.owner,
        refusal=request.refusal,
    )


def _priced(  # noqa: PLR0911 -- one return per way a call is priced
    call: Call, form: Form, ids: tuple[str, ...], money: Money
) -> Call:
    price = _PRICES.get(call.endpoint)
    if price is not None:
        return call._replace(value_micros=price(form, call.endpoint, money))
    match call.endpoint:
        case "twilio.messages.update":
            return _if_known(call, ids[-1])
        case "twilio.calls.update":
            return _call_update(call, form, ids, money)
        case "twilio.lookups.phone_numbers.retrieve":
            return _lookup(call, prices.lookup(form, money))
        case verify.START:
            return verify.start(call, form, money)
        case endpoint if endpoint in verify.CHECKS:
            return verify.check(call, form, ids, money)
        case endpoint if endpoint in _NUMBERS:
            value = prices.number_month(form, endpoint, money)
            return call._replace(value_micros=value, recurring=True)
    return call._replace(value_micros=prices.endpoint_price(call.endpoint, money))


def _lookup(call: Call, value: int) -> Call:
    """Price a look-up of a number, the only GET that can cost money."""
    if not value:
        return call._replace(effect=Effect.READ, meter=None)
    return call._replace(value_micros=value)


def _if_known(call: Call, sid: str) -> Call:
    """Return a call that changes money only if the ledger already counts the object *sid*."""
    position = answers.key(call, sid)
    return call._replace(value_micros=None, position=position, lookup=Lookup(known_as=position))


def _call_update(call: Call, form: Form, ids: tuple[str, ...], money: Money) -> Call:
    """Price an update of a live phone call, which can end it, prolong it or redirect it."""
    if (beside := prices.further(form, call.endpoint, money)) is not None:
        # Each update with such TwiML causes new calls or messages, so it is a new cost.
        if form["TimeLimit"] is not None:
            words = "new TwiML and a new TimeLimit in one request; send the TimeLimit by itself"
            raise unknown(words)
        return call._replace(value_micros=beside)
    call = _if_known(call, ids[-1])
    if form.text("Status") in ("completed", "canceled"):
        return call
    seconds = prices.call_time(form, money)
    # A new TimeLimit is priced by the destination, so look up the phone call at Twilio even if
    # the ledger has its position.
    known_as = None if form["TimeLimit"] is not None else call.position
    return call._replace(lookup=Lookup(known_as, call.path), gathered=(seconds,))


def _going_on(call: Call, found: Mapping[str, Any], money: Money) -> Call:
    """Price a live phone call that was looked up as if it lasted until its time limit."""
    sid, to = answers.sid_of(found), found.get("to")
    if sid is None or not isinstance(to, str):
        words = "the call to change could not be looked up"
        raise unknown(words)
    if str(found.get("direction")).startswith("outbound"):
        value = prices.voice(to, call.gathered[0], call.endpoint, money)
    else:
        value = prices.endpoint_price(call.endpoint, money, "the call is not an outbound one")
    # No Twilio endpoint changes the destination of a phone call, so no Twilio call needs ``may_raise``.
    key = answers.key(call, sid)
    return call._replace(position=key, value_micros=value, priced_by=(key,))


def _answered(call: Call, body: Mapping[str, Any] | None, money: Money | None) -> Outcome:
    """Return the outcome of a successful write or paid look-up."""
    if call.endpoint == verify.START:
        return verify.sent(call, body)
    if call.endpoint in verify.CHECKS:
        return verify.checked(call, body)
    caused = call.endpoint == "twilio.calls.update" and call.position is None
    if call.endpoint not in _NAMED_BY or caused:
        # Twilio never shows a price for these, nor for the effects of new TwiML, so the
        # reservation becomes the cost.
        return Outcome(State.SETTLED, object_id=answers.sid_of(body) if body else None)
    sid = answers.sid_of(body, _NAMED_BY[call.endpoint]) if body else None
    if body is None or sid is None:
        return answers.UNREADABLE
    read = _READS.get(call.endpoint)
    worth = read(body, money) if read else None
    if worth is None:
        if call.endpoint.endswith(".update") and not call.gathered:
            return Outcome(State.SETTLED, object_id=sid)
        worth = answers.Worth("estimated", call.value_micros or 0)
    return answers.told(call, sid, worth)


def _seen(call: Call, reply: Reply, money: Money | None) -> Outcome:
    """Return the outcome of a read. It costs nothing, but may show the price of a position."""
    told = None
    body = answers.body_of(reply) if verdict(reply) is Verdict.ANSWERED else None
    if body is not None and call.endpoint == verify.ATTEMPT:
        told = verify.attempted(call, body, money)
    elif body is not None and call.endpoint in _READS:
        sid, worth = answers.sid_of(body), _READS[call.endpoint](body, money)
        if sid is not None and worth is not None:
            told = answers.told(call, sid, worth, observed=True)
    return replace(told or Outcome(State.SETTLED), http_status=reply.status)
