"""What lines of prices times quantities come to, as far as they and their prices say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from keybrake.vendors.stripe.money import currency_code, exact_number
from keybrake.vendors.stripe.steps import dig, id_of, is_id, is_set
from keybrake.vendors.stripe.table import Path


class Bill(NamedTuple):
    """
    Lines added up so far.

    Attributes:
        minor: What is known of them.
        pending: Price ids that have yet to be looked up, and the quantity of each line.
        odd: A line or parameter that a price alone does not tell the cost of; why.
        preview: What to ask Stripe for then; None: there is no preview of it.
        least: What an invoice comes to without them, where they are a change of one.
        whole: Whether that invoice counts from now on, though it comes to no more than *least*.
        times: How often it may be paid.
        customer: Whose items that wait are collected with these lines.
        wanted: Whether *currency* is asked for: a price may have an amount in it besides its own.
    """

    currency: str | None = None
    minor: Fraction = Fraction(0)
    pending: tuple[tuple[str, Fraction], ...] = ()
    odd: str | None = None
    preview: Mapping[str, Any] | None = None
    least: int = 0
    whole: bool = False
    customer: str | None = None
    times: int = 1
    wanted: bool = False


def lines_at(params: Mapping[str, Any], places: Iterable[Path]) -> list[Any]:
    """Return the lines that stand in the request at these places."""
    lines: list[Any] = []
    for place in places:
        found = dig(params, place)
        if isinstance(found, Mapping):
            found = list(found.values())
        lines.extend(found if isinstance(found, list | tuple) else [found] if found else [])
    return lines


def bill_of(lines: Iterable[Any]) -> Bill:
    """Add up lines; what they do not say stays pending, or makes the bill odd."""
    bill = Bill()
    for line in lines:
        bill = _with_line(bill, line)
    return bill


def _with_line(bill: Bill, line: Any) -> Bill:
    if not isinstance(line, Mapping) or any("[" in str(name) for name in line):
        return bill._replace(odd="a line cannot be read")
    if line.get("tax_rates") or line.get("tax_amounts"):
        bill = bill._replace(odd="a line is taxed")
    quantity, unit = _quantity(line), _unit_of(line)
    if quantity is None:
        return bill._replace(odd="a quantity is not a number")
    if unit is not None:
        return _plus(bill, unit.currency, unit.amount, quantity if unit.each else Fraction(1))
    price = id_of(line.get("price") or line.get("plan") or dig(line, ("pricing", "price")))
    if price is None or not is_id(price):
        return bill._replace(odd="a line names no price")
    return bill._replace(pending=(*bill.pending, (price, quantity)))


class _Unit(NamedTuple):
    """An amount that a line names itself; *each*: it is meant times its quantity."""

    amount: Fraction | None
    currency: object
    each: bool = True


def _unit_of(line: Mapping[str, Any]) -> _Unit | None:
    currency = line.get("currency")
    if line.get("amount") is not None:
        # Of an amount beside a quantity, the product: in doubt the larger of two readings counts.
        each = line.get("quantity_decimal", line.get("quantity")) is not None
        return _Unit(exact_number(line["amount"]), currency, each=each)
    data = line.get("price_data")
    if isinstance(data, Mapping):
        unit = data.get("unit_amount_decimal", data.get("unit_amount"))
        return _Unit(exact_number(unit), data.get("currency"))
    if line.get("unit_amount_decimal") is not None:
        return _Unit(exact_number(line["unit_amount_decimal"]), currency)
    return None


def _quantity(line: Mapping[str, Any]) -> Fraction | None:
    most = line.get("adjustable_quantity")
    if isinstance(most, Mapping) and is_set(most.get("enabled")):
        # The customer may choose up to this many; Stripe's own limit is 99.
        return exact_number(most.get("maximum", 99))
    given = line.get("quantity_decimal", line.get("quantity"))
    return Fraction(1) if given is None else exact_number(given)


def _plus(bill: Bill, currency: object, unit: Fraction | None, quantity: Fraction) -> Bill:
    code = bill.currency if currency is None else currency_code(currency)
    if unit is None or (code is None and currency is not None):
        return bill._replace(odd="a line does not say its amount")
    if bill.currency not in (None, code):
        return bill._replace(odd="the lines are in several currencies")
    return bill._replace(currency=code, minor=bill.minor + unit * quantity)


def with_price(state: Bill, found: Mapping[str, Any]) -> Bill:
    """Return *state* with the lines of the next price, which was looked up, added."""
    price = state.pending[0][0]
    lines = [quantity for name, quantity in state.pending if name == price]
    state = state._replace(pending=tuple(line for line in state.pending if line[0] != price))
    if found.get("object") not in ("price", "plan"):
        return state._replace(odd=f"the price {price} could not be looked up", preview=None)
    if dig(found, ("recurring", "usage_type")) == "metered":
        return state  # nothing until it is used
    unit = _unit(found, state.currency)
    if unit is None or found.get("billing_scheme") == "tiered":
        return state._replace(odd=f"the price {price} has no single amount")
    for quantity in lines:
        state = _plus(state, unit[0], unit[1], _packages(found, quantity))
    return state


def _unit(found: Mapping[str, Any], wanted: str | None) -> tuple[str, Fraction] | None:
    own = currency_code(found.get("currency"))
    if own is None:
        return None
    if wanted not in (None, own):
        own, found = str(wanted), dig(found, ("currency_options", str(wanted)))
    amounts = (dig(found, ("unit_amount_decimal",)), dig(found, ("unit_amount",)))
    amount = next((amount for amount in amounts if amount is not None), None)
    exact = exact_number(amount)
    return None if exact is None else (own, exact)


def _packages(found: Mapping[str, Any], quantity: Fraction) -> Fraction:
    by = dig(found, ("transform_quantity", "divide_by"))
    if type(by) is not int or by < 1:
        return quantity
    return Fraction(-(-quantity // by))
