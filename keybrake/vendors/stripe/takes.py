"""Price calls that take back a part of another object: refunds, reversals, credit notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keybrake.config.settings import Money
from keybrake.model.call import Call, Lookup, Position
from keybrake.vendors.stripe.money import currency_code, minor_amount
from keybrake.vendors.stripe.objects import Found, asked_of, priced_by_request
from keybrake.vendors.stripe.steps import (
    at_rate,
    dig,
    key_of,
    left_of,
    priced,
    unknown,
    with_amount,
    with_currency,
)
from keybrake.vendors.stripe.table import Rule
from keybrake.vendors.stripe.worth import worth


def part(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """
    Price a call that takes a part of a parent object, in the parent's currency.

    Without an amount it takes all that is left of the parent.
    """
    del money
    asked = asked_of(call, rule, params, ids)
    if asked is None:
        fields = " nor ".join(str(ask.field) for ask in rule.asks)
        return unknown(call, f"the call names neither {fields}")
    call, object_id, path = asked
    if rule.amount and (amount := dig(params, rule.amount[0])) is not None:
        call = with_amount(call, amount, rule.amount[0][0])
    # The parent's position shows the currency, but not how much is left to take.
    known_as = None if call.amount is None else key_of(call, object_id)
    return call._replace(value_micros=None, lookup=Lookup(known_as, path))


def part_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price a part by its amount, or by all that is left of its parent."""
    if isinstance(found, Position) and call.amount is not None:
        # Use the rate that the parent was counted with, so that both are worth the same.
        return at_rate(call, found.currency, found.usd_per_unit, None, money)
    currency = None if isinstance(found, Position) else currency_code(found.get("currency"))
    if currency is None or isinstance(found, Position):
        return unknown(call, "the object to take from could not be looked up")
    if call.amount is not None:
        # Only the currency was read from the object, and no call changes it once there is money
        # to take. So the price does not depend on the object.
        return priced(call._replace(priced_by=()), call.amount, currency, money)
    minor = _most_left_of(rule, found)
    if minor is None:
        return unknown(call, "the object to take from does not say what is left")
    return priced(call, minor, currency, money)


# The statuses in which the amount_received of a payment intent is final.
_INTENT_ENDED = ("succeeded", "canceled")


def _most_left_of(rule: Rule, found: Mapping[str, Any]) -> int | None:
    """Return the most that can be taken; of an open payment intent, its whole amount."""
    left = left_of(rule, found)
    if found.get("object") != "payment_intent" or found.get("status") in _INTENT_ENDED:
        return left
    whole = minor_amount(found.get("amount"))
    return None if left is None or whole is None else max(left, whole)


def refund(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """Price a refund like ``part``; with money.refunds it counts net, or not at all."""
    if money.refunds == "ignore":
        return call
    asked = asked_of(call, rule, params, ids)
    if asked is not None and money.refunds == "net":
        call = call._replace(offsets=key_of(call, asked[1]))
    amount = dig(params, rule.amount[0])
    currency = dig(params, rule.currency) if rule.currency else None
    if amount is None or currency is None:
        return part(call, rule, params, ids, money)
    call = with_amount(call, amount, rule.amount[0][0])
    call = priced_by_request(with_currency(call, currency), money)
    # Prefer the currency and rate of the parent's position if the ledger has it. A refund from a
    # customer's cash balance has no parent.
    return call if asked is None else call._replace(lookup=Lookup(key_of(call, asked[1])))


# Marker in ``Call.gathered``: a look-up found the position that the refund takes back.
EVENT_KNOWN = "event known"


# A key that stands for all refunds: canceling a refund leaves more of its charge to take, and the
# request does not name the charge.
_REFUNDS = "*refunds"


def refund_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price a refund; it takes back the position that its charge belongs to."""
    call = part_found(call, rule, found, money)
    if call.priced_by:
        call = call._replace(priced_by=(*call.priced_by, key_of(call, _REFUNDS)))
    if call.offsets is None:
        return call
    held = None if isinstance(found, Position) else worth(found)
    key = found.key if isinstance(found, Position) else held and key_of(call, held.object_id)
    return call._replace(offsets=key, gathered=(EVENT_KNOWN,)) if key else call


_LINES = ("lines", "shipping_cost")


def credit_note(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """
    Price a credit note at the most that its amounts allow.

    With lines, or without amounts, it counts as the whole invoice.
    """
    call = part(call._replace(amount=None), rule._replace(amount=()), params, ids, money)
    named = {path[0]: params.get(path[0]) for path in rule.amount}
    given = {name: value for name, value in named.items() if value is not None}
    for name, value in given.items():
        call = with_amount(call, value, name)
    refunds = _refunds(params.get("refunds"))
    if refunds is None:
        return unknown(call, "the refunds of the credit note do not say their amounts")
    if call.refusal or not given or any(name in params for name in _LINES):
        return call._replace(amount=None)
    whole = minor_amount(given.pop("amount", 0)) or 0
    # If the request names all parts (credited, refunded, settled elsewhere), they add up to the
    # amount.
    parts = sum(minor_amount(value) or 0 for value in given.values())
    return call._replace(amount=max(whole, parts, refunds))


def _refunds(refunds: object) -> int | None:
    if refunds is None:
        return 0
    if not isinstance(refunds, list):
        return None
    amounts = [minor_amount(dig(one, ("amount_refunded",))) for one in refunds]
    return None if None in amounts else sum(amount or 0 for amount in amounts)
