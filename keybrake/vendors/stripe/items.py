"""
Price invoice items.

An item on an invoice is a line of it. An item without an invoice is pending, and counts if the
customer has a subscription, because that will collect it.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Lookup, Position
from keybrake.vendors.stripe.bills import ask_on, bill_found
from keybrake.vendors.stripe.drafts import GROWN, ask_invoice, changed_found, finished
from keybrake.vendors.stripe.edits import NEXT, Cannot, Change, edited_bill
from keybrake.vendors.stripe.lines import Bill, bill_of
from keybrake.vendors.stripe.money import currency_code, exact_number, signed_amount
from keybrake.vendors.stripe.objects import Found, known
from keybrake.vendors.stripe.stakes import with_stakes
from keybrake.vendors.stripe.steps import id_of, is_id, key_of, no_id, unknown
from keybrake.vendors.stripe.table import Rule
from keybrake.vendors.stripe.waiting import (
    GONE,
    PENDING,
    WAITING,
    ask_subscriptions,
    has_subscription,
    waiting_key,
    with_taxes,
)

Params = Mapping[str, Any]

_HARMLESS = frozenset({"metadata", "expand", "description", "period"})


class _New(NamedTuple):
    """
    A new pending item, while the customer's subscriptions are looked up.

    *beside*: the item names the subscription that collects it.
    """

    customer: str
    read: Bill
    beside: bool


class _Known(NamedTuple):
    """A change of an item, while the item is looked up; *gone*: it is deleted."""

    item: str
    params: Params
    gone: bool = False


class _Counted(NamedTuple):
    """A deleted item that the ledger counts, while the effect on its invoice is looked up."""

    position: Position


class _Pending(NamedTuple):
    """A change of a pending item, while the customer's subscriptions are looked up."""

    customer: str
    change: Change
    item: Params


