"""Which parameters of a subscription are priced or shown to Stripe's preview; all others are refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from keybrake.model.shown import shown
from keybrake.vendors.stripe.money import exact_number
from keybrake.vendors.stripe.steps import dig, is_set

Params = Mapping[str, Any]
Preview = dict[str, Any]

# Parameters on which the amount of an invoice does not depend.
HARMLESS = frozenset(
    {
        *("metadata", "expand", "description", "cancellation_details", "invoice_settings"),
        *("default_payment_method", "default_source", "payment_settings", "days_until_due"),
        *("on_behalf_of", "transfer_data", "application_fee_percent"),
        *("payment_behavior", "off_session"),
    }
)
# Parameters that a new subscription, or the first phase of a schedule, is priced by.
PRICED = frozenset(
    {
        *("items", "add_invoice_items", "currency", "customer", "customer_account"),
        # A subscription in a trial, or that waits for its anchor, counts its first full period.
        *("trial", "trial_end", "trial_period_days", "trial_from_plan"),
        *("billing_cycle_anchor", "billing_cycle_anchor_config", "proration_behavior", "prorate"),
    }
)
# Parameters of a new subscription that change its first invoice, so Stripe is asked for a preview.
SHOWN = frozenset({"automatic_tax", "default_tax_rates", "backdate_start_date"}) | {
    "billing_schedules"
}
# Parameters that lower the first invoice of a new subscription, or concern later periods only.
NOT_DEARER = frozenset(
    {
        *("billing_mode", "billing_thresholds", "collection_method", "discounts", "coupon"),
        *("promotion_code", "pending_invoice_item_interval", "trial_settings"),
        *("cancel_at", "cancel_at_period_end"),
    }
)
OF_NEW = HARMLESS | PRICED | SHOWN | NOT_DEARER
OF_PHASE = OF_NEW | {"start_date", "end_date", "duration", "iterations"}
OF_SCHEDULE = frozenset(
    {
        *("billing_mode", "customer", "customer_account", "default_settings", "end_behavior"),
        *("expand", "from_subscription", "metadata", "phases", "start_date"),
    }
)
OF_LINE = frozenset(
    {
        *("price", "price_data", "plan", "quantity", "tax_rates", "discounts", "discountable"),
        *("metadata", "period", "billing_thresholds", "id", "deleted", "clear_usage"),
    }
)
# Parameters of a change that Stripe's preview has, too.
IN_DETAILS = (
    *("proration_behavior", "proration_date", "billing_cycle_anchor", "items", "trial_end"),
    *("cancel_at", "cancel_at_period_end", "default_tax_rates", "billing_schedules"),
)
BESIDE_DETAILS = ("automatic_tax", "discounts", "on_behalf_of")
# A change of these counts the present amount of the subscription's next invoice.
AS_IT_IS = ("collection_method", "billing_thresholds", "pending_invoice_item_interval")
# With these a subscription that was to end, or to charge nothing, with its trial may go on. Later
# periods are outside of every run.
GOES_ON = ("cancel_at", "cancel_at_period_end", "pause_collection", "trial_settings")
OF_CHANGE = HARMLESS.union(
    IN_DETAILS,
    BESIDE_DETAILS,
    AS_IT_IS,
    GOES_ON,
    ("add_invoice_items", "coupon", "promotion_code", "trial_from_plan"),
)

# With these, the first full period of a new subscription is charged after its first invoice.
_TRIAL = ("trial_end", "trial_period_days", "trial_from_plan")
_ANCHOR = ("billing_cycle_anchor", "billing_cycle_anchor_config")

_REMEDIES = {
    "tax_percent": "give default_tax_rates instead",
    "current_trial": "leave it out, and give trial_end or trial_period_days instead",
    "pause_schedules": "pause the subscription when it is time to",
    "prorate": "give proration_behavior instead",
    **dict.fromkeys(("plan", "price", "quantity"), "put it into items"),
}


def unpriced(params: Params, known: Iterable[str], where: str = "") -> str | None:
    """Return why an invoice may come to more than anything tells; None: every parameter is known."""
    names = frozenset(known)
    for name, value in params.items():
        if name not in names and value is not None:
            remedy = _REMEDIES.get(str(name), "leave it out")
            return f"{where}{name}={shown(value)} may raise the invoice unseen; {remedy}"
    return None


def unpriced_lines(params: Params, where: str = "") -> str | None:
    """Return the same about the lines in a request."""
    for name in ("items", "add_invoice_items"):
        for nr, line in enumerate(rows_of(params.get(name))):
            if isinstance(line, Mapping) and not any("[" in str(key) for key in line):
                why = unpriced(line, OF_LINE, f"{where}{name}.{nr}.")
                if why is not None:
                    return why
    return None


def rows_of(value: object) -> list[Any]:
    """Return what a parameter lists: as a list, or by its numbers."""
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def unpriced_new(params: Params) -> str | None:
    """Return why the first invoice of a new subscription or schedule may come to more than it tells."""
    if params.get("phases") is None:
        return unpriced(params, OF_NEW) or unpriced_lines(params)
    why = unpriced(params, OF_SCHEDULE)
    for nr, phase in enumerate(rows_of(params["phases"])):
        if why is None and isinstance(phase, Mapping):
            where = f"phases.{nr}."
            why = unpriced(phase, OF_PHASE, where) or unpriced_lines(phase, where)
    return why


def oddity(params: Params) -> str | None:
    """Return why the first invoice is not what its prices come to; None: it is."""
    places = {
        "": params,
        "phases.0.": dig(params, ("phases", "0")),
        "default_settings.": params.get("default_settings"),
    }
    for where, place in places.items():
        if not isinstance(place, Mapping):
            continue
        for name in ("default_tax_rates", "backdate_start_date", "billing_schedules"):
            if place.get(name):
                return f"{where}{name}={shown(place[name])} changes it"
        if is_set(dig(place, ("automatic_tax", "enabled"))):
            return f"{where}automatic_tax={shown(place['automatic_tax'])} is added"
    if params.get("start_date") not in (None, "", "now"):
        return f"start_date={shown(params['start_date'])} may lie in the past"
    return None


def is_anchored(params: Params) -> bool:
    """Return whether the first invoice of a new subscription is for a part of a period, or nothing."""
    return _is_any_set(params, _ANCHOR)


def _is_any_set(params: Params, names: tuple[str, ...]) -> bool:
    return any(params.get(name) not in (None, "", False, "false") for name in names)


def preview_of_new(params: Params) -> Preview | None:
    """Return what shows the first invoice of a subscription; None: there is no preview."""
    if params.get("customer") is None and params.get("customer_account") is None:
        return None
    settings = params.get("default_settings")
    given = {**(settings if isinstance(settings, Mapping) else {}), **params}
    asked = picked(given, ("customer", "customer_account", "currency", *BESIDE_DETAILS))
    if (issuer := dig(given, ("invoice_settings", "issuer"))) is not None:
        asked["issuer"] = issuer
    if params.get("phases") is not None:
        details = picked(params, ("billing_mode", "end_behavior"))
        return {**asked, "schedule_details": {**details, "phases": _started(params)}}
    if _is_any_set(params, (*_TRIAL, *_ANCHOR)):
        # The first invoice, for less, would use up a discount that is meant for one invoice.
        asked.pop("discounts", None)
    # Without the anchor and its prorations, the preview shows the first full period.
    details = picked(params, ("items", "default_tax_rates", "billing_mode", "billing_schedules"))
    if params.get("backdate_start_date") is not None:
        details["start_date"] = params["backdate_start_date"]
    if params.get("add_invoice_items") is not None:
        asked["invoice_items"] = params["add_invoice_items"]
    return {**asked, "subscription_details": details}


def _started(params: Params) -> list[Any]:
    """Return the phases as a preview wants them: the first one says when it starts."""
    phases = rows_of(params["phases"])
    if phases and isinstance(phases[0], Mapping):
        phases[0] = {"start_date": params.get("start_date") or "now", **phases[0]}
    return phases


def goes_on(name: str, value: object) -> bool:
    """Return whether one of ``GOES_ON``, or ``end_behavior``, lets a subscription go on after a trial."""
    match name:
        case "cancel_at_period_end":
            return value is not None and not is_set(value)
        case "cancel_at":
            return value == "" or exact_number(value) is not None
        case "pause_collection":
            return value == "" or dig(value, ("resumes_at",)) is not None
        case "trial_settings":
            behavior = dig(value, ("end_behavior", "missing_payment_method"))
            return behavior not in (None, "cancel", "pause")
        case _:
            return value not in (None, "cancel")


def picked(params: Params, names: Iterable[str]) -> Preview:
    """Return those of the parameters that are given."""
    return {name: params[name] for name in names if params.get(name) is not None}
