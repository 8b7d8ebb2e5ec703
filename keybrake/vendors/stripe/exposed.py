"""Calls that name no invoice and may make one dearer: a discount that goes, a customer's taxes."""

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
    Whose invoices may become dearer, while they are looked up.

    Attributes:
        customer: Empty while it is not known.
        taxed: Only what Stripe works out the taxes of; else whatever may have a discount.
        drafts_seen: Only the subscriptions on trial have yet to be looked up.
    """

    customer: str
    taxed: bool
    drafts_seen: bool = False


def without_discount(
    call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money
) -> Call:
    """A discount or credit that goes: what will be collected by itself comes to more without it."""
    del money
    return _begin(call, rule, params, ids, taxed=False)


def other_taxes(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Another address, say: what will be collected by itself may be taxed higher."""
    del money
    return _begin(call, rule, params, ids, taxed=True)


def fixed(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Free, but for parameters that make dearer what others have been priced by."""
    del ids, money
    for path in rule.amount:
        if params.get(path[0]) is not None:
            words = (
                f"{path[0]}={shown(params[path[0]])} may make dearer whatever uses it, and nothing "
                f"tells by how much; make a new one and use that"
            )
            return unknown(call, words)
    return call._replace(effect=Effect.FREE, may_raise=())


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
    """Ask which drafts of the customer may be collected by themselves."""
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
    """Refuse what makes something dearer that nobody would be asked about; else it is for nothing."""
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
        return call._replace(value_micros=0, gathered=())  # it has none
    own = found.get("id") if found.get("object") == "customer" else None
    named = [own, dig(found, ("customer",)), dig(found, ("owner", "customer"))]
    customer = next((id_of(name) for name in named if id_of(name) is not None), None)
    if customer is None and found.get("object") == "tax_id":
        return call._replace(value_micros=0, gathered=())  # the account's own
    if customer is None:
        return unknown(call, "the customer could not be looked up")
    return ask_drafts(call, state._replace(customer=customer))


def exposed(call: Call, state: Exposed, found: Found) -> Call:
    """Go on with the drafts, then with the subscriptions on trial, that were looked up."""
    rows = rows_of(found, state.customer)
    if rows is None:
        return unknown(call, f"what is due from {state.customer} could not all be looked up")
    why = "its taxes may be others" if state.taxed else "a discount or credit may be taken off it"
    for row in rows:
        if not _grows(row, state):
            continue
        if state.drafts_seen:
            words = (
                f"{row.get('id')} is on trial and will be charged by itself, and {why}: what it "
                f"comes to then cannot be told; leave this change to a person"
            )
        else:
            words = (
                f"{row.get('id')} will be collected by itself, and {why}: what it comes to then "
                f"cannot be told; set its auto_advance=False, make the change, then set "
                f"auto_advance=True"
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