def create(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price a new item: as a line of its invoice, or as an item that a subscription collects."""
    del rule, ids
    invoice, customer = id_of(params.get("invoice")), id_of(params.get("customer"))
    if invoice is not None:
        return ask_invoice(call, Change(invoice, added=(params,)))
    # Below zero, it may be given as credit by the invoice that collects it.
    below = min(0, signed_amount(params.get("amount")) or 0)
    read = bill_of([{**params, "amount": -below} if below else params])._replace(wanted=False)
    if customer is None:
        return _collected(ask_on(call, read, money))
    if not is_id(customer):
        return no_id(call, "customer", customer)
    beside = params.get("subscription") is not None
    return ask_subscriptions(call, customer)._replace(gathered=(_New(customer, read, beside),))


def _collected(call: Call) -> Call:
    """Mark a priced call as a pending item that a subscription will collect."""
    if call.lookup is not None or call.refusal:
        return call
    return call._replace(gathered=(PENDING,))


def create_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Go on with a new item, now that subscriptions, a price or the invoice are known."""
    state = call.gathered[0] if call.gathered else None
    if isinstance(state, _New):
        has = has_subscription(found, state.customer)
        if has is None:
            return unknown(call, f"the subscriptions of {state.customer} could not be looked up")
        if (taxes := with_taxes(found, state.customer)) is not None:
            return unknown(call, taxes)
        if has or state.beside:
            return _collected(ask_on(call, state.read, money))
        key = waiting_key(call, state.customer)
        return call._replace(value_micros=0, position=key, gathered=(WAITING,))
    if isinstance(state, Bill) and call.position is None:
        return _collected(bill_found(call, rule, found, money))
    return changed_found(call, rule, found, money)


def update(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price a changed item; look it up to see which invoice it is on."""
    del rule, money
    if {name for name, value in params.items() if value is not None} <= _HARMLESS:
        return call._replace(effect=Effect.FREE, may_raise=())
    return _asking(call, _Known(ids[0], params))


def delete(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price a deleted item; deleting a credit makes its invoice dearer."""
    del rule, params, money
    call = _asking(call, _Known(ids[0], {}, gone=True))
    assert call.lookup is not None
    # The counted value is given back, unless an invoice becomes dearer without the item.
    return call._replace(lookup=Lookup(key_of(call, ids[0]), call.lookup.path))


def _asking(call: Call, state: _Known) -> Call:
    lookup = Lookup(path=f"/v1/invoiceitems/{state.item}")
    return call._replace(value_micros=None, lookup=lookup, gathered=(state,))


def item_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price the change of an item, one look-up at a time."""
    state = call.gathered[0] if call.gathered else None
    if isinstance(state, _Counted):
        return _deleted(call, state, rule, found, money)
    if isinstance(state, _Known):
        if not isinstance(found, Position):
            return _of_item(call, state, found)
        if not state.gone:
            return unknown(call, f"the invoice item {state.item} could not be looked up")
        call = _asking(call, state)
        # An item that became part of an invoice is no longer counted by itself.
        return call._replace(gathered=(_Counted(found), state)) if found.value_micros else call
    if isinstance(state, _Pending):
        return _of_pending(call, state, found, money)
    return changed_found(call, rule, found, money)


def _deleted(call: Call, state: _Counted, rule: Rule, found: Found, money: Money) -> Call:
    """Go on with a deleted item; its value is given back once nothing becomes dearer by that."""
    call = item_found(call._replace(gathered=call.gathered[1:]), rule, found, money)
    if call.refusal or call.gathered == (GROWN,):
        return call
    if call.lookup is not None and call.lookup.path is not None:
        return call._replace(gathered=(state, *call.gathered))
    call = call._replace(gathered=(GONE,), position=state.position.key, lookup=None)
    return known(call, rule, state.position, money)


def _of_item(call: Call, state: _Known, item: Mapping[str, Any]) -> Call:
    customer, invoice = id_of(item.get("customer")), id_of(item.get("invoice"))
    if item.get("object") != "invoiceitem" or customer is None or not is_id(customer):
        return unknown(call, f"the invoice item {state.item} could not be looked up")
    call = with_stakes(call, may_raise=(key_of(call, state.item), key_of(call, customer)))
    removed = (state.item,) if state.gone else ()
    edited = () if state.gone else ((state.item, state.params),)
    change = Change(invoice or NEXT, (), edited, removed, {}, item)
    if invoice is not None:
        return ask_invoice(call, change)
    pending = _Pending(customer, change, item)
    return ask_subscriptions(call, customer)._replace(gathered=(pending,))


def _of_pending(call: Call, state: _Pending, found: Found, money: Money) -> Call:
    """Go on with a pending item, now that the customer's subscriptions are known."""
    has = has_subscription(found, state.customer)
    if has is None:
        return unknown(call, f"the subscriptions of {state.customer} could not be looked up")
    if not has and state.item.get("subscription") is None:
        # This price depends only on the customer still having no subscription, which is a side of
        # the customer. So drop the key of the customer as a whole.
        own = key_of(call, state.customer)
        call = call._replace(priced_by=tuple(key for key in call.priced_by if key != own))
        key = waiting_key(call, state.customer)
        return call._replace(value_micros=0, gathered=(WAITING,), position=key)
    return _beside(call, state, with_taxes(found, state.customer), money)


def _beside(call: Call, state: _Pending, taxes: str | None, money: Money) -> Call:
    """Price an item that a subscription collects: in full, if the change makes it dearer."""
    item = state.item
    amount, currency = item.get("amount"), currency_code(item.get("currency"))
    if type(amount) is not int or currency is None:
        return unknown(call, f"the invoice item {item.get('id')} does not say its amount")
    try:
        read = edited_bill(state.change, {}, amount, currency)
    except Cannot as cannot:
        return unknown(call, str(cannot))
    if not read.pending and (read.minor == amount or 0 <= read.minor < amount):
        return call._replace(value_micros=0, gathered=())
    if taxes is not None:
        return unknown(call, taxes)
    # A credit that shrinks makes the next invoice dearer by the difference. An item below zero may
    # be given as credit.
    minor = max(read.minor - min(amount, 0), _below(state.change, item, read.minor))
    read = read._replace(currency=currency, wanted=True, whole=True, minor=minor)
    call = call._replace(position=key_of(call, str(item.get("id"))))
    return finished(ask_on(call, read, money), read)


def _below(change: Change, item: Mapping[str, Any], minor: Fraction) -> Fraction:
    """Return the most credit that an item gives which comes to *minor* after the change."""
    params = dict(change.edited).get(str(item.get("id")), {})
    if params.get("amount") is None:
        return -minor
    # Whether Stripe takes a new amount for one unit or for all of them, it is no more credit.
    given = params.get("quantity_decimal", params.get("quantity", item.get("quantity")))
    return -minor * max(Fraction(1), exact_number(given) or Fraction(1))
