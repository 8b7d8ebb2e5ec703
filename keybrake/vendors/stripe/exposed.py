"""Calls that change the amount of other calls: discounts, taxes, automatic payouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Lookup, Position
from keybrake.model.shown import shown
from keybrake.vendors.stripe.objects import Found, asked_of
from keybrake.vendors.stripe.readers import is_automatic
from keybrake.vendors.stripe.stakes import side_of, with_stakes
from keybrake.vendors.stripe.steps import dig, id_of, is_id, is_set, key_of, no_id, unknown
from keybrake.vendors.stripe.table import Rule
from keybrake.vendors.stripe.waiting import rows_of

Params = Mapping[str, Any]

_MOST = 100


class Exposed(NamedTuple):
    """
    A search for invoices that the call may make dearer.

    Attributes:
        customer: Customer of these invoices; empty while unknown.
        taxed: Whether the search is for objects that Stripe computes taxes for; else it is for
            objects that may have a discount.
        drafts_seen: Whether the draft invoices are done, so that only trials are left.
    """

    customer: str
    taxed: bool
    drafts_seen: bool = False


def without_discount(
    call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money
) -> Call:
    """Refuse the loss of a discount or credit if it makes a future collection dearer."""
    del money
    return _begin(call, rule, params, ids, taxed=False)


def other_taxes(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Refuse a change such as a new address if it can raise the tax of a future collection."""
    del money
    return _begin(call, rule, params, ids, taxed=True)


def fixed(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Refuse the parameters in the table, which can raise other calls' prices; the rest is free."""
    del ids, money
    for path in rule.amount:
        if params.get(path[0]) is not None:
            words = (
                f"{path[0]}={shown(params[path[0]])} may make everything that uses this object "
                f"dearer by an unknown amount; create a new object and use that"
            )
            return unknown(call, words)
    return call._replace(effect=Effect.FREE, may_raise=())


def standing(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Free, but for parameters with which Stripe pays out by itself from then on."""
    del ids, money
    given = any(dig(params, path) not in (None, False, "false") for path in rule.amount)
    return call._replace(effect=Effect.AUTHORITY if given else Effect.FREE, meter=None)


def _begin(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], *, taxed: bool) -> Call:
    fields = [path[0] for path in rule.amount]
    if fields and all(params.get(field) is None for field in fields):
        return call._replace(effect=Effect.FREE, may_raise=())
    asked = asked_of(call, rule, params, ids)
    if asked is None:
        return ask_drafts(call, Exposed(ids[0], taxed))
    call, _, path = asked
    return call._replace(
        value_micros=None, lookup=Lookup(path=path), gathered=(Exposed("", taxed),)
    )


def ask_drafts(call: Call, state: Exposed) -> Call:
    """Look up the customer's draft invoices, which Stripe may collect automatically."""
    if not is_id(state.customer):
        return no_id(call, "customer", state.customer)
    asked = {"customer": state.customer, "status": "draft", "limit": _MOST}
    call = with_stakes(
        call,
        priced_by=(side_of(call, state.customer, "collected"),),
        may_raise=(key_of(call, state.customer),),
    )
    lookup = Lookup(path="/v1/invoices", params=asked)
    return call._replace(value_micros=None, lookup=lookup, gathered=(state,))


def exposed_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Refuse the call if it may make a future collection dearer; otherwise it costs nothing."""
    del rule, money
    state = call.gathered[0] if call.gathered else None
    if isinstance(found, Position) or not isinstance(state, Exposed):
        return unknown(call, "the customer's invoices could not be looked up")
    if state.customer:
        return exposed(call, state, found)
    if (
        not state.taxed
        and "discount" in found
        and not (found["discount"] or found.get("discounts"))
    ):
        return call._replace(value_micros=0, gathered=())  # there is no discount to lose
    own = found.get("id") if found.get("object") == "customer" else None
    named = [own, dig(found, ("customer",)), dig(found, ("owner", "customer"))]
    customer = next((id_of(name) for name in named if id_of(name) is not None), None)
    if customer is None and found.get("object") == "tax_id":
        return call._replace(value_micros=0, gathered=())  # a tax id of the account itself
    if customer is None:
        return unknown(call, "the customer could not be looked up")
    return ask_drafts(call, state._replace(customer=customer))


def exposed(call: Call, state: Exposed, found: Found) -> Call:
    """Check the drafts, then the trial subscriptions, that were looked up."""
    rows = rows_of(found, state.customer)
    if rows is None:
        kind = "trial subscriptions" if state.drafts_seen else "draft invoices"
        return unknown(call, f"the {kind} of {state.customer} could not all be looked up")
    why = "its taxes may change" if state.taxed else "it may lose a discount or credit"
    for row in rows:
        if not _grows(row, state):
            continue
        if state.drafts_seen:
            words = (
                f"{row.get('id')} is on trial, will be charged automatically, and {why}, so its "
                f"amount is unknown; leave this change to a person"
            )
        else:
            words = (
                f"{row.get('id')} will be collected automatically, and {why}, so its amount is "
                f"unknown; set its auto_advance=False, make the change, then set auto_advance=True"
            )
        return unknown(call, words)
    if state.drafts_seen:
        return call._replace(value_micros=0, gathered=())
    asked = {"customer": state.customer, "status": "trialing", "limit": _MOST}
    lookup = Lookup(path="/v1/subscriptions", params=asked)
    return call._replace(lookup=lookup, gathered=(state._replace(drafts_seen=True),))


def _grows(row: Mapping[str, Any], state: Exposed) -> bool:
    if state.taxed and not is_set(dig(row, ("automatic_tax", "enabled"))):
        return False
    if state.drafts_seen:
        return row.get("status") == "trialing"
    if row.get("status") != "draft" or not is_automatic(row):
        return False
    return state.taxed or bool(row.get("total_discount_amounts", "not shown"))
