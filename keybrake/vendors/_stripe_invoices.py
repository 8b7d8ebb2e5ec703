"""Calls that have an invoice paid, now or by itself later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keybrake._config import Money
from keybrake._model import Call, Effect, Lookup, Position
from keybrake.vendors._stripe_bills import PREVIEWED, ask_on, bill_found
from keybrake.vendors._stripe_lines import Bill, bill_of, lines_at
from keybrake.vendors._stripe_money import currency_code, minor_amount, signed_amount
from keybrake.vendors._stripe_objects import Found, asked_of, follow, known
from keybrake.vendors._stripe_readers import is_left_to_customer
from keybrake.vendors._stripe_steps import dig, id_of, is_id, is_set, key_of, no_id, priced, unknown
from keybrake.vendors._stripe_table import Rule
from keybrake.vendors._stripe_worth import Worth, worth

Params = Mapping[str, Any]

_ITEMS = "/v1/invoiceitems"
_MOST_ITEMS = 100

# What is gathered where lines come on top of an invoice that is counted: the answer does not show
# what the invoice comes to with them.
GROWN = "grown"


def _may_be_set(value: object) -> bool:
    return value not in (None, False, "false", "")


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
    remaining, paid = minor_amount(found.get("amount_remaining")), found.get("amount_paid")
    call = _priced(call, remaining, found, money)
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
    shown = found if given is None else {**found, "auto_advance": _may_be_set(given)}
    call = _priced(call._replace(gathered=()), minor_amount(found.get("amount_due")), found, money)
    if is_left_to_customer(shown) and not call.refusal:
        return call._replace(value_micros=0, contingent_micros=call.value_micros)
    return call


def update(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """From the moment it advances by itself, the invoice counts."""
    if _may_be_set(params.get("auto_advance")):
        return _asking(call, ids[0])
    return follow(call, rule, params, ids, money)


def update_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price an invoice that advances by itself now."""
    if isinstance(found, Position):
        return known(call, rule, found, money)
    return _priced(call, minor_amount(found.get("amount_due")), found, money)


_ADDED = ("default_tax_rates", "shipping_cost")


def create(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """A draft comes to nothing by itself, unless it advances: then to the items that wait for it."""
    del rule, ids, money
    if not _may_be_set(params.get("auto_advance")):
        return call
    former = params.get("from_invoice")
    if former is not None:
        invoice = id_of(dig(former, ("invoice",)))
        return _asking_for(call, invoice, "/v1/invoices/{}", "from_invoice")
    if params.get("pending_invoice_items_behavior") == "exclude":
        return call
    taxed = is_set(dig(params, ("automatic_tax", "enabled")))
    if taxed or any(params.get(name) for name in _ADDED):
        return unknown(call, "taxes or shipping come on top of the items that wait")
    customer = id_of(params.get("customer"))
    asked = {"customer": customer, "pending": True, "limit": _MOST_ITEMS}
    call = _asking_for(call, customer, _ITEMS, "customer")
    if call.lookup is None:
        return call
    lookup = Lookup(path=_ITEMS, params=asked)
    return call._replace(lookup=lookup, gathered=(currency_code(params.get("currency")),))


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
    if not call.gathered:
        return _priced(call, minor_amount(found.get("total")), found, money)
    items, wanted = found.get("data"), call.gathered[0]
    if not isinstance(items, list) or found.get("has_more") is not False:
        return unknown(call, "the items that wait for the invoice could not all be looked up")
    read = [(currency_code(dig(item, ("currency",))), dig(item, ("amount",))) for item in items]
    if wanted is not None:
        read = [(currency, amount) for currency, amount in read if currency == wanted]
    currencies = {currency for currency, _ in read}
    amounts = [signed_amount(amount) for _, amount in read]
    if None in amounts or len(currencies) > 1:
        return unknown(call, "the items that wait for the invoice cannot be added up")
    if not amounts:
        return call._replace(value_micros=0)
    return priced(call, max(0, sum(amount or 0 for amount in amounts)), currencies.pop(), money)


def add(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Lines count where their invoice does; else they wait for a call that has it paid."""
    asked = asked_of(call, rule, params, ids)
    if asked is None:
        return call
    call, invoice, _ = asked
    del money
    lines = lines_at(params, rule.amount) if rule.amount else [params]
    below = [line for line in lines if (signed_amount(dig(line, ("amount",))) or 0) < 0]
    read = bill_of(line for line in lines if line not in below)
    key = key_of(call, invoice)
    return call._replace(position=key, lookup=Lookup(known_as=key), gathered=(read,))


def add_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price lines on top of an invoice that is counted and still open."""
    if isinstance(found, Position):
        if found.state != "open" or not call.gathered or not isinstance(call.gathered[0], Bill):
            return call
        read = call.gathered[0]
        foreign = read.currency not in (None, found.currency)
        odd = "they are in another currency than the invoice" if foreign else read.odd
        grown = read._replace(odd=odd, currency=found.currency, wanted=True)
        return _grown(ask_on(call, grown._replace(over=found.value_micros), money))
    return _grown(bill_found(call, rule, found, money))


def _grown(call: Call) -> Call:
    if call.lookup is not None or call.refusal or call.gathered == (PREVIEWED,):
        return call
    return call._replace(gathered=(GROWN,))
