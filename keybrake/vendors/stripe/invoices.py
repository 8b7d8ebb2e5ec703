"""Price calls that pay an invoice, or that make Stripe collect it automatically later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Lookup, Position
from keybrake.model.shown import shown
from keybrake.vendors.stripe.drafts import may_be_set
from keybrake.vendors.stripe.edits import is_taxing
from keybrake.vendors.stripe.money import currency_code, minor_amount
from keybrake.vendors.stripe.objects import Found, known
from keybrake.vendors.stripe.readers import (
    at_least_credited,
    credited_by,
    is_left_to_customer,
    uses_credit,
)
from keybrake.vendors.stripe.stakes import side_of, with_stakes
from keybrake.vendors.stripe.steps import dig, id_of, is_id, is_set, key_of, no_id, priced, unknown
from keybrake.vendors.stripe.table import Rule
from keybrake.vendors.stripe.waiting import (
    absorbing,
    ask_items,
    balance_owed,
    items_on,
    rows_of,
    sum_of_items,
)
from keybrake.vendors.stripe.worth import Worth, worth

Params = Mapping[str, Any]


def _asking(call: Call, invoice: str, *gathered: Any) -> Call:
    # Look it up at Stripe: lines may have been added elsewhere since the ledger counted it.
    return call._replace(
        value_micros=None,
        position=key_of(call, invoice),
        lookup=Lookup(path=f"/v1/invoices/{invoice}"),
        gathered=gathered,
    )


# What is gathered of an invoice that was paid elsewhere, while it is looked up.
_ELSEWHERE = "elsewhere"


def pay(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price a payment of the remaining amount; free if the invoice was paid elsewhere."""
    del rule, money
    if not is_set(params.get("paid_out_of_band")):
        return _asking(call, ids[0])
    call = _asking(call, ids[0], _ELSEWHERE)
    # Only a draft may give credit, and only one that a guarded call touched is looked up for that.
    call = with_stakes(call, priced_by=(key_of(call, ids[0]),))
    return call._replace(lookup=Lookup(known_as=call.position))


def pay_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price a payment at the remaining amount, and note the amount that was paid before."""
    del rule
    if call.gathered == (_ELSEWHERE,):
        return _paid_elsewhere(call, found, money)
    if isinstance(found, Position):
        return known_amount(call, found)
    remaining = minor_amount(at_least_credited(found.get("amount_remaining"), found))
    paid = found.get("amount_paid")
    call = _priced(_collects(call, found), remaining, found, money)
    return call._replace(gathered=(paid,)) if type(paid) is int and paid > 0 else call


def _paid_elsewhere(call: Call, found: Found, money: Money) -> Call:
    if isinstance(found, Position):
        return call._replace(lookup=Lookup(path=call.path.removesuffix("/pay")))
    if found.get("object") != "invoice":
        return unknown(call, "the invoice could not be looked up")
    call = call._replace(gathered=())
    if found.get("status") != "draft":
        call = call._replace(priced_by=())
    else:
        call = _collects(call, found)
        if credit := credited_by(found):
            return _priced(call, credit, found, money)
    return call._replace(effect=Effect.FREE, value_micros=0, position=None)


def paid(call: Call, body: Mapping[str, Any]) -> Worth | None:
    """Return the worth of an invoice to the call that paid it, without earlier payments."""
    held = worth(body)
    before = call.gathered[0] if call.gathered else 0
    before = before if type(before) is int else 0
    if held is None or held.minor is None or held.state not in ("settled", "in_flight"):
        return held
    return held._replace(minor=max(0, held.minor - before))


def send(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """The customer is asked for what remains; a draft is finalized first, and may give credit."""
    del rule, params, money
    return _asking(call, ids[0])


def send_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price an invoice that is sent: its credit, where it is a draft whose total is below zero."""
    if isinstance(found, Position):
        return known(call, rule, found, money)
    if found.get("object") != "invoice":
        return unknown(call, "the invoice could not be looked up")
    if found.get("status") != "draft":
        call = call._replace(priced_by=())
    else:
        call = _collects(call, found)
        if credit := credited_by(found):
            return _priced(call, credit, found, money)
    return call._replace(lookup=Lookup(known_as=call.position))


def sent(call: Call, body: Mapping[str, Any]) -> Worth | None:
    """Return the worth of an invoice, with the amount asked of the customer as contingent."""
    del call
    held = worth(body)
    return held and held._replace(contingent=held.contingent or held.minor)


def _collects(call: Call, invoice: Mapping[str, Any]) -> Call:
    """Return a call that collects an invoice; from now on its items count as a part of it."""
    call, customer = absorbing(call, items_on(invoice)), id_of(invoice.get("customer"))
    if customer is None:
        return call
    key = key_of(call, customer)
    if invoice.get("status") == "open":
        # The invoice is final: the customer's balance and discount no longer change it.
        return call._replace(priced_by=tuple(one for one in call.priced_by if one != key))
    if not uses_credit(invoice):
        return call
    # It uses up the customer's credit, which makes other invoices dearer; and it counts on that.
    balance = side_of(call, customer, "balance")
    return with_stakes(call, priced_by=(balance,), may_raise=(key, balance))


