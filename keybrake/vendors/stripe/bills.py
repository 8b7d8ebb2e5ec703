"""Price calls by the prices that they name: subscriptions, checkout sessions, payment links."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Lookup, Position
from keybrake.vendors.stripe.lines import Bill, bill_of, lines_at, with_price
from keybrake.vendors.stripe.money import currency_code, exact_number
from keybrake.vendors.stripe.objects import Found, whole_found
from keybrake.vendors.stripe.readers import at_least_credited
from keybrake.vendors.stripe.steps import dig, id_of, is_set, priced, unknown
from keybrake.vendors.stripe.table import Rule
from keybrake.vendors.stripe.waiting import Items, waiting_found, with_waiting
from keybrake.vendors.stripe.worth import Worth, worth

_PRICE = "/v1/prices/{}"
PREVIEW = "/v1/invoices/create_preview"

# Parameters about taxes and dates. They make the first invoice differ from prices times quantities.
_NOT_IN_THE_PRICES = (
    "default_tax_rates",
    "backdate_start_date",
    "billing_schedules",
    "billing_cycle_anchor_config",
)


# Marker in ``Call.gathered``: Stripe was asked for a preview of the invoice.
PREVIEWED = "previewed"


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
    read = bill_of(lines)._replace(preview=_preview(params))
    if params.get("collection_method") == "send_invoice":
        return _contingent(call, rule._replace(asks=()), read, money)
    wanted = currency_code(dig(params, rule.currency))
    odd = read.odd or _oddity(params) or _foreign(read, wanted)
    read = read._replace(odd=odd, currency=wanted or read.currency, wanted=wanted is not None)
    read = read._replace(customer=id_of(params.get("customer")))
    return _with_pending_items(ask_on(call, read, money), read)


def _with_pending_items(call: Call, read: Bill) -> Call:
    # Stripe's preview includes pending items; prices alone do not.
    previewing = call.gathered == (PREVIEWED,)
    return call if previewing or read.customer is None else with_waiting(call, read.customer)


def _oddity(params: Mapping[str, Any]) -> str | None:
    places = (params, dig(params, ("phases", "0")), params.get("default_settings"))
    for place in places:
        if not isinstance(place, Mapping):
            continue
        if any(place.get(name) for name in _NOT_IN_THE_PRICES):
            return "taxes or dates change the amount of the first invoice"
        if is_set(dig(place, ("automatic_tax", "enabled"))):
            return "taxes are added"
    return None


def _foreign(read: Bill, wanted: str | None) -> str | None:
    mixed = wanted is not None and read.currency not in (None, wanted)
    return "the lines are in several currencies" if mixed else None


def _preview(params: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the parameters of a preview of the first invoice; None: Stripe offers none."""
    if params.get("customer") is None:
        return None
    asked = {name: params[name] for name in _PREVIEWED if params.get(name) is not None}
    if (phases := params.get("phases")) is not None:
        return {**asked, "schedule_details": {"phases": phases}}
    details = {name: params[name] for name in _DETAILS if params.get(name) is not None}
    if (added := params.get("add_invoice_items")) is not None:
        asked["invoice_items"] = added
    return {**asked, "subscription_details": details}


_PREVIEWED = ("customer", "currency", "automatic_tax", "discounts")
_DETAILS = ("items", "default_tax_rates", "billing_cycle_anchor", "proration_behavior")


def ask_on(call: Call, read: Bill, money: Money) -> Call:
    """Price a bill, or return the next look-up that it needs."""
    if read.odd is not None:
        if read.preview is None:
            return unknown(call, f"its prices do not give the amount: {read.odd}")
        lookup = Lookup(path=PREVIEW, method="POST", params=read.preview)
        return call._replace(value_micros=None, lookup=lookup, gathered=(PREVIEWED,))
    if read.pending:
        # A price shows its amounts in other currencies only if they are expanded.
        options = {"expand": ["currency_options"]} if read.wanted else {}
        lookup = Lookup(path=_PRICE.format(read.pending[0][0]), params=options)
        return call._replace(value_micros=None, lookup=lookup, gathered=(read,))
    if read.currency is None and not read.minor:
        return call._replace(value_micros=0)
    minor = max(read.minor, Fraction(read.least))
    return priced(call._replace(gathered=()), minor, read.currency, money)


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
    call = whole_found(call, rule, found, money)
    if isinstance(found, Position) or dig(found, ("computed", "recurring")) is None:
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
    if state == "open":
        # The first invoice of a trial is zero. The counted amount is charged when the trial ends.
        return Worth(subscription, state, None, call.currency, kept=True)
    shown = worth(invoice) if isinstance(invoice, Mapping) else None
    if shown is not None and shown.minor is not None and shown.currency is not None:
        return shown
    return Worth(id_of(invoice) or subscription, state, None, call.currency, kept=True)


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
