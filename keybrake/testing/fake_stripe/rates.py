"""Keep what makes an invoice cheaper or dearer: coupons, discounts, tax rates."""

from keybrake.testing.fake_stripe.errors import StripeFailure, missing, not_found
from keybrake.testing.fake_stripe.objects import new
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import Params, integer, required
from keybrake.testing.fake_stripe.store import Object, Store


def create_coupon(store: Store, params: Params) -> Outcome:
    """Make a coupon over an amount or a percentage."""
    off, percent = integer(params, "amount_off", least=1), params.get("percent_off")
    if off is None and percent is None:
        raise missing(param="percent_off")
    coupon = new(
        "coupon",
        str(params.get("id") or store.new_id("", 8)[1:]),
        params,
        amount_off=off,
        currency=params.get("currency"),
        duration=str(params.get("duration", "once")),
        percent_off=None if percent is None else float(percent),
        valid=True,
    )
    return Outcome(store.add(coupon))


def create_tax_rate(store: Store, params: Params) -> Outcome:
    """Make a tax rate that comes on top."""
    rate = new(
        "tax_rate",
        store.new_id("txr"),
        params,
        active=True,
        display_name=required(params, "display_name"),
        inclusive=False,
        percentage=float(required(params, "percentage")),
    )
    return Outcome(store.add(rate))


def discount(store: Store, coupon_id: object) -> Object:
    """Give a discount by a coupon."""
    coupon = store.known("coupon", str(coupon_id))
    if coupon is None:
        raise not_found(kind="coupon", object_id=str(coupon_id), param="coupon", status=400)
    return store.add(
        {"id": store.new_id("di"), "object": "discount", "coupon": coupon, "customer": None}
    )


def discounts_of(store: Store, params: Params) -> list[str]:
    """Return the ids of the discounts that *discounts* asks for; empty takes them off."""
    rows = params.get("discounts") or []
    if not isinstance(rows, list):
        raise StripeFailure(message="Invalid array: discounts.", param="discounts")
    return [str(row.get("discount") or discount(store, row.get("coupon"))["id"]) for row in rows]


def tax_rates_of(store: Store, params: Params) -> list[Object]:
    """Return the tax rates that *default_tax_rates* names; empty takes them off."""
    names = params.get("default_tax_rates") or []
    return [store.find("tax_rate", str(name)) for name in names]


def delete_discount(kind: str, store: Store, params: Params, object_id: str) -> Outcome:
    """Take the discount off a customer or a subscription."""
    del params
    thing = store.find(kind, object_id)
    former = thing.get("discount") or {"id": store.new_id("di")}
    thing["discount"] = None
    return Outcome({"id": former["id"], "object": "discount", "deleted": True})