def known_amount(call: Call, found: Position) -> Call:
    """Return *call* priced at the value that the ledger counts."""
    rate = found.usd_per_unit
    return call._replace(
        value_micros=found.value_micros, currency=found.currency, usd_per_unit=rate
    )


def _priced(call: Call, minor: int | None, found: Mapping[str, Any], money: Money) -> Call:
    currency = currency_code(found.get("currency"))
    if minor is None or currency is None:
        return unknown(call, "the invoice does not say its amount")
    return priced(call, minor, currency, money)


def finalize(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price a finalization, which starts collection unless only the customer can pay."""
    del rule, money
    return _asking(call, ids[0], params.get("auto_advance"))


def finalize_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price a finalization at the amount due."""
    del rule
    if isinstance(found, Position):
        return known_amount(call, found)
    given = call.gathered[0] if call.gathered else None
    after = found if given is None else {**found, "auto_advance": may_be_set(given)}
    call = _collects(call._replace(gathered=()), found)
    call = _priced(
        call, minor_amount(at_least_credited(found.get("amount_due"), found)), found, money
    )
    if is_left_to_customer(after) and not call.refusal and not credited_by(found):
        return call._replace(value_micros=0, contingent_micros=call.value_micros)
    return call


_ADDED = ("default_tax_rates", "shipping_cost")


class _Due(NamedTuple):
    """The amount of a new invoice, while the customer is looked up for a balance to add."""

    minor: int
    currency: str | None


class _Wanted(NamedTuple):
    """A new invoice, while the customer's pending items are looked up."""

    customer: str
    currency: str | None


def create(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price a new invoice: a draft costs nothing, one that advances costs the pending items."""
    del rule, ids, money
    later = params.get("automatically_finalizes_at")
    if not may_be_set(params.get("auto_advance")) and not may_be_set(later):
        return call
    for name in (*_ADDED, "automatic_tax", "subscription"):
        if params.get(name) and (name == "shipping_cost" or is_taxing(name, params[name])):
            words = (
                f"{name}={shown(params[name])} is added to the pending invoice items; create the "
                f"invoice with auto_advance=False, then update it with auto_advance=True"
            )
            return unknown(call, words)
    former = params.get("from_invoice")
    if former is not None:
        invoice = id_of(dig(former, ("invoice",)))
        return _asking_for(call, invoice, "/v1/invoices/{}", "from_invoice")
    customer, wanted = id_of(params.get("customer")), currency_code(params.get("currency"))
    call = _asking_for(call, customer, "/v1/customers/{}", "customer")
    if call.lookup is None or customer is None:
        return call
    if params.get("pending_invoice_items_behavior") == "exclude":
        return call._replace(gathered=(_Due(0, wanted),))
    return ask_items(call, customer)._replace(gathered=(_Wanted(customer, wanted),))


def _asking_for(call: Call, object_id: str | None, path: str, field: str) -> Call:
    if object_id is None:
        return unknown(call, f"the invoice would be collected automatically, and names no {field}")
    if not is_id(object_id):
        return no_id(call, field, object_id)
    return call._replace(value_micros=None, lookup=Lookup(path=path.format(object_id)))


def create_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price an invoice that advances by the pending items, or by the invoice that it revises."""
    del rule
    if isinstance(found, Position):
        return unknown(call, "the pending invoice items could not be looked up")
    state = call.gathered[0] if call.gathered else None
    if isinstance(state, _Due):
        return _with_balance(call, state, found, money)
    if not isinstance(state, _Wanted):
        return _revised(call, found, money)
    read = sum_of_items(found, state.customer, state.currency)
    if isinstance(read, str):
        return unknown(call, read)
    call = absorbing(call, (row.get("id") for row in rows_of(found, state.customer) or ()))
    lookup = Lookup(path=f"/v1/customers/{state.customer}")
    return call._replace(lookup=lookup, gathered=(_Due(*read),))


def _revised(call: Call, former: Mapping[str, Any], money: Money) -> Call:
    """Price an invoice that revises a former one: its total, plus the customer's balance."""
    minor, customer = minor_amount(former.get("total")), id_of(former.get("customer"))
    if minor is None or customer is None or not is_id(customer):
        return _priced(call, minor, former, money)
    due = _Due(minor, currency_code(former.get("currency")))
    return call._replace(lookup=Lookup(path=f"/v1/customers/{customer}"), gathered=(due,))


def _with_balance(call: Call, due: _Due, found: Found, money: Money) -> Call:
    owed = balance_owed(found, due.currency)
    if isinstance(owed, str):
        return unknown(call, owed)
    # A negative total is credited to the customer, so it counts as well.
    minor = abs(due.minor) + owed
    if not minor:
        return call._replace(value_micros=0, gathered=())
    own = None if isinstance(found, Position) else currency_code(found.get("currency"))
    return priced(call._replace(gathered=()), minor, due.currency or own, money)
