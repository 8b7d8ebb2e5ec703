"""Price changes of a subscription by Stripe's own preview of the next invoice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from keybrake.config.settings import Money
from keybrake.model.call import Call, Effect, Lookup, Position
from keybrake.model.shown import shown
from keybrake.vendors.stripe.bills import PREVIEW, PREVIEWED, previewed
from keybrake.vendors.stripe.money import exact_number
from keybrake.vendors.stripe.objects import Found
from keybrake.vendors.stripe.stakes import with_stakes
from keybrake.vendors.stripe.steps import id_of, is_id, key_of, no_id, unknown
from keybrake.vendors.stripe.table import Rule
from keybrake.vendors.stripe.terms import (
    BESIDE_DETAILS,
    GOES_ON,
    HARMLESS,
    IN_DETAILS,
    OF_CHANGE,
    OF_LINE,
    goes_on,
    picked,
    unpriced,
    unpriced_lines,
)

Params = Mapping[str, Any]
Preview = dict[str, Any]

# Parameters that an invoice depends on only if they have another value than these.
_UNLESS: Mapping[str, tuple[object, ...]] = {
    "collection_method": (None, "send_invoice"),
    "billing_thresholds": (None, ""),
}
# Default settings of a schedule that do not make a phase dearer.
_SETTINGS = ("description", "default_payment_method", "invoice_settings", "application_fee_percent")
_TIMES = ("proration_behavior", "proration_date", "billing_cycle_anchor")
_ITEM = ("price", "price_data", "plan", "quantity", "tax_rates", "discounts")
_OF_ITEM = HARMLESS.union(OF_LINE, _TIMES, ("subscription",))
_OF_SCHEDULE = ("default_settings", "end_behavior", "expand", "metadata", "phases")


class Item(NamedTuple):
    """The preview of a changed subscription item, while its subscription is looked up."""

    item: Preview
    details: Preview


class Scheduled(NamedTuple):
    """
    The preview of a schedule, while the schedule is looked up for its subscription.

    Attributes:
        asked: For a schedule that ends, the details alone.
        ends: It ends at once.
        free: Nothing counts unless the subscription is on trial.
    """

    asked: Preview
    ends: bool = False
    free: bool = False


class Trial(NamedTuple):
    """What is asked while a subscription is looked up; *free*: nothing unless it is on trial."""

    asked: Preview
    free: bool


def preview(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price a change of a subscription, of its items, or of its schedule."""
    del rule, money
    if call.endpoint not in _ALWAYS and not _telling(params):
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


def _telling(params: Params) -> list[str]:
    """Return the names of the parameters that an invoice may depend on."""
    return [name for name, value in params.items() if not _is_harmless(name, value)]


def _is_harmless(name: str, value: object) -> bool:
    if name in GOES_ON:
        return not goes_on(name, value)
    return name in HARMLESS or (name in _UNLESS and value in _UNLESS[name])


def _free(call: Call) -> Call:
    return call._replace(effect=Effect.FREE, value_micros=0, recurring=False, may_raise=())


def _asking(call: Call, asked: Preview) -> Call:
    lookup = Lookup(path=PREVIEW, method="POST", params=asked)
    named = (asked.get("subscription"), asked.get("schedule"))
    keys = (key_of(call, name) for name in named if isinstance(name, str))
    return with_stakes(call._replace(lookup=lookup, gathered=(PREVIEWED,)), priced_by=keys)


def _update(call: Call, params: Params, subscription: str) -> Call:
    why = unpriced(params, OF_CHANGE) or unpriced_lines(params)
    if why is not None:
        return unknown(call, why)
    asked: Preview = {"subscription": subscription, **picked(params, BESIDE_DETAILS)}
    for name in ("coupon", "promotion_code"):
        if (code := params.get(name)) is not None:
            # Before 2024 a subscription had one discount; an empty one takes it away.
            asked["discounts"] = [{name: code}] if code else ""
    if (added := params.get("add_invoice_items")) is not None:
        asked["invoice_items"] = added
    asked = {**asked, "subscription_details": picked(params, IN_DETAILS)}
    return _once_known(call, asked, subscription, free=set(_telling(params)) <= set(GOES_ON))


def _once_known(call: Call, asked: Preview, subscription: str, *, free: bool = False) -> Call:
    """
    Ask for the preview; if it depends on that, once it is known whether the subscription is on trial.

    Nothing is prorated in a trial, so a preview of an invoice at once would show nothing of what is
    charged by itself when the trial ends.
    """
    details = asked.get("subscription_details") or asked.get("schedule_details") or {}
    ends = details.get("trial_end")
    if not free and ends not in (None, "now"):
        return _asking(call, _with_next(asked))
    if not free and (ends == "now" or not _is_immediate(details)):
        return _asking(call, asked)
    lookup = Lookup(path=f"/v1/subscriptions/{subscription}")
    return call._replace(lookup=lookup, gathered=(Trial(asked, free),))


def _is_immediate(details: Params) -> bool:
    anchor = details.get("billing_cycle_anchor")
    if isinstance(anchor, Mapping):
        anchor = anchor.get("type")
    behavior = details.get("proration_behavior")
    return behavior == "always_invoice" or anchor not in (None, "unchanged")


def _with_next(asked: Preview) -> Preview:
    """Return what asks for the next regular invoice, with what an invoice at once would show."""
    asked = dict(asked)
    for name in ("subscription_details", "schedule_details"):
        if name in asked and _is_immediate(asked[name]):
            asked[name] = {key: asked[name][key] for key in asked[name] if key not in _TIMES}
    return asked


