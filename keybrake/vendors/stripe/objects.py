"""Price calls that create an object with an amount, or act on an existing object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keybrake.config.settings import Money
from keybrake.model.call import Call, Lookup, Position
from keybrake.vendors.stripe.money import micros
from keybrake.vendors.stripe.steps import (
    at_rate,
    dig,
    id_of,
    is_id,
    is_set,
    key_of,
    left_of,
    no_id,
    priced,
    unknown,
    with_amount,
    with_currency,
)
from keybrake.vendors.stripe.table import Rule
from keybrake.vendors.stripe.worth import worth

Found = Position | Mapping[str, Any]

# Marker in ``Call.gathered``: the ledger does not count the object yet. If the answer shows no
# amount, the reservation becomes its position; otherwise a later call on it would count again.
UNSEEN = "unseen"


def new(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """Price a new object by the amount and currency in the request."""
    del ids
    amount = dig(params, rule.amount[0])
    if amount is None:
        return _as_much_as_parent(call, rule, params)
    call = with_amount(call, amount, ".".join(rule.amount[0]))
    call = with_currency(call, dig(params, rule.currency))
    return call if call.amount is None else priced_by_request(call, money)


def priced_by_request(call: Call, money: Money) -> Call:
    """Return *call* priced at the amount and currency that it names."""
    if call.amount is None or call.currency is None:
        return call
    return priced(call, call.amount, call.currency, money)


def _as_much_as_parent(call: Call, rule: Rule, params: Mapping[str, Any]) -> Call:
    asked = asked_of(call, rule, params, ())
    if asked is None:
        return unknown(call, "the call names no amount")
    call, object_id, path = asked
    del object_id
    return call._replace(value_micros=None, lookup=Lookup(path=path))


def new_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price a new object by the object that its money comes from."""
    minor = None if isinstance(found, Position) else left_of(rule, found)
    if minor is None or isinstance(found, Position):
        return unknown(call, "the object that the money comes from could not be looked up")
    return _in_own_currency(call, minor, found, money)


def _in_own_currency(call: Call, minor: int, found: Mapping[str, Any], money: Money) -> Call:
    call = with_currency(call, found.get("currency"))
    return call if call.refusal else priced(call, minor, call.currency, money)


def asked_of(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...]
) -> tuple[Call, str, str] | None:
    """
    Return the call, the id of the object that it depends on, and the path to look that up.

    None: the request names no such object.
    """
    for field, path in rule.asks:
        object_id = ids[0] if field is None else id_of(params.get(field))
        if object_id is None:
            continue
        if field is not None and not is_id(object_id):
            call = no_id(call, field, object_id)
        return call, object_id, path.format(object_id)
    return None


