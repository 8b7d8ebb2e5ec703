"""Price changes of a subscription by Stripe's own preview of the next invoice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Lookup, Position
from keybrake.model.shown import shown
from keybrake.vendors.stripe.bills import PREVIEW, PREVIEWED, previewed
from keybrake.vendors.stripe.objects import Found
from keybrake.vendors.stripe.stakes import with_stakes
from keybrake.vendors.stripe.steps import id_of, is_id, key_of, no_id, unknown
from keybrake.vendors.stripe.table import Rule

Params = Mapping[str, Any]
Preview = dict[str, Any]

# Parameters that no invoice depends on. Any other one makes the update subject to a preview.
_HARMLESS = frozenset(
    {
        *("metadata", "expand", "description", "cancellation_details", "invoice_settings"),
        *("default_payment_method", "default_source", "payment_settings", "days_until_due"),
        *("on_behalf_of", "transfer_data", "application_fee_percent", "pause_collection"),
        *("payment_behavior", "off_session"),
        # These decide whether later periods are charged, and no run counts later periods.
        *("cancel_at", "cancel_at_period_end", "trial_settings", "end_behavior"),
    }
)
# Parameters that an invoice depends on only if they have another value than these.
_UNLESS: Mapping[str, tuple[object, ...]] = {
    "collection_method": (None, "send_invoice"),
    "billing_thresholds": (None, ""),
}
# Default settings of a schedule that do not make a phase dearer.
_SETTINGS = ("description", "default_payment_method", "invoice_settings", "application_fee_percent")
_TIMES = ("proration_behavior", "proration_date", "billing_cycle_anchor")
_DETAILS = (*_TIMES, "items", "trial_end", "cancel_at", "cancel_at_period_end", "default_tax_rates")
_ITEM = ("price", "price_data", "plan", "quantity", "tax_rates", "discounts")
# Before 2019 a subscription had one plan and no items. These parameters set it.
_OF_ONE_PLAN = ("plan", "price", "quantity")


class Item(NamedTuple):
    """The preview of a changed subscription item, while its subscription is looked up."""

    item: Preview
    details: Preview


class Scheduled(NamedTuple):
    """The preview of an ended schedule, while the schedule is looked up for its subscription."""

    details: Preview


def preview(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price a change of a subscription, of its items, or of its schedule."""
    del rule, money
    if call.endpoint not in _ALWAYS and all(map(_is_harmless, params, params.values())):
        return _free(call)
    call = call._replace(recurring=True, value_micros=None)
    return _OF[call.endpoint](call, params, ids[0] if ids else "")


# Calls that may create an invoice whatever their parameters are.
_ALWAYS = (
    "stripe.subscriptions.resume",
    "stripe.subscriptions.cancel",
    "stripe.subscription_items.delete",
    "stripe.subscription_schedules.cancel",
)


def _is_harmless(name: str, value: object) -> bool:
    return name in _HARMLESS or (name in _UNLESS and value in _UNLESS[name])


def _free(call: Call) -> Call:
    return call._replace(effect=Effect.FREE, value_micros=0, recurring=False, may_raise=())


def _asking(call: Call, asked: Preview) -> Call:
    lookup = Lookup(path=PREVIEW, method="POST", params=asked)
    named = (asked.get("subscription"), asked.get("schedule"))
    keys = (key_of(call, name) for name in named if isinstance(name, str))
    return with_stakes(call._replace(lookup=lookup, gathered=(PREVIEWED,)), priced_by=keys)


def _picked(params: Params, names: tuple[str, ...]) -> Preview:
    return {name: params[name] for name in names if params.get(name) is not None}


def _update(call: Call, params: Params, subscription: str) -> Call:
    if any(name in params for name in _OF_ONE_PLAN):
        return unknown(call, "the change names a plan outside of items")
    asked: Preview = {
        "subscription": subscription,
        **_picked(params, ("automatic_tax", "discounts")),
    }
    if (added := params.get("add_invoice_items")) is not None:
        asked["invoice_items"] = added
    return _asking(call, {**asked, "subscription_details": _picked(params, _DETAILS)})


def _resume(call: Call, params: Params, subscription: str) -> Call:
    details = {"resume_at": "now", **_picked(params, _TIMES)}
    return _asking(call, {"subscription": subscription, "subscription_details": details})