def _of_trial(call: Call, state: Trial, found: Mapping[str, Any]) -> Call:
    status = found.get("status")
    if found.get("object") != "subscription" or not isinstance(status, str):
        return unknown(call, "the subscription could not be looked up")
    if status != "trialing":
        return _free(call) if state.free else _asking(call, state.asked)
    if state.free and _ends_with(state.asked, found.get("trial_end")):
        return _free(call)
    return _asking(call, _with_next(state.asked))


def _ends_with(asked: Preview, trial_end: object) -> bool:
    """Return whether a subscription is to end before its trial does."""
    details = asked.get("subscription_details") or {}
    end = exact_number(details.get("cancel_at"))
    return (
        set(details) == {"cancel_at"}
        and end is not None
        and (type(trial_end) is int and end <= trial_end)
    )


def _resume(call: Call, params: Params, subscription: str) -> Call:
    details = {"resume_at": "now", **picked(params, _TIMES)}
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
    if (why := unpriced(params, _OF_ITEM)) is not None:
        return unknown(call, why)
    asked = _of_item(subscription, picked(params, _ITEM), picked(params, _TIMES))
    return _once_known(call, asked, subscription)


def _change_item(call: Call, params: Params, item: str) -> Call:
    if (why := unpriced(params, _OF_ITEM)) is not None:
        return unknown(call, why)
    asked = Item({"id": item, **picked(params, _ITEM)}, picked(params, _TIMES))
    lookup = Lookup(path=f"/v1/subscription_items/{item}")
    return call._replace(lookup=lookup, gathered=(asked,))


def _delete_item(call: Call, params: Params, item: str) -> Call:
    """Price a removed item; it is free unless Stripe invoices it, and pending items, at once."""
    if params.get("proration_behavior") != "always_invoice":
        return _free(call)
    asked = Item({"id": item, "deleted": True}, picked(params, _TIMES))
    lookup = Lookup(path=f"/v1/subscription_items/{item}")
    return call._replace(lookup=lookup, gathered=(asked,))


def _of_item(subscription: str, item: Preview, details: Preview) -> Preview:
    return {"subscription": subscription, "subscription_details": {**details, "items": [item]}}


def _reschedule(call: Call, params: Params, schedule: str) -> Call:
    if (why := unpriced(params, (*_OF_SCHEDULE, "proration_behavior"))) is not None:
        return unknown(call, why)
    settings = params.get("default_settings")
    for name, value in settings.items() if isinstance(settings, Mapping) else ():
        if name not in _SETTINGS:
            words = (
                f"default_settings.{name}={shown(value)} may make the phases of the "
                f"schedule dearer, and Stripe has no preview of that; put it into phases"
            )
            return unknown(call, words)
    free = params.get("phases") is None
    if free and not goes_on("end_behavior", params.get("end_behavior")):
        return _free(call)
    details = picked(params, ("phases", "proration_behavior", "end_behavior"))
    asked = {"schedule": schedule, "schedule_details": details}
    if not free and not _is_immediate(details):
        return _asking(call, asked)
    return _asking_schedule(call, schedule, Scheduled(asked, free=free))


def _end_schedule(call: Call, params: Params, schedule: str) -> Call:
    """Price the end of a schedule, which creates a final invoice unless ``invoice_now`` is off."""
    if params.get("invoice_now") in (False, "false"):
        return _free(call)
    return _asking_schedule(call, schedule, Scheduled({"cancel_now": True}, ends=True))


def _asking_schedule(call: Call, schedule: str, state: Scheduled) -> Call:
    lookup = Lookup(path=f"/v1/subscription_schedules/{schedule}")
    return call._replace(lookup=lookup, gathered=(state,))


def pause(call: Call, rule: Rule, params: Params, ids: tuple[str, ...], money: Money) -> Call:
    """Price a pause; it is free, and refused if it invoices the usage so far."""
    del rule, money
    if (behavior := params.get("invoicing_behavior")) not in (None, "pending_invoice_item"):
        words = (
            f"invoicing_behavior={shown(behavior)} has {ids[0]} invoiced at once; pause it with "
            f'invoicing_behavior="pending_invoice_item"'
        )
        return unknown(call, words)
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
    if isinstance(state, Trial):
        return _of_trial(call, state, found)
    if not isinstance(state, Item | Scheduled):
        # Prorations go onto the next invoice, so the call can raise every object it was priced by.
        return previewed(with_stakes(call, may_raise=call.priced_by), found, money)
    return _with_subscription(call, state, found)


def _with_subscription(call: Call, state: Item | Scheduled, found: Mapping[str, Any]) -> Call:
    subscription = id_of(found.get("subscription"))
    if subscription is None and isinstance(state, Scheduled) and found.get("object"):
        # The schedule has not started.
        return _free(call) if state.ends or state.free else _asking(call, state.asked)
    if subscription is None:
        return unknown(call, "the subscription could not be looked up")
    if not is_id(subscription):
        return no_id(call, "subscription", subscription)
    if isinstance(state, Item):
        asked = _of_item(subscription, state.item, state.details)
        # An item that goes makes no trial dearer.
        gone = state.item.get("deleted")
        return _asking(call, asked) if gone else _once_known(call, asked, subscription)
    if not state.ends:
        return _once_known(call, state.asked, subscription, free=state.free)
    return _asking(call, {"subscription": subscription, "subscription_details": state.asked})
