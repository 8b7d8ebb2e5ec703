"""Add up an invoice with a change of its lines or settings, or say why that is impossible."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NamedTuple

from keybrake.model.shown import shown
from keybrake.vendors.stripe.lines import Bill, bill_of
from keybrake.vendors.stripe.money import currency_code, exact_number, minor_amount, signed_amount
from keybrake.vendors.stripe.steps import dig, is_set

Params = Mapping[str, Any]

# Stands for the id of an invoice where a pending item has none yet.
NEXT = "the next invoice"


class Cannot(Exception):
    """The new amount of the invoice is unknown. The text says how to avoid that."""


class Change(NamedTuple):
    """
    A change of an invoice, as far as the request describes it.

    Attributes:
        invoice: Id of the invoice, or ``NEXT``.
        added: New lines.
        edited: Ids of existing lines, each with its new parameters.
        removed: Ids of lines to remove.
        fields: Settings of the invoice itself.
        old: The invoice item to change, as it was looked up. Lines of an invoice carry other ids.
    """

    invoice: str
    added: tuple[Any, ...] = ()
    edited: tuple[tuple[str, Params], ...] = ()
    removed: tuple[str, ...] = ()
    fields: Params = MappingProxyType({})
    old: Params | None = None


def lines_by_id(change: Change, invoice: Params) -> Mapping[str, Params]:
    """Return the looked-up lines by their ids."""
    shown_lines = dig(invoice, ("lines", "data"))
    lines = [*(shown_lines if isinstance(shown_lines, list) else ()), change.old]
    return {str(line.get("id")): line for line in lines if isinstance(line, Mapping)}


def unread_lines(change: Change, invoice: Params) -> bool:
    """Return whether the change names a line that the invoice does not show."""
    names = {*(name for name, _ in change.edited), *change.removed}
    return not names <= lines_by_id(change, invoice).keys()


def edited_bill(change: Change, invoice: Params, amount: int, currency: str) -> Bill:
    """
    Return the bill of an invoice of *amount* with the change.

    Raises:
        Cannot: The change may make the invoice dearer by an unknown amount.
    """
    lines, minor = lines_by_id(change, invoice), Fraction(amount)
    new = [line for line in change.added if (signed_amount(dig(line, ("amount",))) or 0) >= 0]
    for name in change.removed:
        minor -= _amount_of(lines.get(name), change, name)
    for name, params in change.edited:
        line = lines.get(name)
        old = _amount_of(line, change, name)
        assert line is not None
        if (more := _edited(change, line, old, params)) is not None:
            minor += more - old if isinstance(more, Fraction) else -old
            new += [] if isinstance(more, Fraction) else [more]
        minor += _discounts_lost(change, params, line)
    minor += _settings(change, invoice, currency)
    if new or change.edited or change.removed or minor != amount:
        _untaxed(change, invoice)
    read = bill_of(new)
    if read.odd is None and read.currency not in (None, currency):
        raise Cannot(_words(change, f"the lines are in {read.currency}, the invoice in {currency}"))
    if read.odd is not None:
        raise Cannot(_words(change, read.odd))
    return read._replace(minor=read.minor + minor)


def _words(change: Change, why: str) -> str:
    if change.invoice == NEXT:
        return (
            f"{why}, so the amount of {NEXT} of the subscription is unknown, and Stripe will "
            f"collect it automatically; delete the item, and create it again on a separate invoice"
        )
    return (
        f"{why}, so the new amount of {change.invoice} is unknown, and Stripe will collect it "
        f"automatically; set auto_advance=False, make the change, then set auto_advance=True, "
        f"which is priced by the amount that Stripe shows"
    )


def _amount_of(line: Params | None, change: Change, name: str) -> int:
    amount = None if line is None else line.get("amount")
    if type(amount) is not int:
        raise Cannot(_words(change, f"the line {name} could not be looked up"))
    return amount


_PRICED_BY = ("price_data", "pricing", "price", "unit_amount_decimal")


def _edited(change: Change, line: Params, old: int, params: Params) -> Fraction | Params | None:
    """Return the new amount of a line, or a line with its new price; None: the amount stays."""
    for name in ("tax_rates", "tax_amounts"):
        if params.get(name):
            raise Cannot(_words(change, f"{name}={shown(params[name])} adds taxes"))
    given = params.get("quantity_decimal", params.get("quantity"))
    count = exact_number(line.get("quantity_decimal", line.get("quantity"))) or Fraction(1)
    times = exact_number(given) if given is not None else count
    if times is None:
        raise Cannot(_words(change, f"quantity={shown(given)} is not a number"))
    if (amount := params.get("amount")) is not None:
        return _times(change, amount, times)
    if any(params.get(name) is not None for name in _PRICED_BY):
        names = ("currency", *_PRICED_BY)
        priced = {name: params[name] for name in names if params.get(name) is not None}
        same = line.get("quantity_decimal", line.get("quantity", 1))
        quantity = same if given is None else given
        return {"currency": line.get("currency"), **priced, "quantity": quantity}
    if given is None:
        return None
    share = Fraction(old) / count * times
    return share if old < 0 else max(share, _unit(line) * times)


def _times(change: Change, amount: object, times: Fraction) -> Fraction:
    minor = signed_amount(amount)
    if minor is None:
        raise Cannot(_words(change, f"amount={shown(amount)} is not a whole number"))
    # Stripe may take the amount per unit or for all units. Count the larger reading.
    return minor * max(Fraction(1), times) if minor > 0 else Fraction(minor)


def _unit(line: Params) -> Fraction:
    places = (
        ("unit_amount_decimal",),
        ("pricing", "unit_amount_decimal"),
        ("price", "unit_amount_decimal"),
    )
    return max(exact_number(dig(line, place)) or Fraction(0) for place in places)


def _discounts_lost(change: Change, params: Params, line: Params) -> int:
    """Return the most that a line can grow by losing the discounts it has."""
    if params.get("discounts") is None and params.get("discountable") is None:
        return 0
    if line.get("discounts") == []:
        return 0
    return _sum(change, line, "discount_amounts")


def _sum(change: Change, thing: Params, field: str) -> int:
    parts = thing.get(field, "absent") or []
    amounts = [dig(part, ("amount",)) for part in parts] if isinstance(parts, list) else [None]
    if any(type(amount) is not int for amount in amounts):
        raise Cannot(_words(change, f"Stripe's answer does not show {field}"))
    return sum(amount for amount in amounts if type(amount) is int)


def _settings(change: Change, invoice: Params, currency: str) -> int:
    """Return the most that the new settings can add to the amount of the invoice."""
    more = 0
    for name, value in change.fields.items():
        if name == "shipping_cost":
            more += _shipping(change, value, currency)
        elif name == "discounts":
            more += _sum(change, invoice, "total_discount_amounts")
        elif name in ("default_tax_rates", "automatic_tax"):
            if value and is_taxing(name, value):
                raise Cannot(_words(change, f"{name}={shown(value)} adds taxes"))
        elif name in _BESIDE_TAXES:
            if is_set(dig(invoice, ("automatic_tax", "enabled"))):
                raise Cannot(_words(change, f"{name}={shown(value)} may change its taxes"))
        elif name not in _COLLECTING:
            raise Cannot(
                _words(change, f"{name}={shown(value)} is not a setting that keybrake knows")
            )
    return more


_COLLECTING = ("auto_advance", "automatically_finalizes_at", "collection_method")
# Settings that decide where an invoice is taxed. They matter only if Stripe computes the taxes.
_BESIDE_TAXES = ("issuer", "on_behalf_of", "shipping_details", "account_tax_ids")


def is_taxing(name: str, value: object) -> bool:
    """Return whether a setting about taxes may add taxes."""
    if name == "automatic_tax":
        return not isinstance(value, Mapping) or value.get("enabled") not in (False, "false")
    return True


def _shipping(change: Change, value: object, currency: str) -> int:
    if not value:
        return 0
    data = dig(value, ("shipping_rate_data", "fixed_amount"))
    amount = minor_amount(dig(data, ("amount",)))
    if amount is None or currency_code(dig(data, ("currency",))) != currency:
        why = f"shipping_cost={shown(value)} names no shipping_rate_data.fixed_amount in {currency}"
        raise Cannot(_words(change, why))
    return amount


_TAXES = ("default_tax_rates", "total_taxes", "total_tax_amounts", "tax")


def _untaxed(change: Change, invoice: Params) -> None:
    """Refuse to raise a taxed invoice, because the tax on the rise is unknown."""
    for name in _TAXES:
        if invoice.get(name):
            raise Cannot(_words(change, f"the invoice is taxed ({name})"))
    if is_set(dig(invoice, ("automatic_tax", "enabled"))):
        raise Cannot(_words(change, "the invoice is taxed (automatic_tax)"))
