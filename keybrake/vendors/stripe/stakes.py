"""Name the objects that a Stripe call was priced by, and the objects that it can make dearer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from keybrake.model.call import Call
from keybrake.vendors.stripe.readers import uses_credit
from keybrake.vendors.stripe.steps import dig, id_of, key_of
from keybrake.vendors.stripe.table import Path

# The amount of an object can depend on other objects: a charge grows when its intent is
# incremented. A call priced by an object is therefore also priced by the objects at these places.
_DEPENDS_ON: Mapping[str, tuple[Path, ...]] = {
    "payment_intent": (("latest_charge",),),
    "charge": (("payment_intent",),),
    # A customer's balance, discount and taxes are part of the amount of an invoice.
    "invoice": (
        ("customer",),
        ("subscription",),
        ("parent", "subscription_details", "subscription"),
    ),
    "invoiceitem": (("customer",), ("invoice",), ("subscription",)),
    "quote": (("customer",),),
    "subscription": (("customer",),),
    "subscription_item": (("subscription",),),
    "subscription_schedule": (("subscription",), ("customer",)),
    "credit_note": (("invoice",), ("customer",)),
}


def may_raise(
    call: Call, raises: Iterable[str], params: object, ids: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the keys of the objects that a call can make dearer, according to the table."""
    found = (_key(call, where, params, ids) for where in raises)
    return tuple(key for key in found if key is not None)


def _key(call: Call, where: str, params: object, ids: tuple[str, ...]) -> str | None:
    place, mark, side = where.partition("#")
    named = _named(place, params, ids)
    return None if named is None else key_of(call, named) + mark + side


def _named(where: str, params: object, ids: tuple[str, ...]) -> str | None:
    if where.startswith("{"):
        return ids[int(where[1:-1] or 0)]
    if where.startswith("*"):
        return where
    return id_of(dig(params, tuple(where.split("."))))


def with_stakes(
    call: Call, *, priced_by: Iterable[str] = (), may_raise: Iterable[str] = ()
) -> Call:
    """Return *call* with these keys added to ``priced_by`` and ``may_raise``."""
    return call._replace(
        priced_by=tuple(dict.fromkeys((*call.priced_by, *priced_by))),
        may_raise=tuple(dict.fromkeys((*call.may_raise, *may_raise))),
    )


def side_of(call: Call, object_id: str, side: str) -> str:
    """
        Return the key of one side of an object, for calls that depend on that side alone.

        An invoice has the side ``advance`` (whether Stripe collects it). A customer has the sides
    ``subscribed`` (whether there is a subscription), ``collected`` (the invoices and
    subscriptions that Stripe collects automatically) and ``balance`` (the credit that the next
    invoice uses up).
    """
    return f"{key_of(call, object_id)}#{side}"


def priced_by(call: Call, found: Mapping[str, Any]) -> Call:
    """Return *call* as priced by the object *found* and by the objects that it depends on."""
    places = (("id",), *_DEPENDS_ON.get(str(found.get("object")), ()))
    named = (_id_at(found, place) for place in places)
    keys = (key_of(call, one) for one in named if one is not None)
    return call._replace(priced_by=tuple(dict.fromkeys((*call.priced_by, *keys))))


def with_credit(call: Call, preview: Mapping[str, Any]) -> Call:
    """Return *call*, priced by Stripe's preview of an invoice, with a stake in the credit it uses."""
    customer = _id_at(preview, ("customer",))
    if preview.get("object") != "invoice" or customer is None or not uses_credit(preview):
        return call
    balance = side_of(call, customer, "balance")
    return with_stakes(call, priced_by=(balance,), may_raise=(balance,))


def _id_at(found: Mapping[str, Any], place: Path) -> str | None:
    """Return the id at *place*, also if the object was expanded there."""
    value = dig(found, place)
    return id_of(value.get("id") if isinstance(value, Mapping) else value)
