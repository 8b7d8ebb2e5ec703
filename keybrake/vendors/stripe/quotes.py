"""Accepted quotes: what each begins is collected from its customer, with what waits for them."""

from __future__ import annotations

from keybrake.config.settings import Money
from keybrake.model.call import Call, Position
from keybrake.vendors.stripe import bills
from keybrake.vendors.stripe.objects import Found
from keybrake.vendors.stripe.stakes import side_of, with_stakes
from keybrake.vendors.stripe.steps import dig, id_of
from keybrake.vendors.stripe.table import Rule

# The customer of these sides is named by the quote alone.
_RAISED = ("subscribed", "collected", "balance")


def accept_found(call: Call, rule: Rule, found: Found, money: Money) -> Call:
    """Price an accepted quote; it raises what its customer has collected, and uses up credit."""
    if not isinstance(found, Position) and found.get("object") == "quote":
        customer = id_of(found.get("customer")) or id_of(dig(found, ("customer", "id")))
        if customer is not None:
            sides = (side_of(call, customer, side) for side in _RAISED)
            call = with_stakes(call, may_raise=sides)
    return bills.accept_found(call, rule, found, money)