def total(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """Price a call on an object; an amount is its new total, and without one the total stays."""
    del money
    asked = asked_of(call, rule, params, ids)
    if asked is None:
        return unknown(call, f"the call names no {rule.asks[0].field}")
    call, object_id, path = asked
    key = key_of(call, object_id)
    amount = dig(params, rule.amount[0]) if rule.amount else None
    if amount is not None:
        call = with_amount(call, amount, rule.amount[0][0])
    else:
        # Without an amount the call is priced by the worth of the object, from the ledger or from
        # Stripe. Where the endpoint takes an amount and none is given, the call raises nothing.
        raises = () if rule.amount else call.may_raise
        call = call._replace(priced_by=(key,), may_raise=raises)
    return call._replace(value_micros=None, position=key, lookup=Lookup(key, path))


def new_total(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """Price a call like ``total``; without amount and currency it changes no money."""
    raises = call.may_raise
    call = total(call, rule, params, ids, money)
    currency = dig(params, rule.currency)
    if currency is None and call.amount is None:
        call = follow(call, rule, params, ids, money)
        # ``to`` is the destination of a payout, and decides the currency in which it arrives.
        return call._replace(may_raise=raises) if "to" in params else call
    if currency is None:
        return call
    # A new currency raises the object also for calls that name an amount and depend on nothing
    # but its currency.
    call = call._replace(may_raise=(*raises, *map(_currency_of, raises)))
    call = with_currency(call, currency)
    # With a new currency and no amount, only the object at Stripe shows how many units it is.
    assert call.lookup is not None
    known_as = call.position if call.amount is not None else None
    return call._replace(lookup=Lookup(known_as, call.lookup.path))


def _currency_of(key: str) -> str:
    """Return the key for the currency of an object alone."""
    return f"{key}#currency"


def total_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price a call by the position it acts on, or by the object that Stripe returned."""
    if isinstance(found, Position):
        rate = found.usd_per_unit
        if call.currency not in (None, found.currency):
            rate = money.rate(str(call.currency))
        # In the same currency keep the rate of the position, so that it gives back exactly as
        # much as it took.
        return at_rate(call, call.currency or found.currency, rate, found.value_micros, money)
    held = worth(found)
    if held is None or held.minor is None or held.currency is None:
        return unknown(call, "the object to act on does not say its amount")
    call = call._replace(position=key_of(call, held.object_id))
    if call.amount is not None:
        # The request names the amount, so the price depends only on the object's currency.
        call = call._replace(priced_by=tuple(map(_currency_of, call.priced_by)))
    if rule.kept:
        call = call._replace(gathered=(UNSEEN,))
    currency = call.currency or held.currency
    rate = money.rate(currency)
    value = None if rate is None else micros(held.minor, currency, rate)
    return at_rate(call, currency, rate, value, money)


def at_least_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price a call by its amount or by the whole object, taking the larger."""
    whole = total_found(call._replace(amount=None), rule, found, money)
    asked = total_found(call, rule, found, money)
    larger = max(whole, asked, key=lambda priced: priced.value_micros or 0)
    return larger._replace(priced_by=whole.priced_by or (str(whole.position),))


# Marker in ``Call.gathered``: this capture is not the final one, so the rest stays held.
HOLDS_ON = "holds on"


def capture(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """Price a capture of the held amount or a part of it; a final one releases the rest."""
    call = total(call, rule, params, ids, money)
    final = params.get("final_capture")
    return call if final is None or is_set(final) else call._replace(gathered=(HOLDS_ON,))


def capture_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price a capture: its amount is added to the amount of earlier captures."""
    read = call.priced_by
    call = total_found(call, rule, found, money)
    if not isinstance(found, Position):
        call = call._replace(priced_by=read)
    elif (call.value_micros or 0) <= found.value_micros:
        # The ledger already counts at least this amount for the intent, so a call priced by it
        # has room for the capture.
        call = call._replace(may_raise=())
    taken = 0 if isinstance(found, Position) else dig(found, ("amount_received",))
    if not call.refusal and call.amount and type(taken) is int and taken > 0:
        call = priced(call, call.amount + taken, call.currency, money)
    if HOLDS_ON not in call.gathered:
        return call
    held = total_found(call._replace(amount=None), rule, found, money)
    return call._replace(value_micros=max(call.value_micros or 0, held.value_micros or 0))


def whole(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """Price a call on an object that others may change, so look it up at Stripe every time."""
    call = total(call, rule, params, ids, money)
    return call._replace(lookup=Lookup(path=call.lookup.path)) if call.lookup else call


def whole_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price a call by the amount in the request, or else by the amount of the object."""
    if isinstance(found, Position):
        return total_found(call, rule, found, money)
    minor = left_of(rule, found) if call.amount is None else call.amount
    if minor is None:
        return unknown(call, "the object to act on does not say its amount")
    return _in_own_currency(call, minor, found, money)


def follow(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """
    Return a call that matters only if the ledger counts its object.

    The position of the object then takes the value that the answer shows.
    """
    del rule, params, money
    key = key_of(call, ids[0])
    lookup = Lookup(known_as=key)
    return call._replace(value_micros=None, position=key, lookup=lookup, priced_by=())


def observe(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """Return a read of an object that the ledger may count; its id is the last in the path."""
    return follow(call, rule, params, ids[-1:], money)._replace(value_micros=0)


def known(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Return *call* with the rate at which the ledger counts the object it follows or observes."""
    del rule
    if not isinstance(found, Position) or found.currency is None:
        return call  # nothing is counted of a position that became a part of another one
    return at_rate(call, found.currency, found.usd_per_unit, found.value_micros, money)
