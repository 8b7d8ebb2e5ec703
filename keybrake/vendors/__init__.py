"""
The vendors keybrake knows: the endpoint of a call, its highest cost, and its actual cost.

One folder and one class per vendor. No I/O, no SDK, no ledger.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from keybrake.config.settings import Money
from keybrake.model.call import Call, Outcome, Position, Reply, Request
from keybrake.policy.policy import matches
from keybrake.vendors.resend.vendor import Resend
from keybrake.vendors.stripe.vendor import Stripe
from keybrake.vendors.twilio.vendor import Twilio

__all__ = ["VENDORS", "Vendor", "unknown_endpoint"]


class Vendor(Protocol):
    """The questions that the guard puts to a vendor's class. Every method is pure."""

    name: str

    def describe(self, request: Request, money: Money) -> Call:
        """Return the endpoint and the highest cost of *request*, or the lookup it needs first."""

    def complete(self, call: Call, found: Position | Mapping[str, Any], money: Money) -> Call:
        """Return *call* priced with the position or vendor object that its lookup found."""

    def outcome(self, call: Call, reply: Reply, money: Money | None = None) -> Outcome:
        """Return how the call ended and its cost, as far as the reply proves them."""

    def endpoints(self) -> frozenset[str]:
        """Return the names of all endpoints in the vendor's table."""

    def has_path(self, method: str, pattern: str) -> bool:
        """Return whether a path pattern, ``*`` for one segment, could match an endpoint."""


_FACTORIES: dict[str, Callable[[], Vendor]] = {"stripe": Stripe, "resend": Resend, "twilio": Twilio}


class _Registry(dict[str, Vendor]):
    """The vendors by name. Each is built on first use, because it reads its endpoint table."""

    def __missing__(self, name: str) -> Vendor:
        vendor = self[name] = _FACTORIES[name]()
        return vendor


VENDORS: Mapping[str, Vendor] = _Registry()


def unknown_endpoint(pattern: str) -> str | None:
    """
    Return the complaint about an endpoint pattern that can never match; None: it can match.

    A limit on a misspelt endpoint would never bind, so the policy that names it is refused.
    """
    name = (
        pattern.partition(":")[0].rpartition(" ")[2]
        if " " in pattern
        else pattern.partition(".")[0]
    )
    if name not in _FACTORIES:
        return f"{pattern!r}: the vendor {name!r} is unknown; known are {', '.join(_FACTORIES)}"
    if " " in pattern:
        return _unknown_path(name, pattern)
    known = VENDORS[name].endpoints()
    if any(matches(pattern, endpoint, "", "") for endpoint in known):
        return None
    near = difflib.get_close_matches(pattern, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{pattern!r} is no endpoint of {name}{hint}"


def _unknown_path(name: str, pattern: str) -> str | None:
    """Return the complaint about a ``METHOD vendor:/path`` pattern; a GET may have any path."""
    method, _, place = pattern.partition(" ")
    if method == "GET" or VENDORS[name].has_path(method, place.partition(":")[2]):
        return None
    return f"{pattern!r} is no endpoint of {name}"
