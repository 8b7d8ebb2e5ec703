"""Calls that credit a customer: a balance below zero is paid out of the next invoices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keybrake._config import Money
from keybrake._model import Call, Effect, Lookup, Position
from keybrake._shown import shown
from keybrake.vendors._stripe_money import currency_code, signed_amount
from keybrake.vendors._stripe_objects import Found, priced_by_request
from keybrake.vendors._stripe_steps import dig, priced, refuse, unknown, with_currency
from keybrake.vendors._stripe_table import Rule

# Which account a call is for stands in its headers; this path leads to that one.
_ACCOUNT = "/v1/account"


def credit(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """A negative amount is given away; any other is owed, and counts nothing."""
    del ids
    amount = dig(params, rule.amount[0])
    if amount is None:
        return unknown(call, "the call names no amount")
    call = _signed(call, amount, "amount")
    if call.refusal or call.amount is None:
        return call
    return priced_by_request(with_currency(call, dig(params, rule.currency)), money)


def _signed(call: Call, amount: object, field: str) -> Call:
    minor = signed_amount(amount)
    if minor is None:
        words = f"{field}={shown(amount)} is not a whole number of the currency's minor unit"
        return refuse(call, ("invalid_amount", words))
    return call._replace(amount=-minor if minor < 0 else None)


def balance(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """A balance that is set lower than it was; most calls set none, and cost nothing."""
    del money
    amount = dig(params, rule.amount[0])
    if amount is None:
        return call._replace(effect=Effect.FREE)
    path = rule.asks[0].path.format(*ids)
    minor = signed_amount(amount)
    if minor is None or not ids:
        call = _signed(call, amount, "balance")
        if call.amount is None:
            return call if call.refusal else call._replace(effect=Effect.FREE)
        return call._replace(value_micros=None, lookup=Lookup(path=path))
    # What is given away is the difference: the old balance has to be known.
    return call._replace(value_micros=None, lookup=Lookup(path=path), gathered=(minor,))


def balance_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price a lowered balance, in the customer's currency, or in that of the account."""
    del rule
    if isinstance(found, Position):
        return unknown(call, "the balance could not be looked up")
    if call.gathered:
        return _lowered(call, found, money)
    currency = currency_code(found.get("default_currency"))
    if currency is None or call.amount is None:
        return unknown(call, "the currency of the balance could not be looked up")
    return priced(call, call.amount, currency, money)


def _lowered(call: Call, customer: Mapping[str, Any], money: Money) -> Call:
    old = customer.get("balance")
    if type(old) is not int:
        return unknown(call, "the customer's balance could not be looked up")
    given = max(0, old - call.gathered[0])
    call = call._replace(amount=given, gathered=())
    currency = currency_code(customer.get("currency"))
    if currency is not None or not given:
        return priced(call, given, currency or "usd", money)
    return call._replace(lookup=Lookup(path=_ACCOUNT))
