"""
Price calls that change a customer's balance, payment source, discount or taxes.

Stripe applies these to the customer's next invoices without a further call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Lookup, Position
from keybrake.model.shown import shown
from keybrake.vendors.stripe import exposed as exposing
from keybrake.vendors.stripe.exposed import Exposed
from keybrake.vendors.stripe.money import currency_code, minor_amount, signed_amount
from keybrake.vendors.stripe.objects import Found, priced_by_request
from keybrake.vendors.stripe.steps import dig, priced, refuse, unknown, with_currency
from keybrake.vendors.stripe.table import Rule
from keybrake.vendors.stripe.waiting import rows_of

Params = Mapping[str, Any]

# Returns the account that the headers of the call select.
_ACCOUNT = "/v1/account"
_MOST = 100

# When a customer gets a new source, Stripe collects past-due invoices at once. The other fields
# decide how the customer is taxed.
_SOURCE, _TAXES = "source", ("address", "shipping", "tax", "tax_exempt")
# API versions before 2025 set a customer's discount with these. It replaces the former discount.
_DISCOUNTS = ("coupon", "promotion_code")


class _Update(NamedTuple):
    """
    The state of a customer update: the look-ups that are left, and the cost so far.

    Attributes:
        customer: Id of the customer.
        todo: Look-ups that are left; the first one has been asked for.
        balance: New balance, in the minor unit of the customer's currency.
        owed: Amount that the new balance counts, in minor units, while its currency is looked up.
        micros: Cost that the finished look-ups have found.
    """

    customer: str
    todo: tuple[str, ...]
    balance: int = 0
    owed: int = 0
    micros: int = 0


def credit(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """
    Price a balance transaction, in both directions.

    A negative amount is given away; a positive one is collected with the next invoice.
    """
    del ids
    amount = dig(params, rule.amount[0])
    if amount is None:
        return unknown(call, "the call names no amount")
    call = _signed(call, amount, "amount")
    if call.refusal or call.amount is None:
        return call
    return priced_by_request(with_currency(call, dig(params, rule.currency)), money)


def _signed(call: Call, amount: object, field: str) -> Call:
    minor = signed_amount(amount)
    if minor is None:
        words = f"{field}={shown(amount)} is not a whole number of the currency's minor unit"
        return refuse(call, ("invalid_amount", words))
    return call._replace(amount=abs(minor))


def balance(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price the balance of a new customer; most have none, and cost nothing."""
    del ids, money
    amount = dig(params, rule.amount[0])
    if amount is None or amount in (0, "0"):
        return call._replace(effect=Effect.FREE)
    call = _signed(call, amount, "balance")
    if call.refusal:
        return call
    return call._replace(value_micros=None, lookup=Lookup(path=_ACCOUNT))


def balance_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price a new balance in the currency of the account."""
    del rule
    currency = None if isinstance(found, Position) else currency_code(found.get("default_currency"))
    if currency is None or call.amount is None:
        return unknown(call, "the currency of the balance could not be looked up")
    return priced(call, call.amount, currency, money)


def update(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price an update of a customer; most cost nothing."""
    del rule, money
    given = {name for name, value in params.items() if value is not None}
    todo = ["balance"] if "balance" in given else []
    todo += ["past_due"] if _SOURCE in given else []
    todo += ["taxes"] if given.intersection(_TAXES) else []
    todo += ["discounts"] if given.intersection(_DISCOUNTS) else []
    if not todo:
        return call._replace(effect=Effect.FREE, may_raise=())
    minor = signed_amount(params["balance"]) if "balance" in given else 0
    if minor is None:
        return _signed(call, params["balance"], "balance")
    return _ask(call, _Update(ids[0], tuple(todo), minor))


def _ask(call: Call, state: _Update) -> Call:
    """Return the next look-up, or price the call when none is left."""
    match state.todo[0] if state.todo else None:
        case None:
            return call._replace(value_micros=state.micros, gathered=())
        case "balance":
            lookup = Lookup(path=f"/v1/customers/{state.customer}")
        case "account":
            lookup = Lookup(path=_ACCOUNT)
        case "past_due":
            asked = {
                "customer": state.customer,
                "status": "past_due",
                "limit": _MOST,
                "expand": ["data.latest_invoice"],
            }
            lookup = Lookup(path="/v1/subscriptions", params=asked)
        case about:
            call = exposing.ask_drafts(call, Exposed(state.customer, taxed=about == "taxes"))
            return call._replace(gathered=(state, *call.gathered))
    return call._replace(value_micros=None, lookup=lookup, gathered=(state,))


def update_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Go on with a change of a customer."""
    del rule
    state = call.gathered[0] if call.gathered else None
    if isinstance(found, Position) or not isinstance(state, _Update):
        return unknown(call, "the customer could not be looked up")
    match state.todo[0]:
        case "balance":
            return _balance(call, state, found, money)
        case "account":
            return _owed(call, state, found.get("default_currency"), money)
        case "past_due":
            return _past_due(call, state, found, money)
        case _:
            return _exposed(call, state, found)


def _next(call: Call, state: _Update) -> Call:
    return _ask(call, state._replace(todo=state.todo[1:]))


def _balance(call: Call, state: _Update, customer: Mapping[str, Any], money: Money) -> Call:
    old = customer.get("balance")
    if type(old) is not int:
        return unknown(call, "the customer's balance could not be looked up")
    # Count at least the whole new balance: an invoice may use up the old one before this call
    # arrives.
    owed = max(abs(state.balance), abs(state.balance - old))
    call, state = call._replace(amount=owed), state._replace(owed=owed)
    currency = customer.get("currency")
    if currency_code(currency) is None and owed:
        return _ask(call, state._replace(todo=("account", *state.todo[1:])))
    return _owed(call, state, currency or "usd", money)


def _owed(call: Call, state: _Update, currency: object, money: Money) -> Call:
    code = currency_code(currency)
    if code is None:
        return unknown(call, "the currency of the balance could not be looked up")
    call = priced(call, state.owed, code, money)
    return call if call.refusal else _next(call, _plus(call, state))


def _plus(call: Call, state: _Update) -> _Update:
    return state._replace(micros=state.micros + (call.value_micros or 0))


def _past_due(call: Call, state: _Update, found: Found, money: Money) -> Call:
    """Add the latest invoice of each past-due subscription, which a new source pays at once."""
    rows = rows_of(found, state.customer)
    if rows is None:
        return unknown(call, f"the subscriptions of {state.customer} could not be looked up")
    for row in rows:
        if row.get("status") != "past_due":
            continue
        invoice = row.get("latest_invoice")
        minor = minor_amount(dig(invoice, ("amount_remaining",)))
        currency = currency_code(dig(invoice, ("currency",)))
        if minor is None or currency is None:
            return unknown(
                call, f"the invoice that is due for {row.get('id')} does not say its amount"
            )
        call = priced(call, minor, currency, money)
        if call.refusal:
            return call
        state = _plus(call, state)
    return _next(call, state)


def _exposed(call: Call, state: _Update, found: Found) -> Call:
    inner = call.gathered[1]
    call = exposing.exposed(call._replace(gathered=(inner,)), inner, found)
    if call.refusal:
        return call
    if call.lookup is not None:
        return call._replace(gathered=(state, *call.gathered))
    return _next(call, state)
