"""How many emails does a request send: every address in to, cc and bcc is one."""

from __future__ import annotations

from collections.abc import Mapping

_FIELDS = frozenset({"to", "cc", "bcc"})


def recipients(email: object) -> int | None:
    """
    Return how many recipients *email* has at most, one at least; None: it cannot be told.

    Whatever could be read as an address counts: a name in other letters, two addresses in one
    text, a header of the same name. Resend refuses most of it; what it takes is counted.
    """
    if not isinstance(email, Mapping):
        return None
    named = [*email.items()]
    if isinstance(headers := email.get("headers"), Mapping):
        named += headers.items()
    counted = [_addresses(value) for name, value in named if _is_recipients(name)]
    known = [number for number in counted if number is not None]
    return max(1, sum(known)) if len(known) == len(counted) else None


def _is_recipients(name: object) -> bool:
    return isinstance(name, str) and name.strip().lower() in _FIELDS


def _addresses(value: object) -> int | None:
    """Return how many addresses a field has: JSON knows one text, or a list of them."""
    if value is None:
        return 0
    if isinstance(value, str):
        return _in_text(value)
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        return None
    return sum(_in_text(item) for item in value)


def _in_text(text: str) -> int:
    # No address is without an @. By way of str, because a subclass may count as it likes, and
    # JSON carries what is really there.
    return max(str.count(text, "@"), 1 if str.strip(text) else 0)
