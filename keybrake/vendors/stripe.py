"""What a Stripe call is, what it can cost at most, and what it did cost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from keybrake._config import Money
from keybrake._model import Call, Effect, Lookup, Outcome, Position, Reply, Request, State
from keybrake._shown import shown
from keybrake.vendors._attempts import Verdict, verdict
from keybrake.vendors._paths import EndpointTable, oddity, path_of
from keybrake.vendors._stripe_money import currency_code, micros, minor_amount, worth

# Where each endpoint that moves money names its amount. An amount of a payment intent is always
# the new total of its position, never a step (increment_authorization included).
_NEW_MONEY = {
    "stripe.payment_intents.create",
    "stripe.charges.create",
    "stripe.transfers.create",
    "stripe.payouts.create",
}
_ON_POSITION = {
    "stripe.payment_intents.update": "amount",
    "stripe.payment_intents.confirm": "amount_to_confirm",
    "stripe.payment_intents.capture": "amount_to_capture",
    "stripe.payment_intents.increment_authorization": "amount",
    "stripe.charges.capture": "amount",
}
_RELEASES = {"stripe.payment_intents.cancel"}
_OBSERVED = {
    "stripe.payment_intents.retrieve",
    "stripe.charges.retrieve",
    "stripe.refunds.retrieve",
    "stripe.payouts.retrieve",
}


_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")


class Stripe:
    """See ``keybrake.vendors.Vendor``."""

    name = "stripe"

    def __init__(self) -> None:
        self._table = EndpointTable.read("keybrake.vendors", "stripe_endpoints.csv")

    def endpoints(self) -> frozenset[str]:
        """See ``Vendor.endpoints``."""
        return frozenset(row.endpoint for row in self._table.rows)

    def describe(self, request: Request, money: Money) -> Call:
        """See ``Vendor.describe``."""
        path = path_of(request.url)
        odd = oddity(path)
        row, ids = (None, ()) if odd else self._table.find(request.method, path)
        call = Call(
            vendor=self.name,
            endpoint=row.endpoint if row else f"stripe.unlisted.{request.method.lower()}",
            method=request.method,
            path=path if odd is None else ascii(path)[1:200],
            effect=row.effect if row else _unlisted(request.method),
            account=request.account,
            owner=request.owner,
            idempotency_key=request.idempotency_key,
            refusal=request.refusal,
        )
        if odd and not call.refusal:
            words = f"the path {path!a:.100} is not in canonical form: {odd}"
            return call._replace(refusal=("path_not_canonical", words))
        if call.refusal or row is None:
            return call
        return self._priced(call, request.params, ids, money)

    def _priced(  # noqa: PLR0911 -- one return per way a call is priced
        self, call: Call, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
    ) -> Call:
        if call.endpoint in _OBSERVED:
            return self._if_known(call, ids[0])
        if call.effect is not Effect.MONEY:
            return call
        if refusal := _ambiguous(params):
            return call._replace(refusal=refusal)
        if call.endpoint in _NEW_MONEY:
            return _new_money(call, params, money)
        if call.endpoint in _RELEASES:
            return self._if_known(call._replace(value_micros=None), ids[0])
        if call.endpoint == "stripe.refunds.create":
            return self._refund(call, params, money)
        return self._on_position(call, params, ids[0])

    def _if_known(self, call: Call, object_id: str) -> Call:
        """Return a call that matters only if the ledger counts that object already."""
        key = self._key(call, object_id)
        return call._replace(position=key, lookup=Lookup(known_as=key))

    def _on_position(self, call: Call, params: Mapping[str, Any], object_id: str) -> Call:
        field = _ON_POSITION[call.endpoint]
        call = self._if_known(call._replace(value_micros=None), object_id)
        amount = params.get(field)
        if call.endpoint == "stripe.payment_intents.update":
            if amount is None and params.get("currency") is None:
                return call  # changes a description, say; the position stays what it is
            call = _with_currency(call, params.get("currency"))
        if amount is not None:
            call = _with_amount(call, amount, field)
        resource = "charges" if ".charges." in call.endpoint else "payment_intents"
        # A new currency without an amount: only the object says how many units of it.
        known_as = None if call.currency and call.amount is None else call.position
        return call._replace(lookup=Lookup(known_as, f"/v1/{resource}/{object_id}"))

    def _refund(self, call: Call, params: Mapping[str, Any], money: Money) -> Call:
        """A refund has no currency of its own, and without an amount it takes all that is left."""
        if params.get("amount") is not None:
            call = _with_amount(call, params["amount"], "amount")
            if params.get("currency") is not None:
                return self._refund_in(call, params, money)
        for field, resource in (("charge", "charges"), ("payment_intent", "payment_intents")):
            parent = _id_of(params.get(field))
            if parent:
                if not _ID.fullmatch(parent):
                    words = f"{field}={shown(parent)} is not an id"
                    return call._replace(refusal=("path_not_canonical", words))
                path = f"/v1/{resource}/{parent}"
                # The parent's position knows the currency, but not what is left of it.
                known_as = None if call.amount is None else self._key(call, parent)
                return call._replace(lookup=Lookup(known_as, path), value_micros=None)
        return call._replace(refusal=_unknown("the refund names neither charge nor payment_intent"))

    def _refund_in(self, call: Call, params: Mapping[str, Any], money: Money) -> Call:
        """A refund that names its currency: the parent's, if the ledger knows it, goes before."""
        call = _new_money(call, params, money)
        parent = _id_of(params.get("charge")) or _id_of(params.get("payment_intent"))
        return call if parent is None else call._replace(lookup=Lookup(self._key(call, parent)))

    def complete(self, call: Call, found: Position | Mapping[str, Any], money: Money) -> Call:
        """See ``Vendor.complete``."""
        if isinstance(found, Position):
            rate = found.usd_per_unit
            if call.endpoint == "stripe.refunds.create":
                return _at_rate(call, found.currency, rate, None)
            if call.currency not in (None, found.currency):
                rate = money.rate(str(call.currency))
            # Else the rate it was counted with is frozen: what it gives back is what it took.
            return _at_rate(call, call.currency or found.currency, rate, found.value_micros)
        if call.endpoint == "stripe.refunds.create":
            return _refund_of(call, found, money)
        held = worth(found)
        if held is None or held.minor is None or held.currency is None:
            return call._replace(refusal=_unknown("the object to act on does not say its amount"))
        call = call._replace(position=self._key(call, held.object_id))
        currency = call.currency or held.currency
        rate = money.rate(currency)
        value = None if rate is None else micros(held.minor, currency, rate)
        return _at_rate(call, currency, rate, value)

    def outcome(self, call: Call, reply: Reply, money: Money | None = None) -> Outcome:
        """See ``Vendor.outcome``."""
        ended = verdict(reply)
        if call.effect is Effect.READ:
            return self._observed(call, reply)
        if ended is Verdict.NOTHING_HAPPENED:
            told = reply.replayed and reply.status not in (409, 429)
            conclusive = reply.status == 402 or told
            return Outcome(State.VOIDED, conclusive=conclusive, http_status=reply.status)
        if ended is Verdict.UNKNOWN:
            return Outcome(State.UNKNOWN, http_status=reply.status)
        held = _body_worth(reply)
        if held is None or held.minor is None or held.currency is None:
            return _unreadable(reply, held.object_id if held else None)
        rate = call.usd_per_unit
        if call.value_micros is not None and held.currency != call.currency:
            # Somebody else changed the currency of the object; it is worth what it is worth now.
            rate = money.rate(held.currency) if money else None
            if rate is None:
                return _unreadable(reply, held.object_id)
        return Outcome(
            State.SETTLED,
            position=self._key(call, held.object_id),
            position_state=held.state,
            value_micros=None if rate is None else micros(held.minor, held.currency, rate),
            # Under keybrake's own key a replay is this very call, answered to a later attempt.
            replayed=reply.replayed and call.idempotency_key is not None,
            conclusive=True,
            currency=held.currency,
            usd_per_unit=rate,
            object_id=held.object_id,
            http_status=reply.status,
        )

    def _observed(self, call: Call, reply: Reply) -> Outcome:
        """A read costs nothing; one that shows an object may let its position shrink."""
        ended = Outcome(State.SETTLED, http_status=reply.status)
        held = _body_worth(reply) if call.position else None
        if held is None or held.minor is None or held.currency != call.currency:
            return ended
        return replace(
            ended,
            position=call.position,
            position_state=held.state,
            value_micros=_value(call, held.minor, held.currency),
            observed=True,
            currency=held.currency,
            usd_per_unit=call.usd_per_unit,
            object_id=held.object_id,
        )

    def _key(self, call: Call, object_id: str) -> str:
        return f"stripe:{call.account}:{object_id}"


