"""Price calls by the prices that they name: subscriptions, checkout sessions, payment links."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Lookup, Position
from keybrake.vendors.stripe.lines import Bill, bill_of, lines_at, with_price
from keybrake.vendors.stripe.money import currency_code, exact_number, micros, minor_amount
from keybrake.vendors.stripe.objects import Found
from keybrake.vendors.stripe.readers import at_least_credited, quote_total
from keybrake.vendors.stripe.steps import dig, id_of, priced, unknown, with_currency
from keybrake.vendors.stripe.table import Rule
from keybrake.vendors.stripe.terms import is_anchored, oddity, preview_of_new, unpriced_new
from keybrake.vendors.stripe.waiting import Items, waiting_found, with_waiting
from keybrake.vendors.stripe.worth import Worth, worth

_PRICE = "/v1/prices/{}"
PREVIEW = "/v1/invoices/create_preview"

# Marker in ``Call.gathered``: Stripe was asked for a preview of the invoice.
PREVIEWED = "previewed"
# Marker in ``Call.gathered``: the first invoice is for less than Stripe will charge later.
LATER = "later"


def bill(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """Price the first period of a subscription, also after a trial, which Stripe charges unasked."""
    del ids
    call = call._replace(recurring=True)
    lines = lines_at(params, rule.amount)
    if id_of(params.get("from_subscription")) is not None and not params.get("phases"):
        return call  # the schedule takes over a subscription that exists
    if not lines:
        return unknown(call, "the call names no prices")
    read = bill_of(lines)._replace(preview=preview_of_new(params))
    if params.get("collection_method") == "send_invoice":
        return _contingent(call, rule._replace(asks=()), read, money)
    if (why := unpriced_new(params)) is not None:
        return unknown(call, why)
    wanted = currency_code(dig(params, rule.currency))
    odd = read.odd or oddity(params) or _foreign(read, wanted)
    read = read._replace(odd=odd, currency=wanted or read.currency, wanted=wanted is not None)
    read = read._replace(customer=id_of(params.get("customer")), later=is_anchored(params))
    return _with_pending_items(ask_on(call, read, money), read)


def _with_pending_items(call: Call, read: Bill) -> Call:
    # Stripe's preview includes pending items; prices alone do not.
    previewing = PREVIEWED in call.gathered
    return call if previewing or read.customer is None else with_waiting(call, read.customer)


def _foreign(read: Bill, wanted: str | None) -> str | None:
    mixed = wanted is not None and read.currency not in (None, wanted)
    return "the lines are in several currencies" if mixed else None


def ask_on(call: Call, read: Bill, money: Money) -> Call:
    """Price a bill, or return the next look-up that it needs."""
    marks = (LATER,) if read.later else ()
    if read.odd is not None:
        if read.preview is None:
            words = f"its prices do not give the amount: {read.odd}"
            remedy = "change that, or leave it to a person"
            if ".subscription" in call.endpoint:
                remedy = "change that, or name a customer, so that Stripe's preview can be asked"
            return unknown(call, f"{words}; {remedy}")
        lookup = Lookup(path=PREVIEW, method="POST", params=read.preview)
        return call._replace(value_micros=None, lookup=lookup, gathered=(PREVIEWED, *marks))
    if read.pending:
        # A price shows its amounts in other currencies only if they are expanded.
        options = {"expand": ["currency_options"]} if read.wanted else {}
        lookup = Lookup(path=_PRICE.format(read.pending[0][0]), params=options)
        return call._replace(value_micros=None, lookup=lookup, gathered=(read,))
    if read.currency is None and not read.minor:
        return call._replace(value_micros=0)
    minor = max(read.minor, Fraction(read.least))
    return priced(call._replace(gathered=marks), minor, read.currency, money)


def bill_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Go on with a bill, now that a price or Stripe's preview was looked up."""
    del rule
    if call.gathered and isinstance(call.gathered[0], Items):
        return waiting_found(call, call.gathered[0], found, money)
    if isinstance(found, Position) or not call.gathered:
        return unknown(call, "its prices could not be looked up")
    state = call.gathered[0]
    if not isinstance(state, Bill):
        return previewed(call, found, money)
    if not state.pending:
        return unknown(call, "its prices could not be looked up")
    read = with_price(state, found)
    return _with_pending_items(ask_on(call, read, money), read)


