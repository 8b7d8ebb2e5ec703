"""Price calls by configured prices: fees per call, metered units, and climate orders."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Lookup, Position
from keybrake.model.shown import shown
from keybrake.vendors.stripe.money import exact_number, micros
from keybrake.vendors.stripe.objects import Found, asked_of
from keybrake.vendors.stripe.steps import dig, no_rate, refuse, unknown, with_amount, with_currency
from keybrake.vendors.stripe.table import Rule


def fee(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """Price a call that Stripe bills per call at the operator's price; without one it is free."""
    del rule, params, ids
    price = money.prices.exact("stripe", "endpoint", call.endpoint)
    return call._replace(effect=Effect.FREE) if price is None else _usd(call, price)


def priced_fee(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """Price a call like ``fee``, but refuse it without a price, because every call costs money."""
    del rule, params, ids
    price = money.prices.exact("stripe", "endpoint", call.endpoint)
    if price is None:
        return _no_price(call, "endpoint", call.endpoint)
    return _usd(call, price)


def _usd(call: Call, value: int) -> Call:
    return call._replace(value_micros=value, currency="usd", usd_per_unit=Fraction(1))


def _no_price(call: Call, table: str, name: str) -> Call:
    words = (
        f"there is no price for {shown(name)}; a person has to add it to [prices.stripe] {table} "
        f"in keybrake.toml"
    )
    return refuse(call, ("no_rate", words))


def meter_event(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """Price units that a customer is billed for later; free if no event has a price at all."""
    del ids
    if not money.prices.rows.get(("stripe", "meter_event")):
        return call._replace(effect=Effect.FREE)
    events = [params] if rule.amount[0] == ("payload",) else params.get("events")
    if not isinstance(events, list):
        return unknown(call, "the call names no events")
    value = 0
    for event in events:
        name = event.get("event_name") if isinstance(event, Mapping) else None
        price = money.prices.exact("stripe", "meter_event", str(name))
        if price is None:
            return _no_price(call, "meter_event", str(name))
        units = _units(event.get("payload"))
        if units is None:
            words = f"the payload of {shown(name)} does not give a number of units"
            return refuse(call, ("invalid_amount", words))
        exact = units * price
        value += -(-exact.numerator // exact.denominator)
    return _usd(call, value)


def _units(payload: object) -> Fraction | None:
    """Return the number of units an event reports; an event without a value reports one."""
    if not isinstance(payload, Mapping):
        return None
    named = {name: value for name, value in payload.items() if name != "stripe_customer_id"}
    if not named:
        return Fraction(1)
    # A meter may use another name than ``value``.
    value: Any = named.get("value", next(iter(named.values())) if len(named) == 1 else None)
    if type(value) in (int, float, Decimal) and value < 0:
        return Fraction(0)
    if type(value) is str and value.startswith("-"):
        return None if exact_number(value[1:]) is None else Fraction(0)
    return exact_number(value)


def climate(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """
    Price a climate order by its amount and fees, or by its tons.

    Only the answer shows the fees, so an amount gets a margin. The price of a ton is looked up.
    """
    call = with_currency(call, dig(params, rule.currency))
    amount, tons = dig(params, rule.amount[0]), params.get("metric_tons")
    if amount is not None:
        call = with_amount(call, amount, rule.amount[0][0])
        if call.amount is None or call.currency is None:
            return call
        return _with_fees(call, Fraction(call.amount), money)
    exact = exact_number(tons)
    asked = asked_of(call, rule, params, ids)
    if exact is None or asked is None:
        return unknown(call, "the order names neither an amount nor how many tons of which product")
    call, _, path = asked
    return call._replace(value_micros=None, lookup=Lookup(path=path), gathered=(exact,))


def _with_fees(call: Call, minor: Fraction, money: Money) -> Call:
    with_margin = minor * Fraction(10_000 + money.climate_fee_margin_bps, 10_000)
    return _at_own_rate(call, with_margin, money)


def _at_own_rate(call: Call, minor: Fraction, money: Money) -> Call:
    currency = str(call.currency)
    rate = money.rate(currency)
    if rate is None:
        return no_rate(call, currency, money)
    return call._replace(value_micros=micros(minor, currency, rate), usd_per_unit=rate)


def climate_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price tons at the current price of the product, fees included."""
    del rule
    place = ("current_prices_per_metric_ton", str(call.currency), "amount_total")
    ton = None if isinstance(found, Position) else dig(found, place)
    if type(ton) is not int or ton < 0 or not call.gathered:
        return unknown(call, "the product does not show the price of a ton in this currency")
    return _at_own_rate(call, call.gathered[0] * ton, money)
