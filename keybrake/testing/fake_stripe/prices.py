"""Create prices, and compute the total of lines with a price and a quantity."""

from collections.abc import Iterable, Mapping
from typing import Any

from keybrake.testing.fake_stripe.errors import StripeFailure, missing
from keybrake.testing.fake_stripe.objects import new
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import Params, integer, required_currency, subset
from keybrake.testing.fake_stripe.store import Object, Store


def create(store: Store, params: Params) -> Outcome:
    """Create a price."""
    return Outcome(add(store, params))


def add(store: Store, params: Params) -> Object:
    """Store a one-time price or, with *recurring*, a monthly one."""
    recurring = subset(params, "recurring")
    unit = integer(params, "unit_amount", least=0)
    if unit is None:
        raise missing(param="unit_amount")
    return store.add(
        new(
            "price",
            store.new_id("price"),
            params,
            active=True,
            billing_scheme="per_unit",
            currency=required_currency(params),
            product=params.get("product") or store.new_id("prod", 14),
            recurring={"interval": "month", "usage_type": "licensed", **recurring}
            if recurring
            else None,
            type="recurring" if recurring else "one_time",
            unit_amount=unit,
            unit_amount_decimal=str(unit),
        )
    )


def lines_of(store: Store, params: Params, name: str) -> list[Object]:
    """Return the lines in the parameter *name*, each with its price and quantity."""
    given = params.get(name)
    rows = given if isinstance(given, list) else []
    if not all(isinstance(row, Mapping) for row in rows):
        raise StripeFailure(message=f"Invalid array: {name}.", param=name)
    return [line_of(store, row) for row in rows]


def line_of(store: Store, row: Params) -> Object:
    """Return one line; create its price if the request has price_data."""
    data = row.get("price_data")
    price = add(store, data) if isinstance(data, Mapping) else store.refer("price", row)
    if price is None:
        raise missing(param="price")
    return {"price": price, "quantity": quantity_of(row)}


def quantity_of(row: Params, default: int = 1) -> int:
    """Return the quantity of a line, or *default* if it is missing."""
    quantity = integer(row, "quantity", least=0)
    return default if quantity is None else quantity


def total(lines: Iterable[Mapping[str, Any]]) -> int:
    """Return the sum of price times quantity over all lines."""
    return sum(line["price"]["unit_amount"] * line["quantity"] for line in lines)


def currency_of(lines: Iterable[Mapping[str, Any]], params: Params) -> str:
    """Return the currency of the lines; reject a mix of currencies."""
    found = {line["price"]["currency"] for line in lines}
    if len(found) > 1:
        raise StripeFailure(message="All prices must be in one currency.", param="currency")
    return str(found.pop()) if found else str(params.get("currency", "usd")).lower()