def accept_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """
    Price an accepted quote.

    A quote that starts a subscription also collects pending items; it is refused if there are any.
    """
    if call.gathered and isinstance(call.gathered[0], Items):
        with_it = waiting_found(call, call.gathered[0], found, money)
        if (
            with_it.lookup
            or with_it.refusal
            or with_it.value_micros == call.gathered[0].call.value_micros
        ):
            return with_it
        words = "the customer has pending invoice items, which would be collected with the quote"
        return unknown(call, f"{words}; invoice them first")
    del rule
    minor = None if isinstance(found, Position) else minor_amount(quote_total(found))
    if minor is None or isinstance(found, Position):
        return unknown(call, "the quote does not say its amount")
    call = with_currency(call, found.get("currency"))
    call = call if call.refusal else priced(call, minor, call.currency, money)
    if dig(found, ("computed", "recurring")) is None:
        return call
    return with_waiting(call, found.get("customer"))


_STATES = {
    "active": "settled",
    "trialing": "open",
    "paused": "open",
    "incomplete_expired": "released",
    "canceled": "released",
}


def first_invoice(call: Call, body: Mapping[str, Any]) -> Worth | None:
    """Return the worth of a new subscription: its first invoice, even if that is paid later."""
    subscription, status = body.get("id"), body.get("status")
    if body.get("object") != "subscription" or not isinstance(subscription, str):
        return None
    state = _STATES.get(status, "in_flight") if isinstance(status, str) else "in_flight"
    if state == "released":
        return Worth(subscription, state, 0, call.currency)
    if not call.value_micros:
        return Worth(subscription, "needs_human", 0, call.currency)
    invoice = body.get("latest_invoice")
    shown = worth(invoice) if isinstance(invoice, Mapping) else None
    if state == "open" or (_is_later(call) and not _is_more(call, shown)):
        # The first invoice of a trial is zero. The counted amount is charged when the trial ends, or
        # with the first full period.
        return Worth(subscription, "open", None, call.currency, kept=True)
    if shown is not None and shown.minor is not None and shown.currency is not None:
        return shown
    return Worth(id_of(invoice) or subscription, state, None, call.currency, kept=True)


def _is_later(call: Call) -> bool:
    """Return whether the first invoice is for less than what was reserved."""
    gathered = call.gathered
    if gathered and isinstance(gathered[0], Items):
        gathered = gathered[0].call.gathered
    return LATER in gathered


def _is_more(call: Call, held: Worth | None) -> bool:
    if held is None or not held.minor or held.currency is None or not call.usd_per_unit:
        return False
    shown = micros(held.minor, held.currency, call.usd_per_unit)
    return held.currency != call.currency or shown > (call.value_micros or 0)


def previewed(call: Call, found: Mapping[str, Any], money: Money) -> Call:
    """Price a call by Stripe's preview of the invoice that would follow."""
    due, currency = found.get("amount_due"), currency_code(found.get("currency"))
    if type(due) is not int or currency is None:
        return unknown(call, "Stripe's preview of the invoice could not be looked up")
    return priced(call, max(0, at_least_credited(due, found)), currency, money)


def contingent(
    call: Call, rule: Rule, params: Mapping[str, Any], ids: tuple[str, ...], money: Money
) -> Call:
    """Price a call that costs nothing unless a person acts; record the possible amount if known."""
    if params.get("mode") == "setup":
        return call._replace(effect=Effect.FREE)
    read = bill_of(lines_at(params, rule.amount)) if rule.amount else Bill()
    del ids
    return _contingent(call, rule, read._replace(times=_times(params)), money)


def _times(params: Mapping[str, Any]) -> int:
    """Return the number of times a payment link may be paid; 1 if it has no limit."""
    times = exact_number(dig(params, ("restrictions", "completed_sessions", "limit")))
    return int(times) if times else 1


def _contingent(call: Call, rule: Rule, read: Bill, money: Money) -> Call:
    if read.odd is not None or (read.pending and not rule.asks):
        return call
    if read.pending:
        lookup = Lookup(path=_PRICE.format(read.pending[0][0]))
        return call._replace(lookup=lookup, gathered=(read,))
    if read.currency is None or money.rate(read.currency) is None:
        return call
    most = priced(call, read.minor * read.times, read.currency, money)
    return most._replace(value_micros=0, contingent_micros=most.value_micros)


def contingent_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Go on adding up the possible amount; it stays unrecorded if a price is not found."""
    state = call.gathered[0] if call.gathered else None
    if isinstance(found, Position) or not isinstance(state, Bill) or not state.pending:
        return call
    return _contingent(call, rule, with_price(state, found), money)
