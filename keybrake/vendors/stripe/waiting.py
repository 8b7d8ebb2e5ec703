"""Pending invoice items of a customer, which a subscription collects without a further call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from keybrake.config.settings import Money
from keybrake.model.call import Call, Lookup, Position
from keybrake.vendors.stripe.money import currency_code, micros, signed_amount
from keybrake.vendors.stripe.objects import Found
from keybrake.vendors.stripe.stakes import side_of, with_stakes
from keybrake.vendors.stripe.steps import dig, id_of, is_set, key_of, no_rate, unknown

# Markers in ``Call.gathered`` for a pending item. PENDING: the item counts, because a subscription
# will collect it. WAITING: it counts nothing yet, and the ledger only remembers that the customer
# has pending items. GONE: the item was deleted.
PENDING, WAITING, GONE = "pending", "waiting", "gone"

_ITEMS, _SUBSCRIPTIONS = "/v1/invoiceitems", "/v1/subscriptions"
_MOST = 100
_OVER = ("canceled", "incomplete_expired")


class Items(NamedTuple):
    """A priced call, while the customer's pending items, which it also collects, are looked up."""

    customer: str
    call: Call


def waiting_key(call: Call, customer: str) -> str:
    """Return the key under which the ledger remembers that a customer has pending items."""
    return key_of(call, f"{customer}:waiting")


def ask_subscriptions(call: Call, customer: str) -> Call:
    """Look up the subscriptions of a customer."""
    asked = {"customer": customer, "limit": _MOST}
    call = with_stakes(call, priced_by=(side_of(call, customer, "subscribed"),))
    return call._replace(value_micros=None, lookup=Lookup(path=_SUBSCRIPTIONS, params=asked))


def ask_items(call: Call, customer: str) -> Call:
    """Look up the pending items of a customer."""
    asked = {"customer": customer, "pending": True, "limit": _MOST}
    call = with_stakes(call, priced_by=(key_of(call, customer),))
    return call._replace(value_micros=None, lookup=Lookup(path=_ITEMS, params=asked))


def rows_of(found: Found, customer: str) -> list[Mapping[str, Any]] | None:
    """Return the customer's objects from a looked-up list; None: the list is not complete."""
    rows = None if isinstance(found, Position) else found.get("data")
    if not isinstance(rows, list) or isinstance(found, Position):
        return None
    if found.get("has_more") is not False or not all(isinstance(row, Mapping) for row in rows):
        return None
    return [row for row in rows if _owner(row) in (customer, None)]


def _owner(row: Mapping[str, Any]) -> str | None:
    customer = row.get("customer")
    return id_of(customer.get("id") if isinstance(customer, Mapping) else customer)


def has_subscription(found: Found, customer: str) -> bool | None:
    """Return whether the customer has a subscription that has not ended; None: not known."""
    rows = rows_of(found, customer)
    return None if rows is None else any(row.get("status") not in _OVER for row in rows)


def with_taxes(found: Found, customer: str) -> str | None:
    """Return why an item may come to more with a subscription that collects it; None: it does not."""
    for row in rows_of(found, customer) or ():
        taxes = [name for name in ("default_tax_rates",) if row.get(name)]
        if is_set(dig(row, ("automatic_tax", "enabled"))):
            taxes.append("automatic_tax")
        if taxes and row.get("status") not in _OVER:
            return (
                f"{row.get('id')} collects it and adds {' and '.join(taxes)}; put it on an invoice "
                f"with auto_advance=False (invoice=), then set auto_advance=True, which is priced by "
                f"what Stripe says it comes to"
            )
    return None


def sum_of_items(found: Found, customer: str, wanted: str | None) -> tuple[int, str | None] | str:
    """
    Return the sum of the pending items and its currency; a text: the reason why there is none.

    Args:
        found: The looked-up list of items.
        customer: Customer of the items.
        wanted: Currency of the invoice; None: the currency of the items.
    """
    rows = rows_of(found, customer)
    if rows is None:
        return "the pending invoice items could not all be looked up"
    rows = [row for row in rows if id_of(row.get("invoice")) is None]
    currencies = {currency_code(row.get("currency")) for row in rows}
    if wanted is not None:
        rows = [row for row in rows if currency_code(row.get("currency")) == wanted]
        currencies = {wanted}
    if any(row.get("tax_rates") for row in rows):
        return "the pending invoice items are taxed (tax_rates)"
    amounts = [signed_amount(row.get("amount")) for row in rows]
    whole = [amount for amount in amounts if amount is not None]
    if len(whole) != len(amounts) or len(currencies) > 1:
        return "the pending invoice items cannot be added up"
    return sum(whole), (currencies.pop() if currencies else None)


def absorbing(call: Call, items: Iterable[object]) -> Call:
    """Return a call that collects these items, so that their counted value is a part of it."""
    keys = (key_of(call, name) for name in items if isinstance(name, str))
    return call._replace(absorbs=tuple(dict.fromkeys((*call.absorbs, *keys))))


def items_on(invoice: Mapping[str, Any]) -> list[object]:
    """Return the ids of the invoice items on an invoice, from answers of any API version."""
    lines = dig(invoice, ("lines", "data"))
    newer = ("parent", "invoice_item_details", "invoice_item")
    lines = lines if isinstance(lines, list) else []
    return [dig(line, newer) or dig(line, ("invoice_item",)) for line in lines]


def with_waiting(call: Call, customer: object) -> Call:
    """Return a priced call that also collects the pending items that the ledger remembers."""
    name = id_of(customer)
    if name is None or call.lookup is not None or call.refusal:
        return call
    call = with_stakes(call, priced_by=(key_of(call, name),))
    lookup = Lookup(known_as=waiting_key(call, name))
    return call._replace(lookup=lookup, gathered=(Items(name, call),))


def waiting_found(call: Call, state: Items, found: Found, money: Money) -> Call:
    """Add the pending items to the price of the call."""
    if isinstance(found, Position):
        return ask_items(call, state.customer)._replace(gathered=(state,))
    read = sum_of_items(found, state.customer, state.call.currency)
    if isinstance(read, str):
        return unknown(call, f"{read}; invoice them first, or leave the subscription to a person")
    minor, currency = read
    call = absorbing(call, (row.get("id") for row in rows_of(found, state.customer) or ()))
    first = call._replace(value_micros=state.call.value_micros, gathered=state.call.gathered)
    if not minor or currency is None:
        return first
    rate = state.call.usd_per_unit or money.rate(currency)
    if rate is None:
        return no_rate(call, currency, money)
    # Below zero it is credit, which a trial gives at once, and the price is charged later: both count.
    more = micros(Fraction(abs(minor)), currency, rate)
    value = (state.call.value_micros or 0) + more
    return first._replace(value_micros=value, currency=currency, usd_per_unit=rate)


def balance_owed(found: Found, currency: str | None) -> int | str:
    """Return the balance a customer owes on top of an invoice; a text: why it is unknown."""
    if isinstance(found, Position) or found.get("object") != "customer":
        return "the customer's balance could not be looked up"
    owed, own = found.get("balance", 0), currency_code(found.get("currency"))
    if type(owed) is not int:
        return "the customer's balance could not be looked up"
    return max(0, owed) if own in (None, currency) or currency is None else 0
