"""Calls that have an invoice paid, now or by itself later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Lookup, Position
from keybrake.model.shown import shown
from keybrake.vendors.stripe.drafts import may_be_set
from keybrake.vendors.stripe.edits import is_taxing
from keybrake.vendors.stripe.money import currency_code, minor_amount
from keybrake.vendors.stripe.objects import Found
from keybrake.vendors.stripe.readers import at_least_credited, is_left_to_customer
from keybrake.vendors.stripe.stakes import with_stakes
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
    # Lines may have come to it elsewhere: the ledger's word is not enough for its amount.
    return call._replace(
        value_micros=None,
        position=key_of(call, invoice),
        lookup=Lookup(path=f"/v1/invoices/{invoice}"),
        gathered=gathered,
    )


def pay(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """What remains of the invoice is collected, unless it was paid elsewhere."""
    del rule, money
    if is_set(params.get("paid_out_of_band")):
        return call._replace(effect=Effect.FREE)
    return _asking(call, ids[0])


def pay_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price a payment: what remains. What was paid before is not this call's."""
    del rule
    if isinstance(found, Position):
        return known_amount(call, found)
    remaining = minor_amount(at_least_credited(found.get("amount_remaining"), found))
    paid = found.get("amount_paid")
    call = _priced(_collects(call, found), remaining, found, money)
    return call._replace(gathered=(paid,)) if type(paid) is int and paid > 0 else call


def paid(call: Call, body: Mapping[str, Any]) -> Worth | None:
    """Return what an invoice is worth to the call that paid it."""
    held = worth(body)
    before = call.gathered[0] if call.gathered else 0
    if held is None or held.minor is None or held.state not in ("settled", "in_flight"):
        return held
    return held._replace(minor=max(0, held.minor - before))


def sent(call: Call, body: Mapping[str, Any]) -> Worth | None:
    """Return what an invoice is worth, and what the customer is asked for."""
    del call
    held = worth(body)
    return held and held._replace(contingent=held.contingent or held.minor)


def _collects(call: Call, invoice: Mapping[str, Any]) -> Call:
    """Return a call that collects an invoice: its items are counted with it from now on."""
    call, customer = absorbing(call, items_on(invoice)), id_of(invoice.get("customer"))
    if customer is None:
        return call
    key = key_of(call, customer)
    if invoice.get("status") == "open":
        # It is final: neither balance nor discount of the customer changes it any more.
        return call._replace(priced_by=tuple(one for one in call.priced_by if one != key))
    due, total = invoice.get("amount_due"), invoice.get("total")
    credited = type(due) is not int or type(total) is not int or due < total
    # It uses up the customer's credit, which makes other invoices dearer.
    return with_stakes(call, may_raise=(key,)) if credited else call


def known_amount(call: Call, found: Position) -> Call:
    """Return a call worth what the ledger counts."""
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
    """Collection starts, unless the invoice only goes to the customer and nothing is automatic."""
    del rule, money
    return _asking(call, ids[0], params.get("auto_advance"))


def finalize_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price a collection that starts: the amount due."""
    del rule
    if isinstance(found, Position):
        return known_amount(call, found)
    given = call.gathered[0] if call.gathered else None
    after = found if given is None else {**found, "auto_advance": may_be_set(given)}
    call = _collects(call._replace(gathered=()), found)
    call = _priced(
        call, minor_amount(at_least_credited(found.get("amount_due"), found)), found, money
    )
    if is_left_to_customer(after) and not call.refusal:
        return call._replace(value_micros=0, contingent_micros=call.value_micros)
    return call


_ADDED = ("default_tax_rates", "shipping_cost")


class _Due(NamedTuple):
    """What a new invoice comes to, while the customer is looked up: a balance comes on top."""

    minor: int
    currency: str | None


class _Wanted(NamedTuple):
    """Whose items wait for a new invoice, and in which currency it is to be."""

    customer: str
    currency: str | None


def create(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """A draft comes to nothing by itself, unless it advances: then to the items that wait for it."""
    del rule, ids, money
    later = params.get("automatically_finalizes_at")
    if not may_be_set(params.get("auto_advance")) and not may_be_set(later):
        return call
    for name in (*_ADDED, "automatic_tax"):
        if params.get(name) and (name == "shipping_cost" or is_taxing(name, params[name])):
            words = (
                f"{name}={shown(params[name])} comes on top of the items that wait; make the "
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
        return unknown(call, f"the invoice would advance by itself, and names no {field}")
    if not is_id(object_id):
        return no_id(call, field, object_id)
    return call._replace(value_micros=None, lookup=Lookup(path=path.format(object_id)))


def create_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price an invoice that advances by itself: the items that wait, or the invoice it follows."""
    del rule
    if isinstance(found, Position):
        return unknown(call, "the items that wait could not be looked up")
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
    """Price an invoice that revises a former one: as much, and what the customer owes on top."""
    minor, customer = minor_amount(former.get("total")), id_of(former.get("customer"))
    if minor is None or customer is None or not is_id(customer):
        return _priced(call, minor, former, money)
    due = _Due(minor, currency_code(former.get("currency")))
    return call._replace(lookup=Lookup(path=f"/v1/customers/{customer}"), gathered=(due,))


def _with_balance(call: Call, due: _Due, found: Found, money: Money) -> Call:
    owed = balance_owed(found, due.currency)
    if isinstance(owed, str):
        return unknown(call, owed)
    # Below zero, what it lacks is credited to the customer.
    minor = abs(due.minor) + owed
    if not minor:
        return call._replace(value_micros=0, gathered=())
    own = None if isinstance(found, Position) else currency_code(found.get("currency"))
    return priced(call._replace(gathered=()), minor, due.currency or own, money)
