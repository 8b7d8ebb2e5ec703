"""Count the emails that a request sends: one for each address in to, cc and bcc."""

from __future__ import annotations

from collections.abc import Mapping

_FIELDS = frozenset({"to", "cc", "bcc"})


def recipients(email: object) -> int | None:
    """
    Return the highest number of recipients *email* can have, at least 1; None: not countable.

    Every text that Resend might read as an address counts: a field in another case (``TO``), two
    addresses in one string, a header named like a field. Resend refuses most of these, but the
    ones it accepts must be counted.
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
    """Return the number of addresses in a field: a string, or a list of strings."""
    if value is None:
        return 0
    if isinstance(value, str):
        return _in_text(value)
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        return None
    return sum(_in_text(item) for item in value)


def _in_text(text: str) -> int:
    # Every address has an @. Call str.count unbound: a subclass may override count, but JSON
    # encodes the real characters.
    return max(str.count(text, "@"), 1 if str.strip(text) else 0)