def _unreadable(reply: Reply, object_id: str | None) -> Outcome:
    note = "the answer was a success, but not one keybrake can read an amount from"
    return Outcome(State.UNKNOWN, object_id=object_id, http_status=reply.status, note=note)


def _value(call: Call, minor: int, currency: str) -> int | None:
    """Return what the answer's amount is worth at the call's own rate, in micros."""
    if call.usd_per_unit is None:
        return None
    return micros(minor, currency, call.usd_per_unit)


def _unlisted(method: str) -> Effect:
    return Effect.READ if method == "GET" else Effect.UNCLASSIFIED


def _ambiguous(params: Mapping[Any, Any]) -> tuple[str, str] | None:
    """Return why an amount or currency could be read in two ways; None: it cannot."""
    for name in params:
        if not isinstance(name, str) or name.startswith(("amount[", "currency[")):
            return "invalid_amount", f"the parameter {shown(name)} makes the amount ambiguous"
    return None


def _unknown(words: str) -> tuple[str, str]:
    return "unknown_amount", words


def _no_rate(currency: str | None) -> tuple[str, str]:
    code = (currency or "?").upper()
    return "no_rate", (
        f"there is no rate for {code}; a person has to add {code} to [money.usd_per] in "
        f"keybrake.toml"
    )


