"""What is a call and what does it cost: one vendor, one answerer. No I/O, no SDK, no ledger."""

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
    """What the guard asks about a vendor. Every answer is pure."""

    name: str

    def describe(self, request: Request, money: Money) -> Call:
        """Say what *request* is and what it can cost at most; a lookup may be asked for first."""

    def complete(self, call: Call, found: Position | Mapping[str, Any], money: Money) -> Call:
        """Say it again, knowing the position in the ledger or the object that was looked up."""

    def outcome(self, call: Call, reply: Reply, money: Money | None = None) -> Outcome:
        """Say how the call ended and what it cost."""

    def endpoints(self) -> frozenset[str]:
        """Return the name of every endpoint there is a row for."""

    def has_path(self, method: str, pattern: str) -> bool:
        """Return whether a path pattern, ``*`` for one segment, could mean one of them."""


_FACTORIES: dict[str, Callable[[], Vendor]] = {"stripe": Stripe, "resend": Resend, "twilio": Twilio}


class _Registry(dict[str, Vendor]):
    """The vendors by name, each built when it is first asked for."""

    def __missing__(self, name: str) -> Vendor:
        vendor = self[name] = _FACTORIES[name]()
        return vendor


VENDORS: Mapping[str, Vendor] = _Registry()


def unknown_endpoint(pattern: str) -> str | None:
    """
    Return what is wrong with an endpoint pattern that can never match; None: nothing.

    A limit on a misspelt endpoint would never bind, so it is refused where it is written.
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
    """Return what is wrong with a pattern of method and path; a read may be of any path."""
    method, _, place = pattern.partition(" ")
    if method == "GET" or VENDORS[name].has_path(method, place.partition(":")[2]):
        return None
    return f"{pattern!r} is no endpoint of {name}"