def _cancel(call: Call, params: Params, subscription: str) -> Call:
    """Price a cancellation; it is free unless it invoices the usage so far at once."""
    if params.get("invoice_now") in (None, False, "false", ""):
        return _free(call)
    details = {"cancel_now": True}
    return _asking(call, {"subscription": subscription, "subscription_details": details})


def _add_item(call: Call, params: Params, _: str) -> Call:
    subscription = id_of(params.get("subscription"))
    if subscription is None:
        return unknown(call, "the call names no subscription")
    return _asking(call, _of_item(subscription, _picked(params, _ITEM), _picked(params, _TIMES)))


def _change_item(call: Call, params: Params, item: str) -> Call:
    asked = Item({"id": item, **_picked(params, _ITEM)}, _picked(params, _TIMES))
    lookup = Lookup(path=f"/v1/subscription_items/{item}")
    return call._replace(lookup=lookup, gathered=(asked,))


def _delete_item(call: Call, params: Params, item: str) -> Call:
    """Price a removed item; it is free unless Stripe invoices it, and pending items, at once."""
    if params.get("proration_behavior") != "always_invoice":
        return _free(call)
    asked = Item({"id": item, "deleted": True}, _picked(params, _TIMES))
    lookup = Lookup(path=f"/v1/subscription_items/{item}")
    return call._replace(lookup=lookup, gathered=(asked,))


def _of_item(subscription: str, item: Preview, details: Preview) -> Preview:
    return {"subscription": subscription, "subscription_details": {**details, "items": [item]}}


def _reschedule(call: Call, params: Params, schedule: str) -> Call:
    settings = params.get("default_settings")
    for name, value in settings.items() if isinstance(settings, Mapping) else ():
        if name not in _SETTINGS:
            words = (
                f"default_settings.{name}={shown(value)} may make the phases of the "
                f"schedule dearer, and Stripe has no preview of that; put it into phases"
            )
            return unknown(call, words)
    if params.get("phases") is None:
        return _free(call)
    details = _picked(params, ("phases", "proration_behavior", "end_behavior"))
    return _asking(call, {"schedule": schedule, "schedule_details": details})


def _end_schedule(call: Call, params: Params, schedule: str) -> Call:
    """Price the end of a schedule, which creates a final invoice unless ``invoice_now`` is off."""
    if params.get("invoice_now") in (False, "false"):
        return _free(call)
    lookup = Lookup(path=f"/v1/subscription_schedules/{schedule}")
    return call._replace(lookup=lookup, gathered=(Scheduled({"cancel_now": True}),))


def pause(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price a pause; it is free, and refused if it invoices the usage so far."""
    del rule, money
    if (bills := params.get("bill_for")) is None:
        return _free(call)
    words = (
        f"bill_for={shown(bills)} makes Stripe invoice {ids[0]}, and there is no preview of that; "
        f"pause it without bill_for"
    )
    return unknown(call, words)


_OF: Mapping[str, Callable[[Call, Params, str], Call]] = {
    "stripe.subscriptions.update": _update,
    "stripe.subscriptions.resume": _resume,
    "stripe.subscriptions.cancel": _cancel,
    "stripe.subscription_items.create": _add_item,
    "stripe.subscription_items.update": _change_item,
    "stripe.subscription_items.delete": _delete_item,
    "stripe.subscription_schedules.update": _reschedule,
    "stripe.subscription_schedules.cancel": _end_schedule,
}


def preview_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price the change by its preview, or ask for it, now that the subscription is known."""
    del rule
    if isinstance(found, Position) or not call.gathered:
        return unknown(call, "Stripe's preview of the invoice could not be looked up")
    state = call.gathered[0]
    if not isinstance(state, Item | Scheduled):
        # Prorations go onto the next invoice, so the call can raise every object it was priced by.
        return previewed(with_stakes(call, may_raise=call.priced_by), found, money)
    return _with_subscription(call, state, found)


def _with_subscription(call: Call, state: Item | Scheduled, found: Mapping[str, Any]) -> Call:
    subscription = id_of(found.get("subscription"))
    if subscription is None and isinstance(state, Scheduled) and found.get("object"):
        return _free(call)  # the schedule has not started, so there is nothing to invoice
    if subscription is None:
        return unknown(call, "the subscription could not be looked up")
    if not is_id(subscription):
        return no_id(call, "subscription", subscription)
    if isinstance(state, Scheduled):
        asked = {"subscription": subscription, "subscription_details": state.details}
        return _asking(call, asked)
    return _asking(call, _of_item(subscription, state.item, state.details))