def _with_currency(call: Call, currency: object) -> Call:
    if currency is None:
        return call
    code = currency_code(currency)
    if code is None:
        words = f"currency={shown(currency)} is not a currency code"
        return call._replace(refusal=("no_rate", words))
    return call._replace(currency=code)


def _with_amount(call: Call, amount: object, field: str) -> Call:
    minor = minor_amount(amount)
    if minor is None:
        words = f"{field}={shown(amount)} is not a whole number of the currency's minor unit"
        return call._replace(refusal=("invalid_amount", words))
    return call._replace(amount=minor)


def _new_money(call: Call, params: Mapping[str, Any], money: Money) -> Call:
    if params.get("amount") is None:
        return call._replace(refusal=_unknown("the call names no amount"))
    call = _with_amount(call, params["amount"], "amount")
    currency = currency_code(params.get("currency"))
    if currency is None:
        words = f"currency={shown(params.get('currency'))} is not a currency code"
        return call._replace(refusal=call.refusal or ("no_rate", words))
    rate = money.rate(currency)
    if call.amount is None or rate is None:
        return call._replace(currency=currency, refusal=call.refusal or _no_rate(currency))
    value = micros(call.amount, currency, rate)
    return call._replace(currency=currency, usd_per_unit=rate, value_micros=value)


def _id_of(value: object) -> str | None:
    """Return an id that the caller gave as such, or as the object that has it."""
    found = value if isinstance(value, str) else getattr(value, "id", None)
    return found if isinstance(found, str) else None


def _at_rate(call: Call, currency: str | None, rate: Fraction | None, value: int | None) -> Call:
    """Price a call whose currency, rate and position's value (micros) are known now."""
    if currency is None or rate is None:
        return call._replace(currency=currency, refusal=call.refusal or _no_rate(currency))
    if call.amount is not None:
        value = micros(call.amount, currency, rate)
    if call.effect is Effect.READ:
        value = 0
    return call._replace(currency=currency, usd_per_unit=rate, value_micros=value)


def _refund_of(call: Call, parent: Mapping[str, Any], money: Money) -> Call:
    currency = currency_code(parent.get("currency"))
    if currency is None:
        words = "the object to refund could not be looked up"
        return call._replace(refusal=call.refusal or _unknown(words))
    rate = money.rate(currency)
    if rate is None:
        return call._replace(currency=currency, refusal=call.refusal or _no_rate(currency))
    minor = call.amount
    if minor is None:
        left = {
            "charge": lambda: parent["amount"] - parent["amount_refunded"],
            "payment_intent": lambda: parent["amount_received"],
        }
        minor = _whole(left.get(str(parent.get("object"))))
    if minor is None:
        return call._replace(
            refusal=call.refusal or _unknown("the object to refund does not say what is left")
        )
    value = micros(minor, currency, rate)
    return call._replace(currency=currency, usd_per_unit=rate, value_micros=value)


def _whole(read: Callable[[], Any] | None) -> int | None:
    try:
        return minor_amount(read()) if read else None
    except (KeyError, TypeError):
        return None


def _body_worth(reply: Reply) -> Any:
    if reply.body is None:
        return None
    try:
        body = json.loads(reply.body)
    except ValueError:
        return None
    return worth(body) if isinstance(body, dict) else None
