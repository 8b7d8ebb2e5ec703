"""Store coupons, discounts and tax rates, which change the amount of an invoice."""

from keybrake.testing.fake_stripe.errors import StripeFailure, missing, not_found
from keybrake.testing.fake_stripe.objects import new
from keybrake.testing.fake_stripe.outcome import Outcome
from keybrake.testing.fake_stripe.params import Params, integer, required
from keybrake.testing.fake_stripe.store import Object, Store


def create_coupon(store: Store, params: Params) -> Outcome:
    """Create a coupon with a fixed or a percentage discount."""
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
    """Create a tax rate that is added on top of the price."""
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
    """Create a discount from a coupon."""
    coupon = store.known("coupon", str(coupon_id))
    if coupon is None:
        raise not_found(kind="coupon", object_id=str(coupon_id), param="coupon", status=400)
    return store.add(
        {"id": store.new_id("di"), "object": "discount", "coupon": coupon, "customer": None}
    )


def discounts_of(store: Store, params: Params) -> list[str]:
    """Return the ids of the discounts in the request; an empty list removes all discounts."""
    rows = params.get("discounts") or []
    if not isinstance(rows, list):
        raise StripeFailure(message="Invalid array: discounts.", param="discounts")
    return [str(row.get("discount") or discount(store, row.get("coupon"))["id"]) for row in rows]


def tax_rates_of(store: Store, params: Params) -> list[Object]:
    """Return the tax rates in *default_tax_rates*; an empty list removes all tax rates."""
    names = params.get("default_tax_rates") or []
    return [store.find("tax_rate", str(name)) for name in names]


def delete_discount(kind: str, store: Store, params: Params, object_id: str) -> Outcome:
    """Remove the discount of a customer or a subscription."""
    del params
    thing = store.find(kind, object_id)
    former = thing.get("discount") or {"id": store.new_id("di")}
    thing["discount"] = None
    return Outcome({"id": former["id"], "object": "discount", "deleted": True})
