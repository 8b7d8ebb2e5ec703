"""Add up lines of prices times quantities, as far as they and their prices show amounts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from keybrake.model.shown import shown
from keybrake.vendors.stripe.money import currency_code, exact_number
from keybrake.vendors.stripe.steps import dig, id_of, is_id, is_set
from keybrake.vendors.stripe.table import Path


class Bill(NamedTuple):
    """
    The sum of the lines so far.

    Attributes:
        minor: Sum of the known amounts.
        pending: Ids of prices still to be looked up, each with the quantity of its line.
        odd: Why the prices alone do not give the amount; None: they do.
        preview: Parameters for Stripe's invoice preview if the bill is odd; None: there is no
            preview of it.
        least: Present amount of the invoice, if the lines change one.
        whole: Whether that invoice counts from now on, even if its amount stays at *least*.
        times: How often the bill may be paid.
        customer: Customer with pending items that are collected together with the lines.
        wanted: Whether the request names *currency*. A price may have amounts in several ones.
        later: Whether Stripe charges the bill after a first invoice that is for less.
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
    later: bool = False


def lines_at(params: Mapping[str, Any], places: Iterable[Path]) -> list[Any]:
    """Return the lines at these places in the request."""
    lines: list[Any] = []
    for place in places:
        found = dig(params, place)
        if isinstance(found, Mapping):
            found = list(found.values())
        lines.extend(found if isinstance(found, list | tuple) else [found] if found else [])
    return lines


def bill_of(lines: Iterable[Any]) -> Bill:
    """Add up lines; a price id stays pending, and an unclear line makes the bill odd."""
    bill, lines = Bill(), list(lines)
    for nr, line in enumerate(lines):
        bill = _with_line(bill, line, f"line {nr + 1}: " if len(lines) > 1 else "")
    return bill


def _with_line(bill: Bill, line: Any, where: str) -> Bill:
    if not isinstance(line, Mapping) or any("[" in str(name) for name in line):
        return bill._replace(odd=f"{where}{shown(line)} has no names and values")
    for name in ("tax_rates", "tax_amounts"):
        if line.get(name):
            bill = bill._replace(odd=f"{where}{name}={shown(line[name])} adds taxes")
    quantity, unit = _quantity(line), _unit_of(line)
    if quantity is None:
        return bill._replace(odd=f"{where}the quantity in {shown(line)} is not a number")
    if unit is not None:
        if unit.amount is None:
            return bill._replace(odd=f"{where}{unit.said} is not an amount")
        return _plus(bill, unit.currency, unit.amount, quantity if unit.each else Fraction(1))
    price = id_of(line.get("price") or line.get("plan") or dig(line, ("pricing", "price")))
    if price is None or not is_id(price):
        return bill._replace(odd=f"{where}{shown(line)} names no price")
    return bill._replace(pending=(*bill.pending, (price, quantity)))


class _Unit(NamedTuple):
    """An amount in the line itself, as *said*; *each*: it is multiplied by the quantity."""

    said: str
    amount: Fraction | None
    currency: object
    each: bool = True


def _unit_of(line: Mapping[str, Any]) -> _Unit | None:
    currency = line.get("currency")
    if line.get("amount") is not None:
        # Multiply an amount by a quantity beside it: of two possible readings the larger counts.
        each = line.get("quantity_decimal", line.get("quantity")) is not None
        said = f"amount={shown(line['amount'])}"
        return _Unit(said, exact_number(line["amount"]), currency, each=each)
    data = line.get("price_data")
    if isinstance(data, Mapping):
        name = "unit_amount_decimal" if "unit_amount_decimal" in data else "unit_amount"
        said = f"price_data.{name}={shown(data.get(name))}"
        return _Unit(said, exact_number(data.get(name)), data.get("currency"))
    if (unit := line.get("unit_amount_decimal")) is not None:
        return _Unit(f"unit_amount_decimal={shown(unit)}", exact_number(unit), currency)
    return None


def _quantity(line: Mapping[str, Any]) -> Fraction | None:
    most = line.get("adjustable_quantity")
    if isinstance(most, Mapping) and is_set(most.get("enabled")):
        # The customer may choose up to this many; Stripe's own limit is 99.
        return exact_number(most.get("maximum", 99))
    given = line.get("quantity_decimal", line.get("quantity"))
    return Fraction(1) if given is None else exact_number(given)


def _plus(bill: Bill, currency: object, unit: Fraction, quantity: Fraction) -> Bill:
    code = bill.currency if currency is None else currency_code(currency)
    if code is None and currency is not None:
        return bill._replace(odd=f"currency={shown(currency)} is not a currency code")
    if bill.currency not in (None, code):
        return bill._replace(odd="the lines are in several currencies")
    return bill._replace(currency=code, minor=bill.minor + unit * quantity)


def with_price(state: Bill, found: Mapping[str, Any]) -> Bill:
    """Return *state* with the lines of its first pending price added, which is *found*."""
    price = state.pending[0][0]
    lines = [quantity for name, quantity in state.pending if name == price]
    state = state._replace(pending=tuple(line for line in state.pending if line[0] != price))
    if found.get("object") not in ("price", "plan"):
        return state._replace(odd=f"the price {price} could not be looked up", preview=None)
    if dig(found, ("recurring", "usage_type")) == "metered":
        return state  # costs nothing until it is used
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
